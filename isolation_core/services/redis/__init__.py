"""The Redis double: fakeredis on virtual time, every command a mock."""

from __future__ import annotations

from isolation_core.services.redis._double import RedisDouble
from isolation_core.services.redis._errors import MissingRedisError, RedisLoopError, RedisPrefixError

__all__ = ["MissingRedisError", "RedisDouble", "RedisLoopError", "RedisPrefixError"]
