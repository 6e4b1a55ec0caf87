"""The broker: exchanges, queues, bindings, and the rules by which messages move."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from attrs import define, evolve, field

from isolation_core.services._clock import Clock, TimerHandle
from isolation_core.services.rabbitmq._errors import amqp_error
from isolation_core.services.rabbitmq._routing import Binding, fits

__all__ = ["Broker", "BrokerExchange", "BrokerQueue", "Consumer", "Properties", "Stored"]

KNOWN: Final = (
    "x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-overflow", "x-dead-letter-exchange",
    "x-dead-letter-routing-key", "x-max-priority", "x-single-active-consumer", "x-queue-type",
)  # fmt: skip
TYPES: Final = frozenset({"direct", "fanout", "topic", "headers"})


@define
class Properties:
    """The AMQP properties of a message; *expiration* in milliseconds, as text."""

    headers: dict[str, Any] = field(factory=dict)
    content_type: str | None = None
    content_encoding: str | None = None
    delivery_mode: int = 1
    priority: int = 0
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


@define(eq=False)
class Stored:
    """A message in a queue, or delivered from it and not settled.

    Attributes:
        position: where it belongs in the queue, also when it comes back.
        expires: when, on the virtual clock.
        redelivered: whether it was delivered before.
    """

    body: bytes
    properties: Properties
    exchange: str
    routing_key: str
    position: tuple[int, int] = (0, 0)
    expires: float | None = None
    redelivered: bool = False


class Holder(Protocol):
    """A channel, as the broker sees it."""

    unsettled: dict[int, tuple[BrokerQueue, Stored]]
    global_prefetch: int


@define(eq=False)
class Consumer:
    """A consumer, which takes messages as they arrive.

    Attributes:
        tag: its name on its channel.
        holder: the channel.
        deliver: takes a message; gives its delivery tag.
        no_ack: whether delivery settles a message.
        prefetch: how many unsettled ones it may have; 0: any number.
        exclusive: whether it wants the queue for itself.
        priority: higher ones first.
        unsettled: delivery tags of what it has.
    """

    tag: str
    holder: Holder
    deliver: Callable[[BrokerQueue, Stored], int]
    no_ack: bool
    prefetch: int
    exclusive: bool
    priority: int
    unsettled: set[int] = field(factory=set)

    @property
    def has_room(self) -> bool:
        """Whether it may be given another message."""
        if self.no_ack:
            return True
        limit = self.holder.global_prefetch
        if limit and len(self.holder.unsettled) >= limit:
            return False
        return not self.prefetch or len(self.unsettled) < self.prefetch


@define(eq=False)
class BrokerExchange:
    """An exchange."""

    name: str
    type: str
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(factory=dict)
    bindings: dict[tuple[Any, ...], Binding] = field(factory=dict)


@define(eq=False)
class BrokerQueue:
    """A queue."""

    name: str
    durable: bool = False
    auto_delete: bool = False
    owner: object = None
    arguments: Mapping[str, Any] = field(factory=dict)
    ready: list[Stored] = field(factory=list)
    consumers: list[Consumer] = field(factory=list)
    deleted: bool = False
    timer: TimerHandle | None = None
    expiry: TimerHandle | None = None
    count: int = 0

    @property
    def priorities(self) -> int:
        """The highest priority it distinguishes."""
        return int(self.arguments.get("x-max-priority", 0))


def _position(message: Stored) -> tuple[int, int]:
    return message.position


class Broker:
    """The broker without connections. It awaits nothing; its callers wait on the clock.

    Args:
        clock: for the life of messages and queues.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.exchanges = {name: BrokerExchange(name, kind, durable=True) for name, kind in _PREDECLARED.items()}
        self.queues: dict[str, BrokerQueue] = {}
        self._names = 0

    # -- declarations ----------------------------------------------------------------

    def declare_exchange(
        self, name: str, kind: str, *, passive: bool, durable: bool, auto_delete: bool, internal: bool,
        arguments: Mapping[str, Any],
    ) -> BrokerExchange:  # fmt: skip
        """Make or find an exchange; raises what closes the channel."""
        if not name and not passive:
            raise amqp_error("ChannelAccessRefused", "ACCESS_REFUSED - operation not permitted on the default exchange")
        known = self.exchanges.get(name)
        if passive:
            return self.exchange(name)
        if kind not in TYPES:
            raise amqp_error("ConnectionCommandInvalid", f"COMMAND_INVALID - unknown exchange type '{kind}'")
        if known is None:
            if name.startswith("amq."):
                raise amqp_error(
                    "ChannelAccessRefused",
                    f"ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'",
                )
            known = self.exchanges[name] = BrokerExchange(name, kind, durable, auto_delete, internal, dict(arguments))
            return known
        for what, received, current in (
            ("type", kind, known.type), ("durable", durable, known.durable),
            ("auto_delete", auto_delete, known.auto_delete), ("internal", internal, known.internal),
            ("alternate-exchange", arguments.get("alternate-exchange"), known.arguments.get("alternate-exchange")),
        ):  # fmt: skip
            if received != current:
                raise _inequivalent(what, "exchange", name, received, current)
        return known

    def declare_queue(
        self, name: str, *, passive: bool, durable: bool, auto_delete: bool, owner: object, connection: object,
        arguments: Mapping[str, Any],
    ) -> BrokerQueue:  # fmt: skip
        """Make or find a queue; *owner* is the connection, if it is to be exclusive."""
        if passive:
            return self.queue(name, connection)
        known = self.queues.get(name) if name else None
        if known is None:
            if name.startswith("amq."):
                raise amqp_error(
                    "ChannelAccessRefused", f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"
                )
            if not name:
                self._names += 1
                name = f"amq.gen-{self._names:022d}"
            _check_arguments(name, arguments)
            known = self.queues[name] = BrokerQueue(name, durable, auto_delete, owner, dict(arguments))
            self.touch(known)
            return known
        if known.owner is not owner:
            raise _locked(name)
        for what, received, current in (
            ("durable", durable, known.durable), ("auto_delete", auto_delete, known.auto_delete),
            *((each, arguments.get(each), known.arguments.get(each)) for each in KNOWN),
        ):  # fmt: skip
            if received != current:
                raise _inequivalent(what, "queue", name, received, current)
        self.touch(known)
        return known

    def exchange(self, name: str) -> BrokerExchange:
        """Return an exchange, or raise that there is none."""
        found = self.exchanges.get(name)
        if found is None:
            raise amqp_error("ChannelNotFoundEntity", f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        return found

    def queue(self, name: str, connection: object) -> BrokerQueue:
        """Return a queue that *connection* may use, or raise why there is none."""
        found = self.queues.get(name)
        if found is None:
            raise amqp_error("ChannelNotFoundEntity", f"NOT_FOUND - no queue '{name}' in vhost '/'")
        if found.owner is not None and found.owner is not connection:
            raise _locked(name)
        self.touch(found)
        return found

    def touch(self, queue: BrokerQueue) -> None:
        """Begin anew to count how long *queue* is unused, if it has ``x-expires``."""
        after = queue.arguments.get("x-expires")
        if after is None or queue.deleted:
            return
        if queue.expiry is not None:
            queue.expiry.cancel()
        queue.expiry = self.clock.call_at(self.clock.now() + after / 1000, lambda: self._unused(queue))

    def _unused(self, queue: BrokerQueue) -> None:
        if queue.consumers:
            self.touch(queue)
        else:
            self.delete_queue(queue)

    def bind(self, exchange: str, binding: Binding) -> None:
        """Add a binding; adding it again changes nothing."""
        if not exchange or (not binding.to_queue and not binding.destination):
            raise amqp_error("ChannelAccessRefused", "ACCESS_REFUSED - operation not permitted on the default exchange")
        if not binding.to_queue:
            self.exchange(binding.destination)
        self.exchange(exchange).bindings[_identity(binding)] = binding

    def unbind(self, exchange: str, binding: Binding) -> None:
        """Remove a binding; one that is not there is as good as removed."""
        found = self.exchanges.get(exchange)
        if found is not None and found.bindings.pop(_identity(binding), None) is not None:
            self._unneeded(found)

    def _unneeded(self, exchange: BrokerExchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(exchange.name)

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange and its bindings; one that is not there is as good as deleted."""
        found = self.exchanges.get(name)
        if found is None:
            return
        if not name or name.startswith("amq."):
            raise amqp_error("ChannelAccessRefused", f"ACCESS_REFUSED - operation not permitted on exchange '{name}'")
        if if_unused and found.bindings:
            raise amqp_error(
                "ChannelPreconditionFailed", f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"
            )
        del self.exchanges[name]
        self._forget_destination(to_queue=False, name=name)

    def delete_queue(self, queue: BrokerQueue, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with what is in it; returns how many messages that were."""
        if if_unused and queue.consumers:
            raise amqp_error(
                "ChannelPreconditionFailed", f"PRECONDITION_FAILED - queue '{queue.name}' in vhost '/' in use"
            )
        if if_empty and queue.ready:
            raise amqp_error(
                "ChannelPreconditionFailed", f"PRECONDITION_FAILED - queue '{queue.name}' in vhost '/' not empty"
            )
        queue.deleted = True
        self.queues.pop(queue.name, None)
        for timer in (queue.timer, queue.expiry):
            if timer is not None:
                timer.cancel()
        self._forget_destination(to_queue=True, name=queue.name)
        count = len(queue.ready)
        queue.ready.clear()
        queue.consumers.clear()
        self.clock.notify()
        return count

    def _forget_destination(self, *, to_queue: bool, name: str) -> None:
        for exchange in tuple(self.exchanges.values()):
            gone = [
                key for key, each in exchange.bindings.items() if each.to_queue == to_queue and each.destination == name
            ]
            for key in gone:
                del exchange.bindings[key]
            if gone:
                self._unneeded(exchange)

    # -- messages ----------------------------------------------------------------------

    def route(self, exchange: str, routing_key: str, headers: Mapping[str, Any]) -> list[BrokerQueue]:
        """Return the queues a message goes to, each once."""
        found: dict[str, BrokerQueue] = {}
        seen: set[str] = set()
        pending = [exchange]
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if not name:
                if (queue := self.queues.get(routing_key)) is not None:
                    found[queue.name] = queue
                continue
            known = self.exchanges.get(name)
            if known is None:
                continue
            matched = [each for each in known.bindings.values() if fits(known.type, each, routing_key, headers)]
            for each in matched:
                if not each.to_queue:
                    pending.append(each.destination)
                elif (queue := self.queues.get(each.destination)) is not None:
                    found[queue.name] = queue
            if not matched and (alternate := known.arguments.get("alternate-exchange")) is not None:
                pending.append(alternate)
        return list(found.values())

    def publish(self, message: Stored, queues: Iterable[BrokerQueue]) -> bool:
        """Put a message into *queues*; return whether all of them took it."""
        taken = True
        for queue in queues:
            taken &= self._enqueue(queue, evolve(message))
        return taken

    def _enqueue(self, queue: BrokerQueue, message: Stored) -> bool:
        overflow = str(queue.arguments.get("x-overflow", "drop-head"))
        if overflow != "drop-head" and self._is_full(queue, 1, len(message.body)):
            if overflow == "reject-publish-dlx":
                self._dead_letter(queue, message, "maxlen")
            return False
        queue.count += 1
        message.position = (-min(message.properties.priority, queue.priorities), queue.count)
        message.expires = self._expiry(queue, message)
        insort(queue.ready, message, key=_position)
        self.pump(queue)
        while queue.ready and self._is_full(queue, 0, 0):
            self._dead_letter(queue, queue.ready.pop(0), "maxlen")
        self._schedule(queue)
        return True

    @staticmethod
    def _is_full(queue: BrokerQueue, more: int, size: int) -> bool:
        limit, limit_bytes = queue.arguments.get("x-max-length"), queue.arguments.get("x-max-length-bytes")
        return (limit is not None and len(queue.ready) + more > limit) or (
            limit_bytes is not None and sum(len(each.body) for each in queue.ready) + size > limit_bytes
        )

    def _expiry(self, queue: BrokerQueue, message: Stored) -> float | None:
        lives = [
            float(each)
            for each in (message.properties.expiration, queue.arguments.get("x-message-ttl"))
            if each is not None
        ]
        return self.clock.now() + min(lives) / 1000 if lives else None

    def _schedule(self, queue: BrokerQueue) -> None:
        """See to it that the head of *queue* goes when its time is over; those behind wait to be the head."""
        now = self.clock.now()
        while queue.ready and (due := queue.ready[0].expires) is not None and due <= now:
            self._dead_letter(queue, queue.ready.pop(0), "expired")
        due = queue.ready[0].expires if queue.ready else None
        if queue.timer is not None and (due is None or queue.timer.when != due or queue.timer.cancelled):
            queue.timer.cancel()
            queue.timer = None
        if due is not None and queue.timer is None:
            queue.timer = self.clock.call_at(due, lambda: self._schedule(queue))

    def take(self, queue: BrokerQueue) -> Stored | None:
        """Take the head of *queue*."""
        self._schedule(queue)
        if not queue.ready:
            return None
        message = queue.ready.pop(0)
        self._schedule(queue)
        return message

    def pump(self, queue: BrokerQueue) -> None:
        """Deliver to consumers what they have room for, in turn."""
        while queue.ready and (consumer := self._next_consumer(queue)) is not None:
            message = self.take(queue)
            if message is None:
                break
            tag = consumer.deliver(queue, message)
            if not consumer.no_ack:
                consumer.unsettled.add(tag)
        self.clock.notify()

    @staticmethod
    def _next_consumer(queue: BrokerQueue) -> Consumer | None:
        consumers = queue.consumers
        if queue.arguments.get("x-single-active-consumer"):
            return consumers[0] if consumers and consumers[0].has_room else None
        best = max((each.priority for each in consumers if each.has_room), default=None)
        for index, each in enumerate(consumers):
            if each.priority == best and each.has_room:
                consumers.append(consumers.pop(index))  # its turn is over until the others had theirs
                return each
        return None

    def requeue(self, queue: BrokerQueue, message: Stored) -> None:
        """Put a delivered message back to where it was; `pump` is up to the caller."""
        if not queue.deleted:
            message.redelivered = True
            insort(queue.ready, message, key=_position)

    def reject(self, queue: BrokerQueue, message: Stored) -> None:
        """Drop a delivered message, to the dead letters if there is a place for them."""
        self._dead_letter(queue, message, "rejected")

    def _dead_letter(self, queue: BrokerQueue, message: Stored, reason: str) -> None:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None or queue.deleted:
            return
        key = str(queue.arguments.get("x-dead-letter-routing-key", message.routing_key))
        properties = evolve(message.properties, headers=self._deaths(queue, message, reason), expiration=None)
        deaths: list[dict[str, Any]] = properties.headers["x-death"]
        found = self.route(exchange, key, properties.headers)
        targets = [each for each in found if not _is_cycle(each.name, deaths, reason)]
        if exchange in self.exchanges:
            self.publish(Stored(message.body, properties, exchange, key), targets)

    def _deaths(self, queue: BrokerQueue, message: Stored, reason: str) -> dict[str, Any]:
        headers = dict(message.properties.headers)
        deaths = [dict(each) for each in headers.get("x-death", ())]
        entry = next((each for each in deaths if each["queue"] == queue.name and each["reason"] == reason), None)
        if entry is not None:
            deaths.remove(entry)
            entry["count"] += 1
        else:
            entry = {
                "count": 1,
                "reason": reason,
                "queue": queue.name,
                "time": datetime.fromtimestamp(int(self.clock.time()), tz=UTC),
                "exchange": message.exchange,
                "routing-keys": [message.routing_key],
            }
            if message.properties.expiration is not None:
                entry["original-expiration"] = message.properties.expiration
        headers["x-death"] = [entry, *deaths]
        headers.setdefault("x-first-death-exchange", message.exchange)
        headers.setdefault("x-first-death-queue", queue.name)
        headers.setdefault("x-first-death-reason", reason)
        return headers

    # -- consumers ---------------------------------------------------------------------

    def add_consumer(self, queue: BrokerQueue, consumer: Consumer) -> None:
        """Let *consumer* have messages from now on."""
        if queue.consumers and (consumer.exclusive or any(each.exclusive for each in queue.consumers)):
            raise amqp_error(
                "ChannelAccessRefused", f"ACCESS_REFUSED - queue '{queue.name}' in vhost '/' in exclusive use"
            )
        queue.consumers.append(consumer)
        self.pump(queue)

    def remove_consumer(self, queue: BrokerQueue, consumer: Consumer) -> None:
        """Give it no more; the last one takes a queue that deletes itself with it."""
        if consumer in queue.consumers:
            queue.consumers.remove(consumer)
            if queue.auto_delete and not queue.consumers:
                self.delete_queue(queue)
            else:
                self.touch(queue)
                self.pump(queue)


_PREDECLARED: Final = {
    "": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers",
    "amq.match": "headers",
}  # fmt: skip


def _identity(binding: Binding) -> tuple[Any, ...]:
    return binding.to_queue, binding.destination, binding.key, repr(sorted(binding.arguments.items()))


def _locked(name: str) -> BaseException:
    return amqp_error(
        "ChannelLockedResource",
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be "
        "originally declared on another connection or the exclusive property value does not match that of the "
        "original declaration.",
    )


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return f"'{str(value).lower()}'" if isinstance(value, bool) else f"'{value}'"


def _inequivalent(what: str, kind: str, name: str, received: object, current: object) -> BaseException:
    if what.startswith("x-"):
        received_text = "none" if received is None else f"the value {_shown(received)}"
        current_text = "none" if current is None else f"the value {_shown(current)}"
    else:
        received_text, current_text = _shown(received), _shown(current)
    return amqp_error(
        "ChannelPreconditionFailed",
        f"PRECONDITION_FAILED - inequivalent arg '{what}' for {kind} '{name}' in vhost '/': "
        f"received {received_text} but current is {current_text}",
    )


def _check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    problem = None
    for each in ("x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority"):
        value = arguments.get(each)
        if value is None:
            continue
        if not isinstance(value, int):
            problem = each, '"expected integer, got longstr"'
        elif value < 0:
            problem = each, f"{{value_negative,{value}}}"
        elif value == 0 and each == "x-expires":
            problem = each, "{value_zero,0}"
    if arguments.get("x-overflow", "drop-head") not in {"drop-head", "reject-publish", "reject-publish-dlx"}:
        problem = "x-overflow", "invalid_overflow"
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        problem = "x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"
    if problem is not None:
        raise amqp_error(
            "ChannelPreconditionFailed",
            f"PRECONDITION_FAILED - invalid arg '{problem[0]}' for queue '{name}' in vhost '/': {problem[1]}",
        )


def _is_cycle(queue: str, deaths: list[dict[str, Any]], reason: str) -> bool:
    """Return whether a message would cycle without a rejection, so that it has to be dropped."""
    if reason == "rejected":
        return False
    for death in deaths:
        if death["reason"] == "rejected":
            return False
        if death["queue"] == queue:
            return True
    return False
