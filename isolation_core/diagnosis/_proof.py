"""Proof by experiment: which test breaks another one, and through which piece of state.

A suspicion becomes a verdict by two runs of a pair of tests. Without isolation
the second test fails after the first one. With nothing but the suspected state
put back in between it passes. So that state, left by that test, is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from attrs import field, frozen

from isolation_core.diagnosis._candidates import FailureFacts, rank
from isolation_core.findings import Change, Leak

__all__ = ["Experiment", "Finding", "Prover", "Verdict"]

Finding = Change | Leak
Experiment = Callable[[Sequence[str], Iterable[Finding] | None], Mapping[str, bool]]
"""Runs tests in the given order and returns which of them passed. The second argument says what is put
back after each test: the given findings and nothing else; None: nothing, isolation is off."""

_TRIED_FIRST: Final = 2
_SINGLE_STATES: Final = 8


@frozen
class Verdict:
    """What experiments say of one test that fails in company.

    Attributes:
        test: the test that fails.
        word: ``proved``: fails after *polluter*, and passes if only *state* is put back in between.
            ``likely``: fails after *polluter*, and no single watched state of it is the reason.
            ``alone``: fails alone as well. ``not reproduced``: passes after all tests that left something.
        polluter: the test that breaks it.
        state: the findings that are put back in the experiment that proves it.
        sessions: how many experiments it took.
    """

    test: str
    word: Literal["proved", "likely", "alone", "not reproduced"]
    polluter: str | None = field(default=None, kw_only=True)
    state: tuple[Finding, ...] = field(default=(), kw_only=True)
    sessions: int = field(default=0, kw_only=True)


class Prover:
    """Finds polluters by experiment.

    Args:
        experiment: runs tests.
        findings: what each test left behind in a run without restoring, in the order it happened.
    """

    def __init__(self, experiment: Experiment, findings: Iterable[Finding]) -> None:
        self._experiment = experiment
        self._findings = [each for each in findings if each.severity != "note" or each.kind == "cache"]
        self._sessions = 0

    def judge_all(self, tests: Iterable[str], whole: Experiment | None = None) -> Iterator[Verdict]:
        """Yield the verdicts on *tests*, which failed in the run that gave the findings.

        Args:
            tests: the tests.
            whole: runs the whole suite, in its own order and whatever tests it is given. If the suite is
                short, that is the quickest way: one run for each state answers for all tests at once.
        """
        pending = dict.fromkeys(tests)
        if whole is not None:
            for verdict in self._by_whole_runs(list(pending), whole):
                del pending[verdict.test]
                yield verdict
        for test in pending:
            yield self.judge(test)

    def _by_whole_runs(self, pending: list[str], whole: Experiment) -> Iterator[Verdict]:
        distinct = {(each.kind, each.path): each for each in self._findings}
        for state in distinct.values():
            if not pending:
                return
            self._sessions = 1
            passed = whole(pending, [state])
            for test in [each for each in pending if passed.get(each)]:
                same = [each for each in self._before(test) if (each.kind, each.path) == (state.kind, state.path)]
                # The whole run says which state it is; the pair says that this test left it.
                if same and not self._passes([same[-1].owner, test]):
                    pending.remove(test)
                    yield self._verdict(test, "proved", same[-1].owner, (state,))

    def judge(self, test: str, facts: FailureFacts | None = None) -> Verdict:
        """Return the verdict on *test*, which failed in the run that gave the findings.

        Args:
            test: the test.
            facts: what is known of the failure, which says where to look first.
        """
        self._sessions = 0
        before = self._before(test)
        if not self._passes([test]):
            return self._verdict(test, "alone")
        polluter = self._polluter_of(test, self._owners(before, facts or FailureFacts(test)))
        if polluter is None:
            return self._verdict(test, "not reproduced")
        theirs = [each for each in before if each.owner == polluter]
        for state in self._states(theirs, facts or FailureFacts(test)):
            if self._passes([polluter, test], state):
                return self._verdict(test, "proved", polluter, state)
        return self._verdict(test, "likely", polluter)

    def _verdict(
        self,
        test: str,
        word: Literal["proved", "likely", "alone", "not reproduced"],
        polluter: str | None = None,
        state: tuple[Finding, ...] = (),
    ) -> Verdict:
        return Verdict(test, word, polluter=polluter, state=state, sessions=self._sessions)

    def _before(self, test: str) -> list[Finding]:
        """Return what other tests left before *test* ran, as far as the order is known."""
        mine = next((at for at, each in enumerate(self._findings) if each.owner == test), len(self._findings))
        return [each for each in self._findings[:mine] if each.owner != test]

    @staticmethod
    def _owners(findings: Sequence[Finding], facts: FailureFacts) -> list[str]:
        """Return who left *findings*, the most suspicious one first."""
        return list(dict.fromkeys(each.owner for each in rank(findings, facts)))

    def _polluter_of(self, test: str, owners: list[str]) -> str | None:
        for owner in owners[:_TRIED_FIRST]:
            if not self._passes([owner, test]):
                return owner
        rest = owners[_TRIED_FIRST:]
        if not rest or self._passes([*rest, test]):
            return None
        # Halve until one is left; where neither half does it alone, it takes several together.
        while len(rest) > 1:
            half = len(rest) // 2
            for part in (rest[:half], rest[half:]):
                if not self._passes([*part, test]):
                    rest = part
                    break
            else:
                return None
        return rest[0]

    @staticmethod
    def _states(findings: list[Finding], facts: FailureFacts) -> list[tuple[Finding, ...]]:
        """Return what to put back, one experiment each: the most suspicious state alone first, at last all of it."""
        by_path = {(each.kind, each.path): each for each in rank(findings, facts)}
        distinct = tuple(by_path.values())
        singles = [(each,) for each in distinct[:_SINGLE_STATES]]
        return [*singles, distinct] if len(distinct) > 1 else list(singles)

    def _passes(self, tests: Sequence[str], state: Iterable[Finding] | None = None) -> bool:
        self._sessions += 1
        return self._experiment(tests, state).get(tests[-1], False)
