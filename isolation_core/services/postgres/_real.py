"""The same double over a real PostgreSQL, through asyncpg; isolated by a rollback or by a database of its own."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

from isolation_core.errors import ConfigurationError
from isolation_core.services.postgres._errors import interface_error
from isolation_core.services.postgres._parser import parse, split
from isolation_core.services.postgres._session import Result

__all__ = ["RealLink", "RealServer"]

Isolation = Literal["rollback", "template"]


_COPY_ATTEMPTS: Final = 4


class RealServer:
    """A real server, and what keeps one barrier's work on it apart.

    Args:
        dsn: where it is.
        isolation: ``rollback``: one connection and one transaction around everything, rolled back at the
            end; ``template``: a copy of the database, dropped at the end.
    """

    def __init__(self, dsn: str, isolation: Isolation, ended: Callable[[str, int], None]) -> None:
        self.dsn = dsn
        self.isolation: Isolation = isolation
        self.ended = ended
        self._asyncpg: Any = None
        self._outer: Any = None
        self._database: str | None = None
        self._blocks: list[RealLink] = []

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._outer is not None

    async def open(self) -> None:
        """Connect, and begin what `close` undoes.

        Raises:
            ConfigurationError: if asyncpg is not installed.
        """
        if self._outer is not None:
            return
        try:
            self._asyncpg = importlib.import_module("asyncpg")
        except ImportError:
            raise ConfigurationError(
                "PostgresDouble(dsn=...) talks to the server through asyncpg, which is not installed: "
                "pip install asyncpg",
                name="dsn",
                value=self.dsn,
            ) from None
        outer = await self._asyncpg.connect(self.dsn)
        if self.isolation == "rollback":
            await outer.execute("BEGIN")
        else:
            template = await outer.fetchval("SELECT current_database()")
            name = f"isolation_{uuid.uuid4().hex[:16]}"
            # A template must have no connections, so this one leaves it.
            await outer.close()
            outer = await self._asyncpg.connect(self.dsn, database="postgres")
            try:
                await self._copy(outer, template, name)
            except BaseException:
                await outer.close()
                raise
            self._database = name
        self._outer = outer

    async def _copy(self, connection: Any, template: str, name: str) -> None:
        """Make the database *name* from *template*, also when another test is connected to that for a moment."""
        for attempt in range(_COPY_ATTEMPTS):
            try:
                await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            except self._asyncpg.ObjectInUseError as error:
                # The server itself has waited five seconds by now.
                if attempt + 1 == _COPY_ATTEMPTS:
                    error.add_note(
                        f"isolation='template' copies {template!r}, which must have no other connections meanwhile: "
                        "close them, keep a database of its own as template, or take isolation='rollback'"
                    )
                    raise
            else:
                return

    async def link(self) -> RealLink:
        """Open a link."""
        await self.open()
        if self.isolation == "rollback":
            return RealLink(self, self._outer, shared=True)
        connection = await self._asyncpg.connect(self.dsn, database=self._database)
        return RealLink(self, connection, shared=False)

    async def close(self) -> None:
        """Undo everything that was done."""
        outer, self._outer = self._outer, None
        self._blocks.clear()
        if outer is None:
            return
        try:
            if self._database is not None:
                name, self._database = self._database, None
                await outer.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
            elif not outer.is_closed():
                await outer.execute("ROLLBACK")
        finally:
            await outer.close()


class RealLink:
    """A link to a real server.

    Under ``rollback`` all links share one connection: a transaction is a savepoint
    of the transaction around everything, and two cannot be open at once.
    """

    def __init__(self, server: RealServer, connection: Any, *, shared: bool) -> None:
        self._server = server
        self._connection = connection
        self._shared = shared
        self.pid: int = connection.get_server_pid()
        self.listener: Callable[[int, str, str], object] = lambda _pid, _channel, _payload: None
        self._channels: set[str] = set()
        self._block: str | None = None
        self._failed = False
        self._numbers = 0

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._block is not None if self._shared else bool(self._connection.is_in_transaction())

    async def run(self, sql: str, args: Sequence[Any], timeout: float | None, *, script: bool) -> Result:
        """Run *sql*."""
        words = sql.replace(";", " ").split()
        verb = words[0].upper() if words else ""
        if verb in {"LISTEN", "UNLISTEN"} and len(words) == 2:
            await self._listen(verb, words[1].strip('"'))
            return Result(tag=verb)
        if self._shared:
            return await self._run_shared(sql, verb, args, timeout, script=script)
        return await self._send(sql, args, timeout, script=script)

    async def _send(self, sql: str, args: Sequence[Any], timeout: float | None, *, script: bool) -> Result:
        if script and not args:
            was = self.in_transaction
            tag = await self._connection.execute(sql, timeout=timeout)
            self._tell(tag, was=was)
            return Result(tag=tag)
        statement = await self._connection.prepare(sql, timeout=timeout)
        was = self.in_transaction
        rows = await statement.fetch(*args, timeout=timeout)
        tag = statement.get_statusmsg() or ""
        self._tell(tag, was=was)
        columns = [(each.name, each.type.name) for each in statement.get_attributes()]
        return Result([tuple(row) for row in rows], columns, tag)

    def _tell(self, tag: str, *, was: bool) -> None:
        if was and not self._shared and not self._connection.is_in_transaction():
            self._server.ended("commit" if tag == "COMMIT" else "rollback", self.pid)

    async def _run_shared(
        self, sql: str, verb: str, args: Sequence[Any], timeout: float | None, *, script: bool
    ) -> Result:
        if verb in {"BEGIN", "START", "COMMIT", "END"} or (verb == "ROLLBACK" and " TO " not in f" {sql.upper()} "):
            return await self._control(sql, verb)
        if self._server._blocks and self._server._blocks[-1] is not self:
            raise interface_error(
                "a transaction of another connection is open, and with isolation='rollback' all share one: "
                "use PostgresDouble(dsn=..., isolation='template')"
            )
        if self._block is not None:
            return await self._send(sql, args, timeout, script=script)
        # A statement by itself: its failure must not abort the transaction around everything.
        await self._connection.execute("SAVEPOINT isolation_statement")
        try:
            result = await self._send(sql, args, timeout, script=script)
        except BaseException:
            await self._connection.execute("ROLLBACK TO isolation_statement; RELEASE isolation_statement")
            raise
        await self._connection.execute("RELEASE isolation_statement")
        return result

    async def _control(self, sql: str, verb: str) -> Result:
        blocks = self._server._blocks
        if verb in {"BEGIN", "START"}:
            if blocks and blocks[-1] is not self:
                raise interface_error(
                    "two transactions at once need connections of their own: "
                    "use PostgresDouble(dsn=..., isolation='template')"
                )
            statement = parse(*split(sql)[0])
            if getattr(statement, "isolation", None) not in {None, "read_committed"} or getattr(
                statement, "readonly", False
            ):
                raise interface_error(
                    "isolation levels and read-only transactions need connections of their own: "
                    "use PostgresDouble(dsn=..., isolation='template')"
                )
            if self._block is None:
                self._numbers += 1
                self._block = f"isolation_block_{self.pid}_{self._numbers}"
                self._failed = False
                await self._connection.execute(f"SAVEPOINT {self._block}")
                blocks.append(self)
            return Result(tag="BEGIN" if verb == "BEGIN" else "START TRANSACTION")
        tag = "ROLLBACK" if verb == "ROLLBACK" else "COMMIT"
        if self._block is None:
            return Result(tag=tag)
        name, self._block = self._block, None
        blocks.remove(self)
        if tag == "COMMIT":
            try:
                await self._connection.execute(f"RELEASE {name}")
            except Exception as error:
                # The block had failed: a server answers COMMIT with a rollback.
                if getattr(error, "sqlstate", None) != "25P02":
                    raise
                tag = "ROLLBACK"
        if tag == "ROLLBACK":
            await self._connection.execute(f"ROLLBACK TO {name}; RELEASE {name}")
        self._server.ended(tag.lower(), self.pid)
        return Result(tag=tag)

    def fail(self) -> None:
        """An error was injected; the server itself knows of none."""

    async def _listen(self, verb: str, channel: str) -> None:
        if verb == "LISTEN":
            self._channels.add(channel)
            await self._connection.add_listener(channel, self._heard)
        else:
            self._channels.discard(channel)
            await self._connection.remove_listener(channel, self._heard)

    async def _heard(self, _connection: object, pid: int, channel: str, payload: object) -> None:
        outcome = self.listener(pid, channel, str(payload))
        if isinstance(outcome, Awaitable):
            await outcome

    async def describe(self, sql: str) -> Result:
        """Return types without running."""
        statement = await self._connection.prepare(sql)
        columns = [(each.name, each.type.name) for each in statement.get_attributes()]
        return Result([], columns, "", tuple(each.name for each in statement.get_parameters()))

    async def reset(self) -> None:
        """Roll back, and stop listening."""
        for channel in tuple(self._channels):
            await self._listen("UNLISTEN", channel)
        if self._shared:
            if self._block is not None:
                await self._control("ROLLBACK", "ROLLBACK")
        else:
            await self._connection.reset()

    def close_now(self) -> None:
        """End it without a word; a shared one ends with its server."""
        if not self._shared:
            self._connection.terminate()

    async def close(self) -> None:
        """End it."""
        if self._shared:
            await self.reset()
        else:
            await self._connection.close()
