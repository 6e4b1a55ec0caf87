"""numpy: the global generator if it was seeded, and the content of arrays of own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from isolation_core.contamination.libraries._parts import Key, Part
from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, custom, resolve, value

_LARGEST: Final = 65_536
"""Arrays of more bytes are not copied."""


def _state(module: Any) -> Any:
    return module._rand.get_state(legacy=False)


def _same_state(one: Any, other: Any) -> bool:
    if one["bit_generator"] != other["bit_generator"]:
        return False
    if one["bit_generator"] != "MT19937":
        return repr(one) == repr(other)
    mine, theirs = one["state"], other["state"]
    return bool(
        mine["pos"] == theirs["pos"]
        and one["has_gauss"] == other["has_gauss"]
        and mine["key"].tobytes() == theirs["key"].tobytes()
    )


def _keep_if_drawn(_: Any, changes: Changes) -> Mapping[tuple[int, Key], str]:
    """Return the generator if its new state is the old one after drawing numbers: else every test draws the same."""
    kept = {}
    for key, (before, after) in changes.items():
        if before["bit_generator"] == after["bit_generator"] == "MT19937" and _is_advanced(before, after):
            kept[key] = "numbers were drawn from it, it was not seeded"
    return kept


def _is_advanced(before: Any, after: Any, rounds: int = 64) -> bool:
    wanted = after["state"]["key"].tobytes()
    generator = resolve("numpy.random:MT19937")()
    generator.state = {"bit_generator": "MT19937", "state": before["state"]}
    for _ in range(rounds):
        if generator.state["state"]["key"].tobytes() == wanted:
            return True
        generator.random_raw(624)
    return False


class Array(Part):
    """Content, shape and writeability of one array of plain numbers."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def read(self) -> dict[Key, Any]:
        array = self._find()
        if array.nbytes > _LARGEST or array.dtype.hasobject:
            return {}
        return {("content",): (array.tobytes(), repr(array.shape), repr(array.dtype), bool(array.flags.writeable))}

    def put(self, values: Mapping[Key, Any]) -> None:
        array = self._find()
        for data, shape, dtype, writeable in values.values():
            if repr(array.shape) != shape or repr(array.dtype) != dtype:
                raise RuntimeError("an array whose shape or type was changed stays as it is")
            if array.tobytes() != data:
                if not array.flags.writeable:
                    array.setflags(write=True)
                fresh = resolve("numpy:frombuffer")(data, dtype=array.dtype).reshape(array.shape)
                array[...] = fresh
            if bool(array.flags.writeable) != writeable:
                array.setflags(write=writeable)

    def text(self, key: Key) -> str:
        return self.label


PROFILE = Profile(
    "numpy",
    [
        Unit(
            "generator",
            [
                value(
                    "numpy.random.mtrand:",
                    "",
                    _state,
                    lambda module, state: module._rand.set_state(state),
                    _same_state,
                    fresh=True,
                )
            ],
            keep=_keep_if_drawn,
        )
    ],
    objects=[Unit("ndarray", [custom("", Array)])],
    versions=("1.24", "3"),
    hint="Use a generator of the test's own: numpy.random.default_rng(seed).",
)
