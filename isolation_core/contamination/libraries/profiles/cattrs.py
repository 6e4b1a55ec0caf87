"""cattrs: hooks of converters, with the cache in front of them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import WHOLE, Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, custom


class Hooks(Part):
    """The hooks a converter has. Those that it generates itself, for classes it meets, are left alone."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def _dispatches(self) -> dict[str, Any]:
        converter = self._find()
        return {"structure": converter._structure_func, "unstructure": converter._unstructure_func}

    def read(self) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        for name, dispatch in self._dispatches().items():
            found[name, "predicates", WHOLE] = tuple(dispatch._function_dispatch._handler_pairs)
            for cls, hook in _registry(dispatch).items():
                if cls is not object:
                    found[name, "classes", cls] = hook
            for cls, hook in dispatch._direct_dispatch.items():
                if not _is_generated(hook):
                    found[name, "direct", cls] = hook
        return found

    def put(self, values: Mapping[Key, Any]) -> None:
        for name, dispatch in self._dispatches().items():
            mine = {key[1:]: each for key, each in values.items() if key[0] == name}
            for (where, cls), hook in mine.items():
                if where == "predicates":
                    dispatch._function_dispatch._handler_pairs[:] = hook
                    continue
                table = _registry(dispatch) if where == "classes" else dispatch._direct_dispatch
                if hook is MISSING:
                    table.pop(cls, None)
                else:
                    table[cls] = hook
            if mine:
                dispatch._single_dispatch._clear_cache()
                dispatch.dispatch.cache_clear()
                dispatch.clear_direct()

    def text(self, key: Key) -> str:
        names = f"register_{key[0]}_hook({getattr(key[2], '__qualname__', key[2])})"
        return f"{self.label}.{names if key[1] != 'predicates' else f'register_{key[0]}_hook_func'}"


def _registry(dispatch: Any) -> dict[Any, Any]:
    """Return the table of a `functools.singledispatch`, which shows a view of it only."""
    found: dict[Any, Any] = next(
        each for each in gc.get_referents(dispatch._single_dispatch.registry) if type(each) is dict
    )
    return found


def _is_generated(hook: Any) -> bool:
    """Return whether cattrs has made a hook itself."""
    code = getattr(hook, "__code__", None)
    return code is None or code.co_filename.startswith("<cattrs generated")


PROFILE = Profile(
    "cattrs",
    [Unit("global converter", [custom("cattrs:global_converter", Hooks)])],
    objects=[Unit("Converter", [custom("", Hooks)]), Unit("BaseConverter", [custom("", Hooks)])],
    versions=("22", "27"),
    hint="Register hooks with a cattrs.Converter() of the test's own.",
)
