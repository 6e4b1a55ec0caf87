"""What keeps a Redis double from working."""

from __future__ import annotations

from isolation_core.errors import IsolationError

__all__ = ["MissingRedisError", "RedisLoopError", "RedisPrefixError"]


class MissingRedisError(IsolationError, ImportError):
    """redis or fakeredis is not installed.

    Attributes:
        package: which of them.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        super().__init__(f"the Redis double needs {package}: pip install 'isolation-core[redis]'")


class RedisLoopError(IsolationError, RuntimeError):
    """The Redis double was used under trio; redis.asyncio, whose shape it has, knows asyncio only."""

    def __init__(self) -> None:
        super().__init__(
            "the Redis double runs on asyncio only, like redis.asyncio and fakeredis; run this test with asyncio, "
            "or use double.sync_client() under trio"
        )


class RedisPrefixError(IsolationError, ValueError):
    """On a real server, a command cannot be kept inside the key prefix of the double.

    Attributes:
        command: the command.
    """

    def __init__(self, command: str, why: str) -> None:
        self.command = command
        super().__init__(
            f"{command} cannot be kept inside the key prefix of this double: {why}. "
            "Run it on a client of your own if it must reach the whole server."
        )
