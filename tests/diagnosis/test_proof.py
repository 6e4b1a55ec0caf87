"""Proof by experiment: the verdicts on a model of a suite whose pollution is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from isolation_core.diagnosis import Prover
from isolation_core.findings import Change, Leak


def change(owner: str, path: str) -> Change:
    """Return what *owner* left."""
    return Change("module", path, before="1", after="2", code="MOD001", owner=owner)


class Suite:
    """A suite whose tests leave paths behind, and fail if they find paths that break them."""

    def __init__(self, leaves: Mapping[str, Sequence[str]], breaks: Mapping[str, Sequence[str]]) -> None:
        self.leaves = leaves
        self.breaks = breaks
        self.sessions = 0

    @property
    def findings(self) -> list[Change | Leak]:
        """What the tests leave, in the order of the suite."""
        return [change(owner, path) for owner, paths in self.leaves.items() for path in paths]

    def __call__(self, tests: Sequence[str], state: Iterable[Change | Leak] | None) -> Mapping[str, bool]:
        self.sessions += 1
        healed = {each.path for each in state or ()}
        found: set[str] = set()
        passed = {}
        for test in tests:
            needed = self.breaks.get(test, ())
            passed[test] = not needed or not set(needed) <= found
            found |= set(self.leaves.get(test, ())) - healed
        return passed

    def whole(self, _: Sequence[str], state: Iterable[Change | Leak] | None) -> Mapping[str, bool]:
        """Run all tests, the victims last."""
        return self([*self.leaves, *self.breaks], state)


def test_the_polluter_and_its_state_are_proved() -> None:
    """Of two things that a test left, the one that breaks the victim is named."""
    suite = Suite({"a": ["x"], "b": ["y", "z"], "c": ["w"]}, {"v": ["z"]})
    verdict = Prover(suite, suite.findings).judge("v")
    assert (verdict.word, verdict.polluter) == ("proved", "b")
    assert [each.path for each in verdict.state] == ["z"]
    assert verdict.sessions == suite.sessions


def test_a_test_that_fails_alone_blames_no_other() -> None:
    """A test that is broken by itself gets no polluter."""

    def experiment(tests: Sequence[str], _state: object) -> Mapping[str, bool]:
        return dict.fromkeys(tests, False)

    assert Prover(experiment, [change("a", "x")]).judge("v").word == "alone"


def test_what_takes_two_polluters_is_not_blamed_on_one() -> None:
    """Where no single test breaks the victim, none is named."""
    suite = Suite({"a": ["x"], "b": ["y"], "c": ["z"]}, {"v": ["x", "y"]})
    verdict = Prover(suite, suite.findings).judge("v")
    assert (verdict.word, verdict.polluter) == ("not reproduced", None)


def test_state_that_nobody_watches_is_likely() -> None:
    """A polluter whose watched state is not the reason is named without a state."""
    suite = Suite({"a": ["file"], "b": ["y"]}, {"v": ["file"]})
    verdict = Prover(suite, [change("a", "x"), change("b", "y")]).judge("v")
    assert (verdict.word, verdict.polluter, verdict.state) == ("likely", "a", ())


def test_two_states_of_one_polluter_are_put_back_together() -> None:
    """Where it takes everything that a test left, all of it is named."""
    suite = Suite({"a": ["x", "y"]}, {"v": ["x"], "w": ["x", "y"]})

    class Either(Suite):
        def __call__(self, tests: Sequence[str], state: Iterable[Change | Leak] | None) -> Mapping[str, bool]:
            healed = {each.path for each in state or ()}
            return {test: test != "v" or "a" not in tests or healed == {"x", "y"} for test in tests}

    verdict = Prover(Either(suite.leaves, suite.breaks), suite.findings).judge("v")
    assert {each.path for each in verdict.state} == {"x", "y"}


def test_whole_runs_answer_for_all_victims_at_once() -> None:
    """One run of the suite for each state, and one of each pair to confirm the polluter."""
    suite = Suite({f"p{n}": [f"x{n}"] for n in range(5)}, {f"v{n}": [f"x{n}"] for n in range(5)})
    verdicts = list(Prover(suite, suite.findings).judge_all(suite.breaks, suite.whole))
    assert {(each.test, each.word, each.polluter) for each in verdicts} == {
        (f"v{n}", "proved", f"p{n}") for n in range(5)
    }
    assert suite.sessions == 10


@given(st.integers(1, 40), st.data())
def test_any_single_polluter_is_found_in_few_sessions(count: int, data: st.DataObject) -> None:
    """Halving finds the one of many tests."""
    guilty = data.draw(st.integers(0, count - 1))
    suite = Suite({f"p{n}": [f"x{n}"] for n in range(count)}, {"v": [f"x{guilty}"]})
    verdict = Prover(suite, suite.findings).judge("v")
    assert (verdict.word, verdict.polluter) == ("proved", f"p{guilty}")
    assert suite.sessions <= 5 + 2 * count.bit_length()
