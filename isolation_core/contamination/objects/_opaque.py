"""State that no reference shows, so that it has to be read to be compared."""

from __future__ import annotations

import random
import struct
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final

from isolation_core.contamination._cpython import (
    COUNTER_WORDS,
    HAS_COUNTERS,
    words_of,
)
from isolation_core.contamination._difference import Difference
from isolation_core.contamination._rendering import register_placeholder
from isolation_core.contamination.objects._containers import WHOLE, ObjectState

__all__ = ["BufferState", "CounterState", "GeneratorState", "MemoryFileState", "RandomState", "ReadState", "Remark"]

_LARGE: Final = 1 << 20  # characters or bytes


class Remark(str):
    """Text that replaces a value in reports, without quotes."""

    __slots__ = ()


register_placeholder(Remark)


class ReadState(ObjectState):
    """Base of the states with nothing to compare but what a reading gives."""

    __slots__ = ()
    kind = "object"
    code = "MOD003"

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def agrees(self, one: Any, other: Any) -> bool:
        return bool(one == other)


class GeneratorState(ReadState):
    """How far a generator has come: a note, for it cannot be wound back."""

    __slots__ = ()

    def read(self) -> tuple[int, ...]:
        frame = self.holder.gi_frame
        return () if frame is None else (frame.f_lasti,)

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            yield Difference(WHOLE, before=before, after=after, severity="note")

    def write(self, key: Hashable, value: Any) -> None:
        raise RuntimeError("a generator cannot be wound back")

    def shown(self, value: Any) -> Any:
        return Remark(f"<at instruction {value[0]}>" if value else "<at its end>")


class CounterState(ReadState):
    """The next number of an `itertools.count`: a note, for what was numbered may still be there."""

    __slots__ = ()

    def views(self) -> list[memoryview]:
        return [words_of(self.holder, COUNTER_WORDS)] if HAS_COUNTERS else []

    def rest(self) -> tuple[tuple[Any, ...], dict[Any, Any] | None]:
        return (), None

    def read(self) -> tuple[int, int]:
        if not HAS_COUNTERS:
            return (0, 0)
        number, large = struct.unpack("nP", words_of(self.holder, COUNTER_WORDS))
        return (number, large)

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            yield Difference(WHOLE, before=before, after=after, severity="note")

    def write(self, key: Hashable, value: Any) -> None:
        raise RuntimeError("a counter is not wound back: what it numbered may still be there")

    def shown(self, value: Any) -> Any:
        return Remark("<a number of any type>") if value[1] else value[0]


class MemoryFileState(ReadState):
    """Content and position of an `io.StringIO` or `io.BytesIO`; of a large one only the position."""

    __slots__ = ()
    kind = "container"
    code = "MOD002"

    def read(self) -> tuple[Any, ...]:
        if self.holder.closed:
            return ()
        position = self.holder.tell()
        if position > _LARGE:
            return (Remark("<too large to keep a copy>"), position)
        # The last part is the __dict__, which others may go on writing to.
        state: tuple[Any, ...] = self.holder.__getstate__()[:-1]
        return state

    def write(self, key: Hashable, value: Any) -> None:
        if not value or self.holder.closed:
            raise RuntimeError("a closed file cannot be opened again")
        if type(value[0]) is Remark:
            raise RuntimeError("it was too large to keep a copy")
        # Not write(): it translates line ends a second time.
        self.holder.__setstate__((*value, None))

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            large = bool(before) and type(before[0]) is Remark
            yield Difference(WHOLE, before=before, after=after, severity="note" if large else None)

    def shown(self, value: Any) -> Any:
        return value[0] if value else Remark("<closed>")

    def accessor(self, key: Hashable) -> str:
        return ".getvalue()"


class BufferState(ObjectState):
    """The bytes of a ``bytearray`` or ``array.array``: values without referents."""

    __slots__ = ()

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    def read(self) -> bytes:
        return memoryview(self.holder).tobytes()

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            yield Difference(WHOLE, before=before, after=after)

    def write(self, key: Hashable, value: Any) -> None:
        holder = self.holder
        if isinstance(holder, bytearray):
            bytearray.__setitem__(holder, slice(None), value)
        else:
            del holder[:]
            holder.frombytes(value)


class RandomState(ObjectState):
    """The state of a ``random.Random`` instance.

    Consuming numbers is not a fault, so a difference is a note; it is put back
    all the same, because the next test should draw what it would draw alone.
    """

    __slots__ = ()
    kind = "random"
    code = "RNG002"

    @property
    def targets(self) -> tuple[Any, ...]:
        return ()

    def read(self) -> Any:
        return random.Random.getstate(self.holder)

    def children(self, snapshot: Any) -> Iterable[tuple[Hashable, Any]]:
        return ()

    def diff(self, before: Any, after: Any) -> Iterator[Difference]:
        if before != after:
            yield Difference(WHOLE, before=before, after=after, severity="note")

    def write(self, key: Hashable, value: Any) -> None:
        random.Random.setstate(self.holder, value)

    def accessor(self, key: Hashable) -> str:
        return ".getstate()"

    def agrees(self, one: Any, other: Any) -> bool:
        return bool(one == other)

    def shown(self, value: Any) -> Any:
        return f"state #{hash(value) & 0xFFFFFF:06x}"
