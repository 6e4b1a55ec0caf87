"""Faults on purpose: seeded rules that make calls of doubles fail, wait, or lose their reply."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from attrs import define, field

from isolation_core.errors import ConfigurationError, UnusedFaultError
from isolation_core.services._queries import known_of
from isolation_core.services._selectors import Selector, Selects, select

if TYPE_CHECKING:
    from isolation_core.services._context import MockContext
    from isolation_core.services._fault_actions import FaultAction
    from isolation_core.services._interactions import Interaction
    from isolation_core.services._operations import Operable

__all__ = ["FaultPlan", "FaultRule"]


@define(eq=False)
class FaultRule:
    """One rule: which calls fail, when, and how. Made by `FaultPlan.add`.

    Attributes:
        selector: which calls.
        action: what happens to them.
        seen: how many calls matched so far.
        fired: how many of them it was applied to.
    """

    selector: Selector
    action: FaultAction
    nth: frozenset[int] = field(kw_only=True)
    every: int | None = field(kw_only=True)
    probability: float | None = field(kw_only=True)
    window: tuple[float, float] | None = field(kw_only=True)
    after: Selector | None = field(kw_only=True)
    active: Callable[[], object] | None = field(kw_only=True)
    times: int | None = field(kw_only=True)
    optional: bool = field(kw_only=True)
    dice: random.Random = field(kw_only=True, repr=False)
    seen: int = 0
    fired: int = 0
    _begun: bool = False

    def __str__(self) -> str:
        conditions = [
            f"call {', '.join(map(str, sorted(self.nth)))}" if self.nth else "",
            f"every {self.every}" if self.every else "",
            f"probability {self.probability:g}" if self.probability is not None else "",
            f"from {self.window[0]:g} s to {self.window[1]:g} s" if self.window else "",
            f"after {self.after}" if self.after else "",
            "while its flag is up" if self.active else "",
        ]
        when = ", ".join(word for word in conditions if word)
        return f"{self.action} on {self.selector}{f' ({when})' if when else ''}"

    def fires(self, entry: Interaction, context: MockContext) -> bool:
        """Return whether the rule applies to *entry*, counting it."""
        if not self.selector(entry):
            return False
        if self.after is not None and not self._begun:
            after = self.after
            self._begun = any(other.end is not None and after(other) for other in context.log)
            if not self._begun:
                return False
        self.seen += 1
        applies = (
            (self.times is None or self.fired < self.times)
            and (not self.nth or self.seen in self.nth)
            and (self.every is None or self.seen % self.every == 0)
            and (self.window is None or self.window[0] <= context.clock.now() < self.window[1])
            and (self.active is None or bool(self.active()))
            # The dice come last, and only for calls they decide about.
            and (self.probability is None or self.dice.random() < self.probability)
        )
        self.fired += applies
        return applies


class FaultPlan:
    """Rules about calls that are to go wrong; every `MockContext` has one as ``faults``.

    Args:
        seed: of the dice; the same seed and the same calls give the same faults. It is
            noted on every error that a rule with a probability raises.

    Attributes:
        seed: as given.
        rules: all rules, in order.
        sync_call: the synchronous call that runs under the rules.
        down: services that are disconnected until restored, each with the rule that did it.
    """

    __slots__ = ("_context", "down", "rules", "seed", "sync_call")

    def __init__(self, context: MockContext, *, seed: int = 0) -> None:
        self._context = context
        self.seed = seed
        self.rules: list[FaultRule] = []
        self.down: dict[str, FaultRule] = {}
        self.sync_call: Interaction | None = None

    def __repr__(self) -> str:
        return f"<FaultPlan of {len(self.rules)} rules, seed {self.seed}>"

    @property
    def active(self) -> bool:
        """Whether there is any rule."""
        return bool(self.rules)

    def add(
        self,
        pattern: Selects,
        action: FaultAction,
        *,
        where: Callable[[Interaction], object] | None = None,
        nth: int | tuple[int, ...] = (),
        every: int | None = None,
        probability: float | None = None,
        window: tuple[float, float] | None = None,
        after: Selects | None = None,
        active: Callable[[], object] | None = None,
        times: int | None = None,
        optional: bool = False,
        **arguments: Any,
    ) -> FaultRule:
        """Add a rule; all its conditions must hold. Several rules on one call are applied around each other.

        Args:
            pattern: which calls, such as ``"kafka.send_event"`` or ``"postgres.*"``.
            action: what happens: `fail`, `delay`, `hang`, `disconnect`, `duplicate`, `lose_reply`, `answer`, `cancel`.
            where: a further condition over the `Interaction`.
            nth: only these of the matching calls, counted from 1.
            every: only each so many-th.
            probability: 0 to 1, by the seeded dice.
            window: from and until when, in seconds on the virtual clock.
            after: only once a call or event that matches this has ended.
            active: asked at each call, such as ``lambda: flag``.
            times: at most so often.
            optional: False: `unused` lists the rule if it never fired.
            **arguments: the values that arguments of the call must equal.

        Raises:
            ConfigurationError: for a condition that can never hold.
        """
        numbers = frozenset((nth,) if isinstance(nth, int) else nth)
        for name, value, fits in (
            ("nth", nth, all(number >= 1 for number in numbers)),
            ("every", every, every is None or every >= 1),
            ("probability", probability, probability is None or 0 <= probability <= 1),
            ("times", times, times is None or times >= 1),
            ("window", window, window is None or window[0] < window[1]),
        ):
            if not fits:
                raise ConfigurationError(f"{name}={value!r} can never hold: calls are counted from 1", name=name)
        selector = select(pattern, where=where, **arguments)
        known = known_of(self._context.log)
        selector.check(known, certain=False)
        if after is not None:
            select(after).check(known, certain=False)
        rule = FaultRule(
            selector,
            action,
            nth=numbers,
            every=every,
            probability=probability,
            window=window,
            after=None if after is None else select(after),
            active=active,
            times=times,
            optional=optional,
            # Dice of its own: adding a rule does not change what the others do.
            dice=random.Random(f"{self.seed}:{len(self.rules)}"),  # noqa: S311 - to repeat, not to hide
        )
        self.rules.append(rule)
        return rule

    def remove(self, rule: FaultRule) -> None:
        """Remove *rule*; services that it disconnected are restored."""
        self.rules.remove(rule)
        for name in [name for name, cause in self.down.items() if cause is rule]:
            self.restore(name)

    def clear(self) -> None:
        """Take every rule out."""
        self.rules.clear()
        self.down.clear()

    def restore(self, service: str | None = None) -> None:
        """Let a service that a rule has disconnected be reached again; None: all. Its user connects it."""
        if service is None:
            self.down.clear()
        else:
            self.down.pop(str(service), None)
        self._context.clock.notify()

    @property
    def unused(self) -> tuple[FaultRule, ...]:
        """Rules that never fired and are not optional: the test does not show what it seems to."""
        return tuple(rule for rule in self.rules if not rule.fired and not rule.optional)

    def assert_all_used(self) -> None:
        """Assert that every rule fired.

        Raises:
            UnusedFaultError: listing those that did not, with how many calls matched.
        """
        if self.unused:
            raise UnusedFaultError([f"{rule}: {rule.seen} calls matched" for rule in self.unused])

    # -- for the operations ------------------------------------------------------------

    def _firing(self, target: Operable, entry: Interaction) -> list[FaultRule]:
        firing = [rule for rule in self.rules if rule.fires(entry, self._context)]
        if firing:
            entry.fault = "; ".join(str(rule.action) for rule in firing)
        if target.double.name in self.down and not firing:
            entry.fault = "disconnected"
            raise self.sign(target.double.fault_error("disconnected"), self.down[target.double.name])
        return firing

    def sign(self, error: BaseException, rule: FaultRule) -> BaseException:
        """Note on *error* where it comes from."""
        seed = f", seed {self.seed}" if rule.probability is not None else ""
        error.add_note(f"injected by the fault plan of {self._context.owner}: {rule}{seed}")
        return error

    async def conduct(self, target: Operable, entry: Interaction, outcome: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call under the rules, the first one outermost."""
        firing = self._firing(target, entry)
        if not firing:
            return await outcome()
        for rule in reversed(firing):
            outcome = partial(rule.action.run, self, rule, target, outcome)
        limit = target.double.call_timeout(target, entry)
        if limit is None:
            return await outcome()
        # The client gives up by itself, whatever makes the call slow.
        with anyio.move_on_after(max(limit, 0)) as scope:
            return await outcome()
        assert scope.cancelled_caught
        try:
            return target.double.call_timed_out(target, entry)
        except BaseException as error:
            raise self.sign(error, firing[0]) from None

    def conduct_sync(self, target: Operable, entry: Interaction, outcome: Callable[[], Any]) -> Any:
        """Run a synchronous call under the rules."""
        firing = self._firing(target, entry)
        for rule in reversed(firing):
            outcome = partial(rule.action.run_sync, self, rule, target, outcome)
        self.sync_call, before = entry, self.sync_call
        try:
            return outcome()
        finally:
            self.sync_call = before
