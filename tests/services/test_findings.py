"""Resources that doubles still had open at the end, and faults that never fired, are findings."""

from __future__ import annotations

from typing import Any

import pytest

from isolation_core import Barrier, get_contamination_summary, integration_scenario, isolation_barrier
from isolation_core.errors import ContaminationError, TeardownErrors
from isolation_core.journal import get_journal
from isolation_core.services import (
    ClientObject,
    MockContext,
    ServiceDouble,
    cross_service_mock_orchestration,
    fail,
    fault_matrix,
    operation,
    register_service,
    unregister_service,
)

pytestmark = pytest.mark.anyio


class Lid(ClientObject):
    """Open until its double ends it."""

    label = "lid"

    def problems(self) -> tuple[str, ...]:
        return ("a lid is open",)


class Chest(ServiceDouble):
    """Hands out lids."""

    service = "chest"

    @operation
    async def lift(self) -> Lid:
        return Lid(self)


class Stuck(Chest):
    """Cannot be closed."""

    service = "stuck"

    def close_now(self) -> None:
        raise OSError("stuck")


class Slow(Chest):
    """Is closed by something that awaits."""

    service = "slow"

    async def close(self) -> None:
        await super().close()


@pytest.fixture(autouse=True)
def _services() -> Any:
    classes = (Chest, Stuck, Slow)
    for each in classes:
        register_service(each.service, each)
    yield
    for each in classes:
        unregister_service(each.service)


def told(barrier: Barrier) -> list[tuple[str, str, str, bool, str | None]]:
    """Return what matters of the leaks."""
    return [(leak.code, leak.path, leak.severity, leak.ended, leak.reason) for leak in barrier.leaks]


@pytest.mark.parametrize("service", ["chest", "slow"])
async def test_what_a_double_had_open_is_a_leak_of_its_barrier(service: str) -> None:
    """An open resource is a leak with the code SVC001, is ended and counted; a tidy double reports nothing."""
    async with isolation_barrier(owner="test_open") as barrier:
        await barrier.service(service).lift()
    assert told(barrier) == [("SVC001", f"{service}: a lid is open", "leak", True, None)]
    assert barrier.leaks[0].owner == "test_open"
    assert not barrier.clean
    summary = get_contamination_summary(get_journal())
    assert summary["leaks_by_kind"]["service"] >= 1
    assert any(leak["code"] == "SVC001" for leak in summary["leakers"]["test_open"])

    async with isolation_barrier() as tidy:
        (await tidy.service(service).lift()).end()
    assert tidy.clean


def test_what_could_not_be_closed_is_still_alive() -> None:
    """`ended` is the outcome of closing, and an error of closing is not lost."""
    with pytest.raises(TeardownErrors), isolation_barrier() as barrier:
        Lid(barrier.service("stuck"))
    assert told(barrier) == [("SVC001", "stuck: a lid is open", "leak", False, None)]


def test_a_double_that_cannot_say_what_is_open_is_closed_all_the_same() -> None:
    """An error of `problems` is an error of the teardown, and keeps nothing open."""

    class Dumb(Chest):
        service = "dumb"

        def problems(self) -> tuple[str, ...]:
            raise LookupError("no idea")

    with pytest.raises(TeardownErrors) as caught, isolation_barrier() as barrier:
        Dumb(barrier.services).is_connected = True
    assert caught.value.subgroup(LookupError) is not None
    assert not barrier.services["dumb"].is_connected


async def test_strict_mode_makes_it_an_error() -> None:
    """In mode strict what is left open raises; mode off says nothing; ignored by kind it says nothing either."""
    with pytest.raises(ContaminationError, match="chest: a lid is open"):
        async with isolation_barrier(mode="strict") as barrier:
            await barrier.service("chest").lift()
    async with isolation_barrier(mode="off") as off:
        await off.service("chest").lift()
    async with isolation_barrier(mode="strict", ignore=["service:chest: a lid*"]) as ignoring:
        await ignoring.service("chest").lift()
    assert off.leaks == ignoring.leaks == ()


async def test_scenarios_and_orchestrations_tell_the_barrier_around_them() -> None:
    """A finding belongs to the barrier, names the scenario, and is reported once for several doubles."""
    async with isolation_barrier(owner="test_shop") as barrier:
        async with integration_scenario("shop", ["chest"]) as (_, mocks):
            await mocks["chest"].lift()
        async with cross_service_mock_orchestration(["slow"], barrier.services) as services:
            await services["slow"].lift()
    assert told(barrier) == [
        ("SVC001", "chest: a lid is open", "leak", True, "in scenario 'shop'"),
        ("SVC001", "slow: a lid is open", "leak", True, None),
    ]
    assert {leak.owner for leak in barrier.leaks} == {"test_shop"}


async def test_without_a_barrier_the_journal_is_told() -> None:
    """A context without a barrier reports to the journal, once."""
    count = get_journal().finding_count
    # The runner's barrier is not meant: outside of any barrier there is the journal only.
    context = MockContext("alone", report=get_journal().record_finding)
    async with context:
        await Chest(context).lift()
    (event,) = get_journal().findings_since(count)
    assert (event.fields["code"], event.fields["owner"]) == ("SVC001", "alone")


def test_a_context_that_ends_after_its_barrier_tells_the_journal() -> None:
    """Nothing is lost when a context outlives the barrier it was made in."""
    with isolation_barrier() as barrier:
        context = MockContext("late")
        Lid(Chest(context))
    count = get_journal().finding_count
    context.close()
    assert barrier.leaks == ()
    assert [event.fields["owner"] for event in get_journal().findings_since(count)] == ["late"]


async def test_a_fault_that_never_fired_is_a_note() -> None:
    """SVC002 is a note and not an error, even in mode strict; optional rules are not reported."""
    async with isolation_barrier(mode="strict") as barrier:
        chest = barrier.service("chest")
        barrier.services.faults.add("chest.lift", fail(), nth=3)
        barrier.services.faults.add("chest.lift", fail(), nth=4, optional=True)
        (await chest.lift()).end()
    assert told(barrier) == [
        (
            "SVC002",
            "faults: fail('unavailable') on chest.lift (call 3) never fired; 1 calls matched",
            "note",
            False,
            None,
        )
    ]
    assert barrier.clean


async def test_a_workload_that_was_made_to_fail_may_leave_things_open() -> None:
    """Runs of a fault matrix do not produce findings."""

    async def workload(context: MockContext) -> None:
        await Chest(context).lift()

    async with isolation_barrier(mode="strict") as barrier:
        await fault_matrix(workload, lambda _context: None)
    assert barrier.leaks == ()
