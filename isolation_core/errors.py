"""Every exception of isolation-core: one base, each concrete one also a fitting builtin.

Messages say what happened, where, and what to do next; the facts they are made
of stay on the instance as fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from isolation_core._suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from isolation_core.findings import Change, Leak

__all__ = [
    "CleanupError",
    "ConfigurationError",
    "ContaminationError",
    "FaultMatrixError",
    "FixtureUseError",
    "ForeignMockUseError",
    "GraphError",
    "GraphProblem",
    "InteractionOrderError",
    "IsolationError",
    "JournalError",
    "LifecycleClosedError",
    "MisspelledAssertionError",
    "MockDiscardedError",
    "MockNotCopiableError",
    "NotAMockError",
    "ScenarioRequirementError",
    "ServiceNotConnectedError",
    "ServiceRuleError",
    "ServiceStartError",
    "SetupError",
    "SetupTimeout",
    "SharedMockClassError",
    "SpecificationError",
    "TeardownErrors",
    "TeardownTimeout",
    "UnconfiguredCallError",
    "UnknownMockAttributeError",
    "UnknownMockBuilderError",
    "UnknownOperationError",
    "UnknownScenarioError",
    "UnknownServiceError",
    "UnsupportedSQLError",
    "UnusedFaultError",
    "did_you_mean",
]


class IsolationError(Exception):
    """Base of everything isolation-core raises on purpose."""


class ConfigurationError(IsolationError, ValueError):
    """A mode, option or configuration key is not one we know.

    Attributes:
        name: the offending key or option.
        value: what was given.
    """

    def __init__(self, message: str, *, name: str, value: object = None) -> None:
        super().__init__(message)
        self.name = name
        self.value = value


class ContaminationError(IsolationError, AssertionError):
    """Raised by a barrier in mode ``strict`` when something leaked out of it.

    Attributes:
        owner: who is responsible: a test id, or the barrier's group.
        changes: the `Change` objects above severity ``note``.
        leaks: the `Leak` objects above severity ``note``.
    """

    def __init__(self, owner: str, changes: Sequence[Change], leaks: Sequence[Leak]) -> None:
        self.owner = owner
        self.changes = tuple(changes)
        self.leaks = tuple(leaks)
        found: tuple[Change | Leak, ...] = (*self.changes, *self.leaks)
        # Runners cut the first line short: the fact comes before the names.
        more = f" (+{len(found) - 1} more)" if len(found) > 1 else ""
        what = f"leaks {found[0].path}{more}: " if found else ""
        count = "1 thing" if len(found) == 1 else f"{len(found)} things"
        lines = [f"  {finding}" for finding in found]
        super().__init__(
            f"{what}{owner} left {count} behind\n" + "\n".join(lines) + "\n"
            "Undo them in the code under test, put the undo in barrier.on_cleanup(), "
            "or allow them with ignore=('kind:path-glob',)."
        )


class JournalError(IsolationError, ValueError):
    """A journal cannot be read: it is missing, something else, or of another version.

    Attributes:
        path: the file or directory in question.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


@frozen
class GraphProblem:
    """One thing that is wrong with a dependency graph.

    Attributes:
        code: stable code, ``"ISO001"`` a cycle, ``"ISO002"`` a missing name, ``"ISO003"`` a scope
            inversion, ``"ISO004"`` a name defined twice.
        message: the problem, drawn over several lines where that helps, with ``file:line`` of each node.
        nodes: the names involved, in the order of the drawing.
    """

    code: str
    message: str
    nodes: tuple[str, ...] = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.code} {self.message}"


class GraphError(IsolationError, ValueError):
    """A dependency graph cannot be set up; nothing has been started.

    Attributes:
        problems: every `GraphProblem` found, not only the first.
    """

    def __init__(self, problems: Sequence[GraphProblem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        headline = f"{count} problem{'s' if count != 1 else ''} in the dependency graph, nothing was set up:"
        super().__init__("\n\n".join([headline, *map(str, self.problems)]))


class FixtureUseError(IsolationError, RuntimeError):
    """A managed fixture was asked for, or marked, in a way that cannot work.

    Attributes:
        fixture: its name.
    """

    def __init__(self, fixture: str, message: str) -> None:
        self.fixture = fixture
        super().__init__(message)


class LifecycleClosedError(IsolationError, RuntimeError):
    """Something was to be set up or registered after the teardown of its owner.

    Attributes:
        owner: whose lifecycle it was.
    """

    def __init__(self, owner: str, action: str) -> None:
        self.owner = owner
        super().__init__(
            f"cannot {action}: {owner or 'this lifecycle'} has been torn down already; do it before the barrier ends"
        )


class SetupError(IsolationError, RuntimeError):
    """A node could not be set up for a reason that is not an exception of its own.

    Attributes:
        node: name of the node.
    """

    def __init__(self, node: str, message: str) -> None:
        self.node = node
        super().__init__(message)


class SetupTimeout(IsolationError, TimeoutError):
    """The set-up of a node took longer than its ``setup_timeout`` and was cancelled.

    Attributes:
        node: name of the node.
        timeout: the budget, in seconds.
    """

    def __init__(self, node: str, timeout: float) -> None:
        self.node = node
        self.timeout = timeout
        super().__init__(
            f"the set-up of {node!r} did not finish within {timeout:g} s and was cancelled; "
            "find out what it waits for, or raise its setup_timeout"
        )


class CleanupError(IsolationError, RuntimeError):
    """A cleanup ended in a way that is not an `Exception`, or could not be run where it belongs.

    The original, if there is one, is the ``__cause__``.

    Attributes:
        node: name of the node or cleanup.
    """

    def __init__(self, node: str, message: str) -> None:
        self.node = node
        super().__init__(message)


class TeardownTimeout(IsolationError, TimeoutError):
    """A cleanup took longer than its budget; the cleanups after it ran all the same.

    Attributes:
        node: name of the node or cleanup.
        timeout: the budget, in seconds.
        interrupted: whether it was cancelled; blocking code cannot be, so it finished.
    """

    def __init__(self, node: str, timeout: float, *, interrupted: bool) -> None:
        self.node = node
        self.timeout = timeout
        self.interrupted = interrupted
        fate = "was cancelled" if interrupted else "blocked until it ended by itself"
        super().__init__(
            f"the cleanup of {node!r} did not finish within {timeout:g} s and {fate}; "
            "find out what it waits for, or raise its timeout"
        )


class TeardownErrors(IsolationError, ExceptionGroup[Exception]):
    """Every error of one teardown, in the order they happened; a group also when it is only one.

    Each leaf has a note naming the node, its scope, where it was defined and who used it.
    """

    def derive(self, excs: Sequence[Exception], /) -> TeardownErrors:  # type: ignore[override]
        """Return a group of the same type, so that `split` and ``except*`` keep it."""
        return TeardownErrors(self.message, excs)


class MockDiscardedError(IsolationError, RuntimeError):
    """A mock was used after the barrier it belonged to had ended.

    Attributes:
        mock: the name of the mock.
        owner: the owner of the barrier, usually a test id; None if it was discarded by hand, outside of any.
        made_at: ``file:line`` where the mock was made.
        operation: what was attempted.
        during: whose barriers were open at the time of the use.
    """

    def __init__(
        self, mock: str, *, owner: str | None, made_at: str, operation: str, during: Sequence[str] = ()
    ) -> None:
        self.mock = mock
        self.owner = owner
        self.made_at = made_at
        self.operation = operation
        self.during = tuple(during)
        meanwhile = f", during {' or '.join(self.during)}" if self.during else ""
        if owner is None:
            end, advice = "it had been discarded", "Discard it later, or make a new one."
        else:
            end = f"{owner} had ended"
            advice = (
                "Something started there outlived it: cancel the task, stop the thread or close the client before the "
                "barrier ends, or make the mock in a wider barrier."
            )
        super().__init__(f"{operation} on the mock {mock!r} after {end}{meanwhile}. It was made at {made_at}. {advice}")


class ForeignMockUseError(IsolationError, RuntimeError):
    """A strict mock, or a connection or message of a double, was used from a barrier not its own and not inside it.

    Attributes:
        mock: its name.
        owner: the owner of its barrier.
        user: the owner of the barrier it was used from.
        made_at: ``file:line`` where the mock was made; None if that is not known.
        kind: what it is: ``"mock"``, ``"message"``, ``"connection"``...
    """

    def __init__(self, mock: str, *, owner: str, user: str, made_at: str | None = None, kind: str = "mock") -> None:
        self.mock = mock
        self.owner = owner
        self.user = user
        self.made_at = made_at
        self.kind = kind
        made = f" It was made at {made_at}." if made_at else ""
        super().__init__(
            f"the {kind} {mock!r} of {owner} was used by {user}.{made} "
            "Give each barrier its own, or make a shared one in a barrier around both."
        )


class MisspelledAssertionError(IsolationError, AttributeError):
    """An attribute looks like a misspelled assertion; a mock would have let it pass in silence.

    Attributes:
        attribute: what was written.
        meant: the assertion it resembles.
    """

    def __init__(self, attribute: str, meant: str) -> None:
        self.attribute = attribute
        self.meant = meant
        super().__init__(
            f"{attribute!r} is not a valid assertion. Did you mean {meant!r}? Use a spec "
            f"for the mock if {attribute!r} is meant to be an attribute."
        )


class MockNotCopiableError(IsolationError, TypeError):
    """A mock was about to be pickled.

    Attributes:
        mock: its name.
    """

    def __init__(self, mock: str) -> None:
        self.mock = mock
        super().__init__(
            f"the mock {mock!r} cannot be pickled: its calls could not be seen in the other process. "
            "Make it there, or hand over plain data."
        )


class NotAMockError(IsolationError, TypeError):
    """Something that is neither a mock nor made of mocks was given to a function that cleans mocks.

    Attributes:
        type_name: what it was.
    """

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(
            f"expected a mock, an autospecced function or a patcher of unittest.mock, got {type_name}; "
            "other objects are cleaned with barrier.on_cleanup()"
        )


class SpecificationError(IsolationError, TypeError):
    """A mock was asked for with a specification that verifies nothing: a mock, a union, ``Any``.

    Attributes:
        problem: why it is wrong.
        advice: a value to give instead.
    """

    def __init__(self, problem: str, advice: str) -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"not a specification: {problem}. {advice}")


class SharedMockClassError(IsolationError, TypeError):
    """An attribute was about to be set on a class that all isolated mocks of a kind share.

    Attributes:
        class_name: the class.
        attribute: the attribute.
    """

    def __init__(self, class_name: str, attribute: str) -> None:
        self.class_name = class_name
        self.attribute = attribute
        super().__init__(
            f"cannot set {attribute!r} on {class_name}: many mocks share this class, the change would reach all tests. "
            f"Use define_property(mock, {attribute!r}, ...) for a property of one mock, "
            "or make the mock with own_class=True."
        )


class UnconfiguredCallError(IsolationError, AssertionError):
    """A strict mock was called for which no outcome is configured.

    Attributes:
        mock: the dotted name of what was called.
        configured: the dotted names that have an outcome.
    """

    def __init__(self, mock: str, configured: Sequence[str]) -> None:
        self.mock = mock
        self.configured = tuple(configured)
        known = ", ".join(self.configured) or "nothing"
        super().__init__(
            f"unexpected call of {mock}(): it is strict and has neither return_value nor side_effect. "
            f"Configured: {known}. Configure {mock}.return_value, or make the mock with strict=False."
        )


class UnknownMockAttributeError(IsolationError, AttributeError):
    """A specified mock was asked for something its specification does not have.

    Attributes:
        spec: the name of the specification.
        attribute: the requested attribute.
        suggestion: the nearest name the specification has, if one is near.
    """

    def __init__(self, spec: str, attribute: str, suggestion: str | None) -> None:
        self.spec = spec
        self.attribute = attribute
        self.suggestion = suggestion
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(
            f"Mock object has no attribute {attribute!r}: {spec} has none.{hint} "
            "If the real object gets it at run time, name it with attributes=[...]."
        )


class UnknownMockBuilderError(IsolationError, LookupError):
    """No mock builder is registered under this name.

    Attributes:
        name: the requested name.
        known: the registered names.
    """

    def __init__(self, name: str, known: Sequence[str], *, wanted_by: str | None = None) -> None:
        self.name = name
        self.known = tuple(known)
        self.wanted_by = wanted_by
        who = f", which {wanted_by!r} depends on" if wanted_by else ""
        super().__init__(
            f"no mock builder is called {name!r}{who}. Registered: {', '.join(self.known) or 'none'}. "
            f"Register it with register_mock_builder({name!r}, ...)."
        )


class ServiceNotConnectedError(IsolationError, ConnectionError):
    """A service double was used before `connect` or after `disconnect`.

    Attributes:
        service: the name of the double.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        super().__init__(f"{service} is not connected: await {service}.connect() first, or use `async with`")


class ServiceStartError(IsolationError, RuntimeError):
    """An embedded server of a service could not be started.

    Attributes:
        service: the service.
        reason: what went wrong.
        log: the end of what the server wrote.
    """

    def __init__(self, service: str, reason: str, log: str = "") -> None:
        self.service = service
        self.reason = reason
        self.log = log.strip()
        said = f"\nThe end of its log:\n{self.log}" if self.log else ""
        super().__init__(
            f"the embedded server of {service} could not be started: {reason}. Give the address of your server, "
            f"or take the virtual backend: ISOLATION_CORE_{service.upper()}=virtual, or backend='virtual'.{said}"
        )


class UnknownOperationError(IsolationError, AttributeError):
    """A service double, or something it handed out, has no such attribute.

    Attributes:
        target: the class that was asked.
        attribute: the requested attribute.
        suggestion: the nearest name there is, if one is near.
    """

    def __init__(self, target: str, attribute: str, suggestion: str | None, message: str | None = None) -> None:
        self.target = target
        self.attribute = attribute
        self.suggestion = suggestion
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(message or f"{target} has no attribute {attribute!r}.{hint}")


class UnknownArgumentError(IsolationError, TypeError):
    """A selector names an argument that the operations it means do not have.

    Attributes:
        pattern: the operations that were meant.
        argument: the name that was given.
        suggestion: the nearest name there is, if one is near.
        known: the names there are.
    """

    def __init__(self, pattern: str, argument: str, suggestion: str | None, known: Sequence[str]) -> None:
        self.pattern = pattern
        self.argument = argument
        self.suggestion = suggestion
        self.known = tuple(known)
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(f"{pattern} has no argument {argument!r}.{hint} Known: {', '.join(self.known) or 'none'}.")


class UnknownServiceError(IsolationError, LookupError):
    """No service is known under this name.

    Attributes:
        name: the requested name.
        known: the names there are.
        suggestion: the nearest of them, if one is near.
        wanted_by: the name of the dependent, if it was not the caller.
    """

    def __init__(
        self, name: str, known: Sequence[str], suggestion: str | None, *, wanted_by: str | None = None
    ) -> None:
        self.name = name
        self.known = tuple(known)
        self.suggestion = suggestion
        self.wanted_by = wanted_by
        who = f", which {wanted_by!r} depends on" if wanted_by else ""
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(
            f"no service is called {name!r}{who}.{hint} Known: {', '.join(self.known)}. "
            f"Add one of your own with register_service({name!r}, ...)."
        )


class InteractionOrderError(IsolationError, AssertionError):
    """A log of interactions does not hold what was asserted; the message shows the log."""


class UnusedFaultError(IsolationError, AssertionError):
    """Rules of a fault plan never fired: the test does not show what it seems to.

    Attributes:
        rules: one line each.
    """

    def __init__(self, rules: Sequence[str]) -> None:
        self.rules = tuple(rules)
        lines = "".join(f"\n  {rule}" for rule in self.rules)
        super().__init__(
            f"{len(self.rules)} rule(s) of the fault plan never fired:{lines}\n"
            "Correct the pattern or the condition, or add the rule with optional=True."
        )


class FaultMatrixError(IsolationError, AssertionError):
    """The check of a fault matrix failed after some of its runs.

    Attributes:
        violations: after how many.
        runs: of how many.
        sequence: a mermaid diagram of the first of them.
    """

    def __init__(self, table: str, violations: int, runs: int, sequence: str) -> None:
        self.violations = violations
        self.runs = runs
        self.sequence = sequence
        super().__init__(f"the check failed after {violations} of {runs} runs:\n{table}\n\n{sequence}")


class ServiceRuleError(IsolationError, AssertionError):
    """Rules across services do not hold for what happened.

    Attributes:
        owner: whose services they are.
        violations: one text each.
    """

    def __init__(self, owner: str, violations: Sequence[str], timeline: str) -> None:
        self.owner = owner
        self.violations = tuple(violations)
        lines = "".join(f"\n  {violation}" for violation in self.violations)
        count = len(self.violations)
        super().__init__(f"{owner} broke {count} rule(s) across services:{lines}\nwhat happened:\n{timeline}")


class ScenarioRequirementError(IsolationError, AssertionError):
    """A strict scenario did not use what it requires, or used what it does not require.

    Attributes:
        scenario: its name.
        unused: services that are required and were not used.
        undeclared: services that were used and are not required.
    """

    def __init__(self, scenario: str, *, unused: Sequence[str], undeclared: Sequence[str]) -> None:
        self.scenario = scenario
        self.unused = tuple(unused)
        self.undeclared = tuple(undeclared)
        parts = []
        if self.unused:
            parts.append(f"requires {', '.join(self.unused)} but never used it; drop it from the services")
        if self.undeclared:
            parts.append(f"used {', '.join(self.undeclared)} without requiring it; add it to the services")
        super().__init__(f"the scenario {scenario!r} {'; and '.join(parts)}")


class UnknownScenarioError(IsolationError, LookupError):
    """No ready-made scenario is registered under this name.

    Attributes:
        name: the requested name.
        known: the names there are.
    """

    def __init__(self, name: str, known: Sequence[str], suggestion: str | None) -> None:
        self.name = name
        self.known = tuple(known)
        hint = f" Did you mean {suggestion!r}?" if suggestion else ""
        super().__init__(
            f"no ready-made scenario is called {name!r}.{hint} Known: {', '.join(self.known)}. Name the services "
            f"it needs: integration_scenario({name!r}, [...]), or register it with register_scenario()."
        )


class UnsupportedSQLError(IsolationError, NotImplementedError):
    """The virtual PostgreSQL was asked for rows that no stub gives.

    Attributes:
        sql: the statement.
        origin: why the backend is the virtual one.
    """

    def __init__(self, sql: str, origin: str) -> None:
        self.sql = sql
        self.origin = origin
        shown = " ".join(sql.split())
        shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
        super().__init__(
            f"the virtual PostgreSQL ({origin}) makes up no rows, and no stub answers: {shown}. Stub the statement, "
            "postgres.when(sql).returns(rows), or run it on a real server: pip install 'isolation-core[postgres]' and "
            "ISOLATION_CORE_POSTGRES=real, backend='real', or dsn=... of one of yours."
        )
