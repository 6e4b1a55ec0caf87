"""A real Redis server, shared with others: every key and channel of a double begins with a prefix of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from isolation_core.services.redis._errors import RedisPrefixError
from isolation_core.services.redis._fake import member

__all__ = ["Prefix", "prefixed_client_class"]

_CHANNELS: Final = frozenset({"SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE"})
_FIRST_IS_CHANNEL: Final = frozenset({"PUBLISH", "SPUBLISH"})
_WHOLE_SERVER: Final = frozenset(
    {"FLUSHDB", "FLUSHALL", "SWAPDB", "RANDOMKEY", "DBSIZE", "SHUTDOWN", "CONFIG SET", "SCRIPT FLUSH", "SORT",
     "SORT_RO", "MIGRATE", "MONITOR"}
)  # fmt: skip
_CONTAINERS: Final = frozenset({"XGROUP", "XINFO", "OBJECT", "MEMORY"})
_NAMED_IN_REPLY: Final = frozenset(
    {"BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "LMPOP", "BLMPOP", "ZMPOP", "BZMPOP", "XREAD", "XREADGROUP", "KEYS"}
)
_MESSAGES: Final = frozenset(
    {"message", "pmessage", "smessage", "subscribe", "psubscribe", "unsubscribe", "punsubscribe", "ssubscribe",
     "sunsubscribe"}
)  # fmt: skip


class Prefix:
    """Puts the prefix on what goes to the server, and takes it off what comes back.

    Args:
        text: the prefix.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._bytes = text.encode()
        self._specs: dict[str, tuple[int, int, int, bool]] = {}

    def put(self, value: Any) -> Any:
        """Return a key, channel or pattern with the prefix."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes + bytes(value)
        return f"{self.text}{value}"

    def take(self, value: Any) -> Any:
        """Return *value* without the prefix, wherever in a reply it stands as a name."""
        if isinstance(value, bytes):
            return value.removeprefix(self._bytes)
        if isinstance(value, str):
            return value.removeprefix(self.text)
        if isinstance(value, Mapping):
            return {self.take(key): each for key, each in value.items()}
        return value

    def take_names(self, command: str, reply: Any) -> Any:
        """Return the reply of *command* without the prefix on names of keys."""
        if command == "SCAN" and isinstance(reply, (list, tuple)):
            return type(reply)((reply[0], [self.take(each) for each in reply[1]]))
        if command not in _NAMED_IN_REPLY or not reply:
            return reply
        if command == "KEYS":
            return [self.take(each) for each in reply]
        if command in ("XREAD", "XREADGROUP"):
            if isinstance(reply, Mapping):
                return self.take(reply)
            return [type(each)((self.take(each[0]), *each[1:])) for each in reply]
        return type(reply)((self.take(reply[0]), *reply[1:]))

    async def put_names(self, client: Any, args: Sequence[Any]) -> tuple[Any, ...]:
        """Return a command with the prefix on every key.

        Raises:
            RedisPrefixError: if it reaches beyond the prefix.
        """
        words = str(args[0]).upper().split()
        command, count = " ".join(words), 1
        rest = list(args)
        if len(words) > 1:
            rest, count = [*words, *args[1:]], len(words)
        if command in _WHOLE_SERVER or words[0] in _WHOLE_SERVER:
            raise RedisPrefixError(command, "it concerns keys of others")
        if words[0] in ("SCAN", "KEYS"):
            return tuple(self._pattern(rest))
        if words[0] in _FIRST_IS_CHANNEL:
            return (*rest[:count], self.put(rest[count]), *rest[count + 1 :])
        word = f"{words[0]}|{str(rest[1]).upper()}" if words[0] in _CONTAINERS and len(rest) > 1 else words[0]
        first, last, step, movable = await self._spec(client, word)
        if movable:
            return tuple(await self._movable(client, rest))
        if first:
            end = last if last >= 0 else len(rest) + last
            for index in range(first, min(end, len(rest) - 1) + 1, step):
                rest[index] = self.put(rest[index])
        # The client takes two words apart again; what it parses replies by is the first argument.
        return (args[0], *rest[count:])

    def _pattern(self, args: list[Any]) -> list[Any]:
        if str(args[0]).upper() == "KEYS":
            return [args[0], self.put(args[1])]
        upper = [each.upper() if isinstance(each, str) else each for each in args]
        for name in ("MATCH", b"MATCH"):
            if name in upper[2:]:
                index = upper.index(name, 2) + 1
                return [*args[:index], self.put(args[index]), *args[index + 1 :]]
        return [*args, "MATCH", self.put("*")]

    async def _spec(self, client: Any, word: str) -> tuple[int, int, int, bool]:
        found = self._specs.get(word)
        if found is None:
            info = await client._unprefixed("COMMAND INFO", word)
            entry = next(iter(info.values()), None) if isinstance(info, Mapping) else info and info[0]
            if not entry:
                found = (0, 0, 0, False)
            elif isinstance(entry, Mapping):
                flags = {flag.decode() if isinstance(flag, bytes) else str(flag) for flag in entry["flags"]}
                found = (
                    entry["first_key_pos"], entry["last_key_pos"], max(1, entry["step_count"]), "movablekeys" in flags,
                )  # fmt: skip
            else:
                flags = {flag.decode() if isinstance(flag, bytes) else str(flag) for flag in entry[2]}
                found = (entry[3], entry[4], max(1, entry[5]), "movablekeys" in flags)
            self._specs[word] = found
        return found

    async def _movable(self, client: Any, args: list[Any]) -> list[Any]:
        names = await client._unprefixed("COMMAND GETKEYS", *args)
        encode = client.get_encoder().encode
        position = 1
        for name in names:
            wanted = encode(name)
            while encode(args[position]) != wanted:
                position += 1
            args[position] = self.put(args[position])
            position += 1
        return args


def _command_of(args: Sequence[Any]) -> str:
    return str(args[0]).upper().split()[0]


@cache
def prefixed_client_class() -> Any:
    """Return the class of clients that stay inside a prefix."""
    client, pipeline, pubsub = (member("redis.asyncio.client", name) for name in ("Redis", "Pipeline", "PubSub"))

    class PrefixedRedis(client):  # type: ignore[misc, valid-type]
        """A client of the real server."""

        prefix: Prefix

        async def _unprefixed(self, *args: Any) -> Any:
            return await super().execute_command(*args)

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            named = await self.prefix.put_names(self, args)
            return self.prefix.take_names(_command_of(args), await super().execute_command(*named, **options))

        def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:  # noqa: FBT001, FBT002
            pipe = PrefixedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
            pipe.prefix, pipe.plain = self.prefix, self
            return pipe

        def pubsub(self, **options: Any) -> Any:
            subscription = PrefixedPubSub(self.connection_pool, **options)
            subscription.prefix = self.prefix
            return subscription

    class PrefixedPipeline(pipeline):  # type: ignore[misc, valid-type]
        """A pipeline of such a client; the prefix is put on when it is sent."""

        prefix: Prefix
        plain: Any
        command_stack: list[Any]

        async def watch(self, *names: Any) -> Any:
            if self.explicit_transaction:
                return await super().watch(*names)  # raises what the real one does
            return await super().immediate_execute_command("WATCH", *map(self.prefix.put, names))

        async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
            named = await self.prefix.put_names(self.plain, args)
            return self.prefix.take_names(_command_of(args), await super().immediate_execute_command(*named, **options))

        async def execute(self, raise_on_error: bool = True) -> Any:  # noqa: FBT001, FBT002 - the real one's
            written = list(self.command_stack)
            self.command_stack = [
                (await self.prefix.put_names(self.plain, args), options) for args, options in self.command_stack
            ]
            replies = await super().execute(raise_on_error)
            return [
                self.prefix.take_names(_command_of(args), reply)
                for (args, _), reply in zip(written, replies, strict=True)
            ]

    class PrefixedPubSub(pubsub):  # type: ignore[misc, valid-type]
        """A subscription of such a client."""

        prefix: Prefix

        async def execute_command(self, *args: Any) -> Any:
            names = map(self.prefix.put, args[1:]) if _command_of(args) in _CHANNELS else args[1:]
            return await super().execute_command(args[0], *names)

        async def parse_response(self, *args: Any, **options: Any) -> Any:
            response = await super().parse_response(*args, **options)
            if not isinstance(response, list) or not response:
                return response
            kind = response[0].decode() if isinstance(response[0], bytes) else response[0]
            if kind not in _MESSAGES:
                return response
            names = 2 if kind == "pmessage" else 1
            return [response[0], *map(self.prefix.take, response[1 : 1 + names]), *response[1 + names :]]

    return PrefixedRedis
