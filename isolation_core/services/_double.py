"""`ServiceDouble` and `ClientObject`: the common parts of doubles and of the objects they hand out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar
from weakref import WeakKeyDictionary

from isolation_core._backends import BackendChoice
from isolation_core.errors import ServiceNotConnectedError
from isolation_core.journal import Journal, get_journal
from isolation_core.services._operations import Operable, operation
from isolation_core.services._provenance import mark_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolation_core.services._context import MockContext
    from isolation_core.services._install import Installation, Place
    from isolation_core.services._interactions import Interaction

__all__ = ["ClientObject", "ServiceDouble"]

T = TypeVar("T")
_told: Final[WeakKeyDictionary[Journal, set[BackendChoice]]] = WeakKeyDictionary()


class ServiceDouble(Operable):
    """An in-memory service: behaviour and mock API in one object. Derive from it to write your own.

    It registers itself with its context, which closes it at the end.

    Args:
        context: the context it belongs to; None: that of the current barrier.
        name: its name in the log; by default the service.

    Attributes:
        service: the service it replaces: a `ServiceType`, or a custom name.
        name: as given.
        is_connected: whether `connect` was called and `disconnect` was not.
    """

    service: ClassVar[str] = ""
    # Modules with client objects that are imported only when needed; their operations can be named in rules before.
    _client_modules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, context: MockContext | None = None, *, name: str | None = None) -> None:
        if context is None:
            from isolation_core.services._context import current_context

            context = current_context()
        self._context = context
        self.name = name or str(self.service)
        self._backend = BackendChoice(str(self.service), "virtual", None, "the only one", pinned=False)
        self._was_connected = False
        self.is_connected = False
        self._clients: dict[int, ClientObject] = {}
        self._closed = False
        context._adopt(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {'connected' if self.is_connected else 'not connected'}>"

    @property
    def context(self) -> MockContext:
        """The context it belongs to: log, clock, faults."""
        return self._context

    @property
    def double(self) -> Self:
        """Itself."""
        return self

    @property
    def backend(self) -> BackendChoice:
        """What answers, in memory or a real server, and who decided that."""
        return self._backend

    @property
    def needs_await(self) -> bool:
        """Whether `close` has to be awaited: it does something of its own, or something real is behind the double."""
        return type(self).close is not ServiceDouble.close

    # -- operations --------------------------------------------------------------

    @operation
    async def connect(self) -> Self:
        """Connect; doing it again changes nothing.

        Returns:
            The double itself.
        """
        self._connected()
        return self

    def _connected(self) -> None:
        """Note that it is connected, and in the journal what answers."""
        journal, choice = get_journal(), self._backend
        # Once for all doubles that are alike: what the report needs, and nothing that grows with the tests.
        told = _told.setdefault(journal, set())
        if choice not in told:
            told.add(choice)
            journal.record("service-backend", service=choice.service, backend=choice.kind, origin=choice.origin)
        self._was_connected = self.is_connected = True
        self.context.clock.notify()

    @operation
    async def disconnect(self) -> None:
        """Disconnect and end every client object; doing it again changes nothing."""
        self._disconnect_now()

    @operation
    async def health_check(self) -> dict[str, Any]:
        """Return how it is: at least ``service``, ``name`` and ``status``, which is ``"up"`` or ``"down"``."""
        return {"service": str(self.service), "name": self.name, "status": "up" if self.is_connected else "down"}

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.disconnect()

    # -- for those who use it ------------------------------------------------------

    def reset(self) -> None:
        """Bring it back to how it was made: state of the behaviour, history and configuration of the mocks.

        Subclasses extend it by what they keep.
        """
        self._end_clients()
        self.is_connected = self._was_connected = False
        if self._root is not None:
            from isolation_core.mocks import reset

            reset(self._root)
        self.context.clock.notify()

    def problems(self) -> tuple[str, ...]:
        """Return open or unconsumed things, one sentence each; they are reported when the barrier ends.

        Subclasses extend it: open transactions, unacknowledged messages.
        """
        return tuple(problem for client in self._clients.values() for problem in client.problems())

    def record(self, event: str, /, **facts: Any) -> None:
        """Log an event of the service that is not a call: ``record("rollback", transaction=3)``."""
        context = self.context
        entry = context.log.begin(str(self.service), self.name, event, "", (), facts, context.clock.now())
        entry.state = "event"
        entry.end, entry.until = entry.start, entry.at

    def hand_out(self, message: T) -> T:
        """Return *message*, a value without operations, after noting that it is of this double.

        Used in another scenario it is reported, as client objects are. It is referred to weakly,
        so it has to be of a class that allows that.
        """
        return mark_message(message, self)

    def client_places(self) -> Mapping[str, Place]:
        """Return where `install` puts the double: ``"module:attribute"``, and what makes the replacement.

        Each is called with the double and what is at the place. Subclasses of your own give theirs.
        """
        from isolation_core.services._install import known_places

        return known_places(str(self.service))

    def install(self) -> Installation:
        """Put the double where code under test makes its own client, until the context ends.

        Names that were imported already (``from asyncpg import create_pool``) are replaced as well.

        Returns:
            What was replaced; a context manager, for those who want it back earlier.

        Raises:
            ConfigurationError: if no client of the service is installed.
        """
        from isolation_core.services._install import install

        made = install(self, self.client_places())
        self.context._endings[made] = made.undo, f"the installation of {self.name!r}"
        return made

    def fault_error(self, kind: str) -> BaseException:
        """Return what the real client raises for *kind*: ``unavailable``, ``timeout``, ``disconnected``, ``rejected``.

        Subclasses give their client's own exceptions.
        """
        text = f"{self.name}: {kind}, by the fault plan"
        return TimeoutError(text) if kind == "timeout" else ConnectionError(text)

    def call_timeout(self, target: Operable, entry: Interaction) -> float | None:
        """Return how many seconds a call waits for its answer before the client gives up; None: for ever.

        Faults that delay a call or let it hang end by it. By default the argument ``timeout`` of the call;
        subclasses know the defaults of their clients.

        Args:
            target: what was called: the double, or something it handed out.
            entry: the call.
        """
        value = entry.arguments.get("timeout")
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def call_timed_out(self, target: Operable, entry: Interaction) -> Any:
        """Return or raise what the client does when the answer did not come in time; by default its timeout error."""
        raise self.fault_error("timeout")

    # -- end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """End it: disconnects and ends every client object. Called by its context; doing it again does nothing."""
        self.close_now()

    def close_now(self) -> None:
        """The same for those who cannot await; enough unless `needs_await`."""
        if not self._closed:
            self._closed = True
            self._disconnect_now()

    def _disconnect_now(self) -> None:
        self._end_clients()
        self.is_connected = False
        self.context.clock.notify()

    def _end_clients(self) -> None:
        for client in tuple(self._clients.values()):
            client.end()
        self._clients.clear()

    def _require_connected(self) -> None:
        """Raise unless connected.

        Raises:
            ServiceNotConnectedError: subclasses may raise what their client does.
        """
        if not self.is_connected:
            raise ServiceNotConnectedError(self.name)


class ClientObject(Operable):
    """A connection, producer, message... that a double has handed out, with operations of its own.

    Args:
        double: the double it belongs to; it ends with that.
    """

    def __init__(self, double: ServiceDouble) -> None:
        self._double = double
        self._ended = False
        double._clients[id(self)] = self

    @property
    def double(self) -> ServiceDouble:
        """The double that handed it out."""
        return self._double

    @property
    def context(self) -> MockContext:
        """The context of the double."""
        return self._double._context

    def problems(self) -> tuple[str, ...]:
        """Return what is left open in it, one sentence each; nothing unless a subclass says so."""
        return ()

    def end(self) -> None:
        """Its double is disconnected or closed. Subclasses extend it; it awaits nothing and does not raise."""
        self._ended = True
        self._double._clients.pop(id(self), None)
