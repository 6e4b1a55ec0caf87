"""`Transaction`: a transaction block, or inside of one a savepoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from isolation_core.services._double import ClientObject
from isolation_core.services._operations import operation
from isolation_core.services.postgres._errors import interface_error

if TYPE_CHECKING:
    from isolation_core.services.postgres._connection import Connection

__all__ = ["Transaction"]

_LEVELS: Final = ("read_committed", "read_uncommitted", "serializable", "repeatable_read")
_SAID: Final = {
    "committed": "the transaction is already committed",
    "rolledback": "the transaction is already rolled back",
    "failed": "the transaction is in error state",
}


class Transaction(ClientObject):
    """A transaction in asyncpg's shape. Made by `Connection.transaction`."""

    label = "transaction"

    def __init__(self, connection: Connection, isolation: str | None, *, readonly: bool, deferrable: bool) -> None:
        if isolation is not None and isolation not in _LEVELS:
            raise ValueError(f"isolation is expected to be either of {set(_LEVELS)}, got {isolation!r}")
        super().__init__(connection.double)
        # Reached through its connection; not an object to be ended by itself.
        connection.double._clients.pop(id(self), None)
        self._connection = connection
        self._isolation = isolation
        self._readonly = readonly
        self._deferrable = deferrable
        self._state = "new"
        self._savepoint: str | None = None
        self._managed = False

    def __repr__(self) -> str:
        return f"<Transaction {self._state}>"

    async def __aenter__(self) -> None:
        if self._managed:
            raise interface_error("cannot enter context: already in an `async with` block")
        self._managed = True
        await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_exc: object) -> None:
        self._connection._check_resource("Transaction", "__aexit__")
        try:
            if kind is None:
                await self._commit()
            else:
                # A cancelled body is rolled back all the same.
                with anyio.CancelScope(shield=True):
                    await self._rollback()
        finally:
            self._managed = False

    def _check_not_over(self, action: str) -> None:
        if self._state in _SAID:
            raise interface_error(f"cannot {action}; {_SAID[self._state]}")

    def _check_started(self, action: str) -> None:
        if self._state == "new":
            raise interface_error(f"cannot {action}; the transaction is not yet started")
        self._check_not_over(action)

    @operation
    async def start(self) -> None:
        """Begin the transaction or savepoint."""
        connection = self._connection
        connection._check_resource("Transaction", "start")
        self._check_not_over("start")
        if self._state == "started":
            raise interface_error("cannot start; the transaction is already started")
        if connection._transaction is None:
            if connection._link.in_transaction:
                raise interface_error("cannot use Connection.transaction() in a manually started transaction")
            connection._transaction = self
            words = ["BEGIN"]
            if self._isolation:
                words.append(f"ISOLATION LEVEL {self._isolation.replace('_', ' ').upper()}")
            words += ["READ ONLY"] if self._readonly else []
            words += ["DEFERRABLE"] if self._deferrable else []
            statement = " ".join(words)
        else:
            outer = connection._transaction._isolation or "read_committed"
            if self._isolation and self._isolation != outer:
                raise interface_error(
                    f"nested transaction has a different isolation level: current {self._isolation!r} != "
                    f"outer {outer!r}"
                )
            self._savepoint = connection._unique("savepoint")
            statement = f"SAVEPOINT {self._savepoint}"
        await self._say(statement, "started")

    async def _say(self, statement: str, state: str) -> None:
        try:
            await self._connection._run(statement, script=True)
        except BaseException:
            self._state = "failed"
            raise
        self._state = state

    def _leave(self) -> None:
        if self._connection._transaction is self:
            self._connection._transaction = None

    async def _commit(self) -> None:
        self._check_started("commit")
        self._leave()
        await self._say(f"RELEASE SAVEPOINT {self._savepoint}" if self._savepoint else "COMMIT", "committed")

    async def _rollback(self) -> None:
        self._check_started("rollback")
        self._leave()
        await self._say(f"ROLLBACK TO {self._savepoint}" if self._savepoint else "ROLLBACK", "rolledback")

    @operation
    async def commit(self) -> None:
        """Commit; a savepoint becomes part of what is around it."""
        self._connection._check_resource("Transaction", "commit")
        if self._managed:
            raise interface_error("cannot manually commit from within an `async with` block")
        await self._commit()

    @operation
    async def rollback(self) -> None:
        """Roll back; for a savepoint, to where it began."""
        self._connection._check_resource("Transaction", "rollback")
        if self._managed:
            raise interface_error("cannot manually rollback from within an `async with` block")
        await self._rollback()
