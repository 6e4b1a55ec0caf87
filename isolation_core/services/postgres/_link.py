"""Links: what carries statements from a connection to the embedded engine."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres._errors import Blocked, interface_error, pg_error
from isolation_core.services.postgres._parser import split
from isolation_core.services.postgres._session import Result, Session
from isolation_core.services.postgres._store import Store

if TYPE_CHECKING:
    from isolation_core.services._clock import Clock
    from isolation_core.services.postgres._tokens import Token

__all__ = ["Engine", "EngineLink", "Link"]

DEADLOCK_TIMEOUT = 1.0
"""Seconds until a waiting statement looks for a deadlock; the server's default."""


class Link(Protocol):
    """One connection to whatever runs the statements."""

    pid: int
    listener: Callable[[int, str, str], object]

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    async def run(self, sql: str, args: Sequence[Any], timeout: float | None, *, script: bool) -> Result:
        """Run *sql*; a script may be several statements."""
        ...

    async def describe(self, sql: str) -> Result:
        """Return types without running."""
        ...

    def fail(self) -> None:
        """An error was injected: an open transaction has failed."""
        ...

    async def reset(self) -> None:
        """Make it as new: roll back, stop listening."""
        ...

    def close_now(self) -> None:
        """End it without a word."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Engine:
    """The embedded engine of one double: one store, many links.

    Args:
        clock: the virtual clock.
        ended: told how a transaction ended, and of which process.
        trouble: told of an error in a listener.
    """

    def __init__(
        self, clock: Clock, ended: Callable[[str, int], None], trouble: Callable[[BaseException], None]
    ) -> None:
        self.clock = clock
        self.store = Store()
        self.links: list[EngineLink] = []
        self._ended = ended
        self._trouble = trouble
        self._pids = 1000
        self.parsed: dict[str, list[tuple[str, list[Token]]]] = {}

    def open(self) -> EngineLink:
        """Open a link."""
        self._pids += 1
        pid = self._pids
        session = Session(self.store, self.clock.time, pid)
        session.ended = lambda how: self._ended(how, pid)
        link = EngineLink(self, session)
        self.links.append(link)
        return link

    def statements(self, sql: str) -> list[tuple[str, list[Token]]]:
        """Return the statements of *sql*, taken apart once."""
        found = self.parsed.get(sql)
        if found is None:
            found = self.parsed[sql] = split(sql)
        return found

    async def deliver(self, sender: EngineLink) -> None:
        """Hand over notifications: to sessions that listen, once they are in no transaction."""
        session = sender.session
        while session.outbox:
            channel, payload = session.outbox.pop(0)
            for link in self.links:
                if channel in link.session.channels:
                    link.session.inbox.append((session.pid, channel, payload))
        for link in tuple(self.links):
            while link.session.inbox and not link.session.in_transaction:
                try:
                    outcome = link.listener(*link.session.inbox.pop(0))
                    if inspect.isawaitable(outcome):
                        await outcome
                except Exception as error:
                    self._trouble(error)

    def close(self) -> None:
        """End all links and let go of the rows."""
        for link in tuple(self.links):
            link.close_now()
        self.store.close()
        self.parsed.clear()


class EngineLink:
    """A link to the embedded engine."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self.engine = engine
        self.session = session
        self.pid = session.pid
        self.listener: Callable[[int, str, str], object] = lambda _pid, _channel, _payload: None
        self._busy = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.session.in_transaction

    async def run(self, sql: str, args: Sequence[Any], timeout: float | None, *, script: bool) -> Result:
        """Run *sql*, waiting on the virtual clock for other transactions where the server would."""
        if self._busy:
            raise interface_error("cannot perform operation: another operation is in progress")
        self._busy = True
        try:
            statements = self.engine.statements(sql)
            if len(statements) > 1 and not script:
                raise pg_error("PostgresSyntaxError", "cannot insert multiple commands into a prepared statement")
            if len(statements) > 1:
                return await self._script(statements, timeout)
            return await self._one(*statements[0], args, timeout, simple=script) if statements else Result()
        except Exception as error:
            if getattr(error, "severity", None) == "ERROR":
                self.session.fail()
            raise
        finally:
            self._busy = False
            self.engine.clock.notify()
            await self.engine.deliver(self)

    async def _script(self, statements: list[tuple[str, list[Token]]], timeout: float | None) -> Result:
        result = Result()
        done = False
        try:
            for sql, tokens in statements:
                self.session.open_script()
                result = await self._one(sql, tokens, (), timeout, simple=True)
            done = True
        finally:
            self.session.close_script(commit=done)
        return result

    async def _one(
        self, sql: str, tokens: list[Token], args: Sequence[Any], timeout: float | None, *, simple: bool
    ) -> Result:
        clock = self.engine.clock
        deadline = None if timeout is None else clock.now() + timeout
        while True:
            try:
                return self.session.execute(sql, tokens, args, simple=simple)
            except Blocked as blocked:
                holder = blocked.holder
            # What it undid of itself counts as a change, and nobody else has run meanwhile.
            version = self.engine.store.version
            try:
                await self._wait(holder, version, deadline)
            except BaseException:
                # Cancelled or timed out while waiting: the server cancels the statement.
                self.session.fail()
                raise

    async def _wait(self, holder: Any, version: int, deadline: float | None) -> None:
        clock, store, work = self.engine.clock, self.engine.store, self.session.work

        def changed() -> bool | None:
            return True if store.version != version else None

        if work is not None:
            work.waits_for = holder
        try:
            left = None if deadline is None else max(deadline - clock.now(), 0)
            try:
                await clock.wait(changed, timeout=DEADLOCK_TIMEOUT if left is None else min(left, DEADLOCK_TIMEOUT))
            except TimeoutError:
                if left is not None and left <= DEADLOCK_TIMEOUT:
                    raise
                self._look_for_deadlock(work)
                await clock.wait(changed, timeout=None if left is None else left - DEADLOCK_TIMEOUT)
        finally:
            if work is not None:
                work.waits_for = None

    def _look_for_deadlock(self, work: Any) -> None:
        seen = work
        while seen is not None:
            seen = seen.waits_for
            if seen is work and work is not None:
                raise pg_error("DeadlockDetectedError", "deadlock detected", hint="See server log for query details.")

    async def describe(self, sql: str) -> Result:
        """Return types without running."""
        statements = self.engine.statements(sql)
        if len(statements) > 1:
            raise pg_error("PostgresSyntaxError", "cannot insert multiple commands into a prepared statement")
        if not statements:
            return Result()
        try:
            return self.session.describe(*statements[0])
        except UnsupportedSQLError:
            raise
        except Exception:
            self.session.fail()
            raise

    def fail(self) -> None:
        """An error was injected."""
        self.session.fail()

    async def reset(self) -> None:
        """Roll back and stop listening."""
        self.session.close()
        self.engine.clock.notify()

    def close_now(self) -> None:
        """End it; what was open is rolled back."""
        self.session.close()
        if self in self.engine.links:
            self.engine.links.remove(self)
        self.engine.clock.notify()

    async def close(self) -> None:
        """End it."""
        self.close_now()
