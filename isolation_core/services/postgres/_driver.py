"""asyncpg's own functions, kept here: what tests or `install` put in their place does not reach the real backend."""

from __future__ import annotations

from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from asyncpg.connection import connect as _connect  # type: ignore[import-untyped]
from asyncpg.pool import create_pool as _create_pool  # type: ignore[import-untyped]

__all__ = ["connect", "create_pool", "module"]

module: Final[Any] = asyncpg
connect: Final[Any] = _connect
create_pool: Final[Any] = _create_pool
