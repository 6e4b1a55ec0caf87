"""Real resources under the barrier: shares that are clean for each test, reset, verified and released."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_core import isolation_barrier, register_resource
from isolation_core.errors import ConfigurationError
from isolation_core.services import Folder, MockContext, Resource, namespace_name, unregister_resource


class Counter(Resource[dict[str, Any]]):
    """A resource that tells what happens to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.stuck = False

    def acquire(self, namespace: str) -> dict[str, Any]:
        self.events.append("acquire")
        return {"namespace": namespace, "rows": []}

    def fingerprint(self, share: dict[str, Any]) -> object:
        return list(share["rows"])

    def reset(self, share: dict[str, Any]) -> None:
        self.events.append("reset")
        if not self.stuck:
            share["rows"].clear()

    def release(self, share: dict[str, Any]) -> None:
        self.events.append("release")


@pytest.fixture
def counter() -> Iterator[Counter]:
    """A registered resource."""
    made = Counter()
    register_resource("counter", made)
    yield made
    unregister_resource("counter")


def test_a_share_goes_from_barrier_to_barrier(counter: Counter) -> None:
    """One share serves one barrier after another, clean each time; two at once get two."""
    with MockContext() as context:
        first = context.resource("counter")
        first["rows"].append(1)
        assert context.resource("counter") is first
        with MockContext() as other:
            assert other.resource("counter") is not first
    with isolation_barrier("a test") as barrier:
        assert barrier.services.resource("counter") is first and first["rows"] == []
    unregister_resource("counter")
    assert counter.events == ["acquire", "acquire", "reset", "reset", "reset", "release", "release"]


def test_a_share_that_cannot_be_reset_is_reported_and_replaced(counter: Counter) -> None:
    """What a reset leaves is a finding of the barrier; the next one gets a new share."""
    counter.stuck = True
    with isolation_barrier("a test", mode="report") as barrier:
        barrier.services.resource("counter")["rows"].append(1)
    assert [leak.code for leak in barrier.leaks] == ["SVC001"]
    assert "it is [1] after the reset, and was []" in str(barrier.leaks[0])
    with MockContext() as context:
        assert context.resource("counter")["rows"] == []
    assert counter.events.count("acquire") == 2


def test_folders_are_as_their_template(tmp_path: Path) -> None:
    """Files that a test makes, changes or removes are as in the template for the next one."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data").write_text("original")
    (tmp_path / "link").symlink_to("sub")
    register_resource("uploads", Folder(tmp_path))
    try:
        with MockContext() as context:
            folder = context.resource("uploads")
            (folder / "new").write_text("x")
            (folder / "sub" / "data").write_text("changed")
            (folder / "link").unlink()
        with MockContext() as context:
            assert context.resource("uploads") == folder
            assert sorted(each.name for each in folder.iterdir()) == ["link", "sub"]
            assert (folder / "link" / "data").read_text() == "original"
    finally:
        unregister_resource("uploads")
    assert not folder.exists() and (tmp_path / "sub" / "data").read_text() == "original"


def test_names_are_the_same_in_every_run() -> None:
    """A name follows from owner and worker, tells both, and fits where names are short."""
    name = namespace_name("tests/test_a.py::test_b[x]", worker="gw1")
    assert name == namespace_name("tests/test_a.py::test_b[x]", worker="gw1") == f"test_a_py_test_b_x_gw1_{name[-10:]}"
    assert name != namespace_name("tests/test_a.py::test_b[x]", worker="gw0")
    assert len(namespace_name("x" * 200, limit=40)) == 40


def test_mistakes_are_named() -> None:
    """An unregistered resource, and an invalid one, are errors that say what to do."""
    with MockContext() as context, pytest.raises(ConfigurationError, match=r"register_resource\('uplods'"):
        context.resource("uplods")
    with pytest.raises(ConfigurationError, match="derive from"):
        register_resource("x", object())  # type: ignore[arg-type]
