"""Which partition a message goes to: as Kafka's own clients do it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

__all__ = ["SeededPartitioner", "murmur2"]

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_WORD: Final = 4


def murmur2(data: bytes) -> int:
    """Return the MurmurHash2 of *data*, 32 bits, with the seed of Kafka's clients."""
    hashed = _SEED ^ len(data)
    whole = len(data) // _WORD * _WORD
    for position in range(0, whole, _WORD):
        word = int.from_bytes(data[position : position + _WORD], "little") * _M & _MASK
        word = (word ^ word >> 24) * _M & _MASK
        hashed = hashed * _M & _MASK ^ word
    if rest := data[whole:]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return hashed ^ hashed >> 15


class SeededPartitioner:
    """The default: by the hash of the key; without a key any partition, by dice that repeat from run to run.

    The client rolls the dice of the module ``random``, which belong to the test.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - to repeat, not to hide

    def __call__(self, key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]) -> int:
        """Choose one of *available* without a key, of *all_partitions* with one."""
        if key is None:
            return self._dice.choice(available or all_partitions)
        return all_partitions[(murmur2(key) & 0x7FFFFFFF) % len(all_partitions)]
