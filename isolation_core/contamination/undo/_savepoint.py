"""Frames: open barriers as the tracker sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from attrs import evolve

from isolation_core._own_context import OwnContext
from isolation_core._test_facts import NO_TEST, TestFacts
from isolation_core.contamination._difference import Difference
from isolation_core.contamination._first_party import Territory
from isolation_core.contamination.probes._probe import Probe
from isolation_core.findings import Change

__all__ = ["BASELINE", "Frame", "join"]

BASELINE: Final = -1
"""The depth of entries that belong to the process itself."""


class Frame:
    """One open barrier, as the tracker sees it.

    Attributes:
        owner: the name under which its changes are reported.
        scope: word for the width of the frame, such as ``"function"``.
        parent: the frame it is nested in.
        depth: nesting depth; entries promoted to a smaller depth are not ours.
        position: length of the log at entry.
        number: how many frames were opened before it.
        kinds: the kinds of state it looks at; None: all.
        test_module: name of the module whose test it is around, if it is around one.
        own_globals: name of the module whose top level opened it: the names that
            block assigns are its own, not contamination.
        spares_script: whether variables of ``__main__`` are kept; see `_scripts`.
        restores: whether it puts back what moved.
        hooks_depth: depth of the owner of what the runner's hooks did before the frame opened:
            `BASELINE` is the process, which no test is blamed for. None: no hooks ran, or it is unknown.
        test: the facts about the test that ends with it, if it is around one.
        touches: how often namespaces had been written without a difference when it opened.
        own: the test class or module whose set-up happens in it, if there is one.
        deliver: takes what changed, when that is known.
        own_context: the context of the test that ends with the frame, if it is the widest frame in one.
    """

    def __init__(
        self,
        owner: str,
        scope: str,
        parent: Frame | None,
        territory: Territory | None,
        *,
        kinds: frozenset[str] | None = None,
        test_module: str | None = None,
        own_globals: str | None = None,
        spares_script: bool = False,
        restores: bool = True,
        hooks_depth: int | None = None,
        own: object = None,
        test: TestFacts = NO_TEST,
        deliver: Callable[[list[Change]], None],
    ) -> None:
        self.owner = owner
        self.kinds = kinds
        self.test_module = test_module
        self.own_globals = own_globals
        self.spares_script = spares_script
        self.restores = restores
        self.hooks_depth = hooks_depth
        self.own = own
        self.test = test
        self.touches = 0
        self.deliver = deliver
        self.scope = scope
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.territory = territory
        self.position = 0
        self.number = 0
        self.open = True
        self.cohort: set[Frame] | None = None
        self.own_context: OwnContext | None = None
        self.local_state: list[tuple[Probe, Any]] = []
        self.kept_keys: set[tuple[str, Any]] = set()
        # What wider owners did to the state of the thread or task meanwhile: its last step, by kind and key.
        self.accepted: dict[tuple[str, Any], Difference] = {}

    def ancestors(self) -> Iterator[Frame]:
        """Yield the frames this one is nested in, innermost first."""
        frame = self.parent
        while frame is not None:
            yield frame
            frame = frame.parent

    def net(self, probe: Probe, before: Any, after: Any) -> Iterator[Difference]:
        """Yield what moved between two readings of *probe*, less what wider owners did meanwhile."""
        accepted = {key: step for (kind, key), step in self.accepted.items() if kind == probe.kind}
        for difference in probe.diff(before, after):
            step = accepted.pop(difference.key, None)
            if step is None:
                yield difference
            elif not probe.agrees(difference.key, step.after, difference.after):
                yield evolve(difference, before=step.after)
        for key, step in accepted.items():
            # No difference from the start: the wider step was taken back.
            if not probe.agrees(key, step.before, step.after):
                yield Difference(key, before=step.after, after=step.before, severity=step.severity)


def join(frames: list[Frame]) -> None:
    """Make *frames*, and those that overlap with them already, one cohort."""
    cohort: set[Frame] = set()
    for frame in frames:
        cohort |= frame.cohort or {frame}
    for frame in cohort:
        frame.cohort = cohort
