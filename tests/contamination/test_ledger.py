"""The ledger: the changes it detects, how it describes them, and that undoing is exact."""

from __future__ import annotations

import abc
import array
import collections.abc
import enum
import functools
import gc
import random
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isolation_core.contamination._difference import Difference
from isolation_core.contamination.objects._graph import ObjectGraph
from isolation_core.contamination.objects._slot import ObjectSlot

MODULE = "sample_app"

SOURCE = """
import abc, array, collections, enum, functools, random, threading, types, weakref

COUNT = 0
CONFIG = {"a": {"deep": [1, {"x": 1}]}}
ITEMS = [1, 2, 3]
TAGS = {"red", "blue"}
QUEUE = collections.deque([1, 2], maxlen=5)
ORDERED = collections.OrderedDict(a=1, b=2, c=3)
DEFAULTS = collections.defaultdict(list, a=[1])
COUNTS = collections.Counter("aab")
BUFFER = bytearray(b"abc")
NUMBERS = array.array("i", [1, 2])
LOCAL = threading.local()
LOCAL.user = "nobody"
RANDOM = random.Random(1)
PROXY = types.MappingProxyType({"inner": [1]})
FROZEN = ([1], frozenset({2}))

class Box:
    shelf = []
    def __init__(self): self.value = 1; self.items = [1]
    def method(self): return 1
    @property
    def name(self): return "box"
    @functools.cached_property
    def lazy(self): return object()

class Slotted:
    __slots__ = ("a", "b")
    def __init__(self): self.a = 1

class Child(dict):
    pass

class Color(enum.Enum):
    RED = 1

class Shape(abc.ABC):
    registry = {}

BOX = Box()
SLOTTED = Slotted()
CHILD = Child(x=1)
CHILD.note = [1]
LIVE = weakref.WeakSet()
LIVE.add(BOX)

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step
STEP = counter()

def function(a, b=[], *, c={}):
    return a

@functools.lru_cache
def cached(x): return [x]

@functools.singledispatch
def dispatch(x): return "base"

PARTIAL = functools.partial(function, 1, c={"k": []})
"""


@pytest.fixture
def app() -> Iterator[Any]:
    """A module made from `SOURCE`, loaded for one test."""
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(SOURCE, module.__dict__)
    yield module
    del sys.modules[MODULE]


def watch(module: Any) -> ObjectGraph:
    """Return a ledger with a snapshot of *module*."""
    ledger = ObjectGraph(lambda name: name == MODULE)
    ledger.add_module(MODULE, module)
    ledger.write()
    ledger.moved()
    return ledger


def paths(found: list[tuple[ObjectSlot, Difference]]) -> list[str]:
    """Return where the differences are."""
    return [slot.path() for slot, _ in found]


def undo(ledger: ObjectGraph, found: list[tuple[ObjectSlot, Difference]]) -> None:
    """Put everything back, newest first, orders of keys last."""
    for slot, difference in sorted(reversed(found), key=lambda pair: pair[0].turn):  # noqa: C414 - stable
        slot.write(difference.before)
    ledger.accept([(slot, difference.before) for slot, difference in found])
    ledger.settle()


MUTATIONS: dict[str, tuple[str, str]] = {
    "attribute rebound": ("COUNT = 5", "sample_app.COUNT"),
    "attribute added": ("NEW = 5", "sample_app.NEW"),
    "attribute deleted": ("del COUNT", "sample_app.COUNT"),
    "attribute renamed": ("OTHER = COUNT; del COUNT", "sample_app.COUNT"),
    "nested dict": ("CONFIG['a']['deep'][1]['x'] = 2", "sample_app.CONFIG['a']['deep'][1]['x']"),
    "key renamed": ("CONFIG['b'] = CONFIG.pop('a')", "sample_app.CONFIG['a']"),
    "list appended": ("ITEMS.append(4)", "sample_app.ITEMS"),
    "list sorted": ("ITEMS.reverse()", "sample_app.ITEMS"),
    "list rebound": ("ITEMS = [1, 2, 3]", "sample_app.ITEMS"),
    "set": ("TAGS.add('green'); TAGS.discard('red')", "sample_app.TAGS"),
    "deque": ("QUEUE.append(3)", "sample_app.QUEUE"),
    "ordered dict": ("ORDERED['d'] = 4", "sample_app.ORDERED['d']"),
    "order of an ordered dict": ("ORDERED.move_to_end('a')", "sample_app.ORDERED"),
    "default dict": ("DEFAULTS['b']", "sample_app.DEFAULTS['b']"),
    "default factory": ("DEFAULTS.default_factory = int", "sample_app.DEFAULTS.default_factory"),
    "counter": ("COUNTS['a'] += 1", "sample_app.COUNTS['a']"),
    "bytearray": ("BUFFER.extend(b'd')", "sample_app.BUFFER"),
    "array": ("NUMBERS.append(3)", "sample_app.NUMBERS"),
    "thread local": ("LOCAL.user = 'somebody'", "sample_app.LOCAL.user"),
    "random": ("RANDOM.random()", "sample_app.RANDOM.getstate()"),
    "behind a mapping proxy": ("PROXY['inner'].append(2)", "sample_app.PROXY['inner']"),
    "inside a tuple": ("FROZEN[0].append(2)", "sample_app.FROZEN[0]"),
    "instance attribute": ("BOX.value = 2", "sample_app.BOX.value"),
    "instance attribute renamed": ("BOX.other = BOX.__dict__.pop('value')", "sample_app.BOX.value"),
    "instance dict replaced": ("BOX.__dict__ = {'value': 3}", "sample_app.BOX.value"),
    "cached property": ("BOX.lazy", "sample_app.BOX.lazy"),
    "instance container": ("BOX.items.append(2)", "sample_app.BOX.items"),
    "slot set": ("SLOTTED.b = 2", "sample_app.SLOTTED.b"),
    "slot deleted": ("del SLOTTED.a", "sample_app.SLOTTED.a"),
    "attribute of a dict subclass": ("CHILD.note.append(2)", "sample_app.CHILD.note"),
    "item of a dict subclass": ("CHILD['y'] = 2", "sample_app.CHILD['y']"),
    "class attribute": ("Box.shelf.append(1)", "sample_app.Box.shelf"),
    "class attribute added": ("Box.extra = 1", "sample_app.Box.extra"),
    "method replaced": ("Box.method = lambda self: 2", "sample_app.Box.method"),
    "property replaced": ("Box.name = property(lambda self: 'other')", "sample_app.Box.name"),
    "enum member": ("Color.RED.extra = 1", "sample_app.Color.RED.extra"),
    "enum class": ("Color.zz = 5", "sample_app.Color.zz"),
    "abc registry": ("Shape.register(int)", "sample_app.Shape.register"),
    "closure": ("STEP()", "sample_app.STEP.__closure__[0].cell_contents"),
    "default argument": ("function.__defaults__[0].append(1)", "sample_app.function.__defaults__[0]"),
    "keyword default": ("function.__kwdefaults__['c']['k'] = 1", "sample_app.function.__kwdefaults__['c']['k']"),
    "code": ("function.__code__ = (lambda a, b=1, *, c=2: 2).__code__", "sample_app.function.__code__"),
    "defaults": ("function.__defaults__ = (1,)", "sample_app.function.__defaults__"),
    "function attribute": ("function.calls = 1", "sample_app.function.calls"),
    "cache": ("cached(1)", "sample_app.cached.cache_info().currsize"),
    "singledispatch": ("dispatch.register(int, lambda x: 'int')", "sample_app.dispatch"),
    "partial": ("PARTIAL.keywords['c']['k'].append(1)", "sample_app.PARTIAL.keywords['c']['k']"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_kind_of_change_is_seen_named_and_undone(app: Any, name: str) -> None:
    """Each kind of first-party state is noticed under a path one can paste, and put back exactly."""
    code, path = MUTATIONS[name]
    ledger = watch(app)
    exec(code, app.__dict__)
    found = ledger.moved()
    ledger.settle()
    assert any(found_path.startswith(path) for found_path in paths(found)), paths(found)
    undo(ledger, found)
    fresh = types.ModuleType(MODULE)
    exec(SOURCE, fresh.__dict__)
    assert not ledger.moved()
    assert shape(app.__dict__) == shape(fresh.__dict__)


def shape(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - type by type
    """A description of values that is equal for equal structure and order."""
    if depth > 6 or isinstance(value, types.ModuleType):
        return type(value).__name__
    if isinstance(value, collections.abc.Mapping):
        items = [(k, shape(v, depth + 1)) for k, v in dict(value).items() if k != "__builtins__"]
        shown = items if depth else sorted(items, key=lambda item: str(item[0]))
        return type(value).__name__, shown, vars_of(value, depth)
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value).__name__, [shape(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, (int, str, float, bytes, bytearray, array.array, type(None))):
        return repr(value)
    if isinstance(value, type):
        names = [n for n in vars(value) if n not in ("__dict__", "__weakref__", "_abc_impl", "__abstractmethods__")]
        registry = len(abc._get_dump(value)[0]) if "_abc_impl" in vars(value) else None  # type: ignore[attr-defined]
        return sorted(names), registry, shape(vars(value).get("shelf"), depth + 1)
    if isinstance(value, types.FunctionType):
        if value.__globals__.get("__name__") == "functools":
            return sorted(map(str, vars(value)["registry"])) if "registry" in vars(value) else value.__qualname__
        cells = [shape(cell.cell_contents, depth + 1) for cell in value.__closure__ or ()]
        return (
            value.__code__.co_code,
            shape(value.__defaults__),
            shape(value.__kwdefaults__),
            sorted(vars(value)),
            cells,
        )
    if isinstance(value, functools._lru_cache_wrapper):
        return value.cache_info()
    return type(value).__name__, vars_of(value, depth)


def vars_of(value: Any, depth: int) -> Any:
    """Describe the attributes of *value*, in slots and in its dict."""
    names = [name for name in getattr(type(value), "__slots__", ()) if name != "__weakref__"]
    slots = [(name, getattr(value, name, "unset")) for name in names]
    attributes = getattr(value, "__dict__", {})
    if isinstance(value, enum.Enum | types.MappingProxyType | weakref.WeakSet):
        return sorted(attributes)
    return slots, [(k, shape(v, depth + 1)) for k, v in attributes.items()]


def test_nothing_is_found_where_nothing_happened(app: Any) -> None:
    """Reading, calling and hashing all objects is not a change."""
    ledger = watch(app)
    _ = [repr(value) for value in vars(app).values()], app.BOX.method(), app.function(1), app.CONFIG["a"]
    assert list(app.ORDERED) and app.dispatch(1) and issubclass(app.Box, app.Shape) is False
    assert ledger.moved() == []


def test_warnings_that_were_shown_are_no_finding(app: Any) -> None:
    """What the interpreter writes into the ``__warningregistry__`` of a module while tests warn is not reported."""
    registry: dict[Any, Any] = {"version": 1}
    app.__warningregistry__ = registry
    ledger = watch(app)
    registry.update({"version": 2, ("text", UserWarning, 3): True})
    assert ledger.moved() == []


def test_addresses_are_not_reused_under_our_eyes(app: Any) -> None:
    """A value replaced by a new one at the same address is still a change."""
    app.SLOT = object()
    ledger = watch(app)
    del app.SLOT
    gc.collect()
    app.SLOT = object()
    assert paths(ledger.moved()) == ["sample_app.SLOT"]


def test_watching_more_does_not_swallow_what_changed_meanwhile(app: Any) -> None:
    """Adding, dropping and restoring watched objects leaves other changes to be found."""
    ledger = watch(app)
    app.CONFIG["mine"] = 1
    ledger.add_value("key", "value", [1])
    app.ITEMS.append(9)
    ledger.drop_root("key")
    assert sorted(paths(ledger.moved())) == ["sample_app.CONFIG['mine']", "sample_app.ITEMS"]


class Hostile:
    """An object every question to which raises."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    def __hash__(self) -> int:
        raise RuntimeError("do not hash me")

    def __repr__(self) -> str:
        raise RuntimeError("do not print me")

    def __bool__(self) -> bool:
        raise RuntimeError("do not test me")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("do not look at me")

    @property
    def __class__(self) -> Any:
        raise RuntimeError("do not ask my class")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise RuntimeError("do not set my class")


_TESTS = """
def mark(*marks):
    def attach(function):
        function.pytestmark = list(marks)
        return function
    return attach

@mark("slow")
def test_one(cache=[]):
    pass
"""


@pytest.fixture
def leaf(app: Any) -> Iterator[Any]:
    """A module of tests beside the sample application, and a ledger that knows which is which."""
    module = types.ModuleType("test_leaf")
    exec(_TESTS, module.__dict__)
    sys.modules["test_leaf"] = module
    yield module
    del sys.modules["test_leaf"]


def _ledger_of(*modules: types.ModuleType) -> ObjectGraph:
    names = {module.__name__ for module in modules}
    ledger = ObjectGraph(lambda name: name in names)
    ledger.test_modules = frozenset({"test_leaf"})
    for module in modules:
        ledger.add_module(module.__name__, module)
    ledger.write()
    return ledger


def test_what_only_test_functions_lead_to_is_looked_at_with_their_own_tests(app: Any, leaf: Any) -> None:
    """Marks and defaults of one module's tests cost the tests of other modules nothing, and are not forgotten."""
    ledger = _ledger_of(app, leaf)
    leaf.test_one.pytestmark.append("skip")
    leaf.test_one.__defaults__[0].append(1)
    assert not ledger.moved("test_other")
    found = {f"{slot.path()}: {difference.after}" for slot, difference in ledger.moved("test_leaf")}
    assert len(found) == 2, found
    leaf.test_one.pytestmark.append("xfail")
    assert ledger.moved(None)


def test_what_others_reach_too_is_looked_at_with_every_test(app: Any, leaf: Any) -> None:
    """As soon as the application holds it as well, every test may change it."""
    ledger = _ledger_of(app, leaf)
    app.shared = leaf.test_one.__defaults__
    assert ledger.moved("test_other")
    ledger.settle()
    assert not ledger.moved("test_other")
    app.shared[0].append("entry")
    assert [difference.after for _, difference in ledger.moved("test_other")] == [("entry",)]


def test_a_change_before_others_reach_it_is_not_swallowed(app: Any, leaf: Any) -> None:
    """Changes of a test module, which only its own tests compare, show as soon as another module imports it."""
    ledger = _ledger_of(app, leaf)
    leaf.test_one.__defaults__[0].append("early")
    app.shared = leaf.test_one.__defaults__
    assert ledger.moved("test_other")
    ledger.settle()
    assert [difference.after for _, difference in ledger.moved("test_other")] == [("early",)]


def test_objects_that_refuse_every_question_are_watched_all_the_same(app: Any) -> None:
    """User code is never run to look: not __eq__, __hash__, __repr__, __getattr__ or __class__."""
    app.HOSTILE = [Hostile(), {"k": Hostile()}]
    ledger = watch(app)
    app.HOSTILE[1]["k"] = Hostile()
    app.HOSTILE.append(Hostile())
    found = ledger.moved()
    assert sorted(paths(found)) == ["sample_app.HOSTILE", "sample_app.HOSTILE[1]['k']"]
    undo(ledger, found)
    assert len(app.HOSTILE) == 2
    assert ledger.moved() == []


def test_cycles_end(app: Any) -> None:
    """A structure that contains itself is walked once and undone."""
    loop: list[Any] = [1]
    app.LOOP = loop
    loop.append(loop)
    ledger = watch(app)
    loop.append(2)
    undo(ledger, ledger.moved())
    assert len(loop) == 2
    assert loop[1] is loop


def test_the_ledger_lets_go_of_what_its_owner_dropped(app: Any) -> None:
    """Once a change is settled, the old value dies with its last real owner."""
    app.HELD = app.Box()
    ledger = watch(app)
    reference = weakref.ref(app.HELD)
    app.HELD = None
    ledger.moved()
    ledger.settle()
    assert reference() is None
    assert len(ledger) == len(watch(app))


def test_weak_members_die_while_they_are_watched(app: Any) -> None:
    """The members of a WeakSet are not kept alive, and a dead member is not a change."""
    box = app.Box()
    app.LIVE.add(box)
    ledger = watch(app)
    del box
    assert len(app.LIVE) == 1
    assert ledger.moved() == []


def test_a_cache_keeps_what_it_held_before(app: Any) -> None:
    """Only what a test added leaves a functools cache: the same arguments give the same object."""
    before = app.cached(1)
    ledger = watch(app)
    app.cached(2)
    undo(ledger, ledger.moved())
    assert app.cached(1) is before
    assert app.cached.cache_info().currsize == 1


def test_subclasses_with_their_own_ideas_are_read_and_written_below_them(app: Any) -> None:
    """Overridden container methods are neither asked nor triggered."""
    exec(
        "class Liar(dict):\n"
        "    def __iter__(self): raise RuntimeError\n"
        "    def __setitem__(self, key, value): raise RuntimeError\n"
        "    def __delitem__(self, key): raise RuntimeError\n"
        "    def items(self): raise RuntimeError\n"
        "    def copy(self): raise RuntimeError\n"
        "class LiarList(list):\n"
        "    def __iter__(self): raise RuntimeError\n"
        "    def __len__(self): return 0\n"
        "LIAR = Liar(a=1); LIARS = LiarList([1, 2])",
        app.__dict__,
    )
    ledger = watch(app)
    dict.__setitem__(app.LIAR, "b", 2)
    dict.__delitem__(app.LIAR, "a")
    list.append(app.LIARS, 3)
    found = ledger.moved()
    assert {*paths(found)} == {"sample_app.LIAR['a']", "sample_app.LIAR['b']", "sample_app.LIAR", "sample_app.LIARS"}
    undo(ledger, found)
    assert dict.__repr__(app.LIAR) == "{'a': 1}"
    assert list.__len__(app.LIARS) == 2


# -- generated graphs, generated mutations -------------------------------------


class Thing:
    """A plain object of the generated graphs."""


class Slots:
    """A slotted object of the generated graphs."""

    __slots__ = ("x", "y")


LEAVES = st.one_of(st.integers(0, 3), st.sampled_from("ab"), st.none(), st.floats(allow_nan=False, width=16))
KEYS = st.sampled_from(["a", "b", "c", 1, 2.0, None, (1, 2)])
NAMES = st.sampled_from(["x", "y"])


def _thing(attributes: dict[str, Any]) -> Thing:
    thing = Thing()
    thing.__dict__.update(attributes)
    return thing


def _slots(attributes: dict[str, Any]) -> Slots:
    slots = Slots()
    for name, value in attributes.items():
        setattr(slots, name, value)
    return slots


def _containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(children, max_size=3),
        st.dictionaries(KEYS, children, max_size=3),
        st.dictionaries(KEYS, children, max_size=3).map(collections.OrderedDict),
        st.sets(st.integers(0, 9), max_size=3),
        st.lists(children, max_size=3).map(collections.deque),
        st.dictionaries(NAMES, children, max_size=2).map(_thing),
        st.dictionaries(NAMES, children, max_size=2).map(_slots),
        st.binary(max_size=3).map(bytearray),
        st.tuples(children, children),
    )


GRAPHS = st.dictionaries(st.sampled_from("PQRS"), st.recursive(LEAVES, _containers, max_leaves=12), min_size=1)


def collect(root: dict[str, Any]) -> list[Any]:
    """Every mutable object of a graph, in a stable order."""
    found: list[Any] = []
    stack = [value for name, value in sorted(root.items())]
    while stack:
        value = stack.pop()
        if any(value is known for known in found):
            continue
        if isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, (list, collections.deque)):
            found.append(value)
            stack.extend(value)
        elif isinstance(value, dict):
            found.append(value)
            stack.extend(value.values())
        elif isinstance(value, Thing):
            found.append(value)
            stack.extend(value.__dict__.values())
        elif isinstance(value, Slots):
            found.append(value)
            stack.extend(getattr(value, name) for name in Slots.__slots__ if hasattr(value, name))
        elif isinstance(value, (set, bytearray)):
            found.append(value)
    return found


def picture(root: dict[str, Any]) -> list[Any]:
    """Everything that has to be as before: identities, contents, order."""
    lines: list[Any] = [sorted((name, id(value)) for name, value in root.items())]
    for value in collect(root):
        if isinstance(value, dict):
            lines.append((id(value), [(id(k), id(v)) for k, v in value.items()]))
        elif isinstance(value, (list, collections.deque)):
            lines.append((id(value), [id(item) for item in value]))
        elif isinstance(value, Thing):
            lines.append((id(value), [(name, id(item)) for name, item in value.__dict__.items()]))
        elif isinstance(value, Slots):
            lines.append((id(value), [(n, id(getattr(value, n))) for n in Slots.__slots__ if hasattr(value, n)]))
        elif isinstance(value, set):
            lines.append((id(value), sorted(value)))
        else:
            lines.append((id(value), bytes(value)))
    return lines


def mutate(root: dict[str, Any], data: st.DataObject) -> None:  # noqa: C901, PLR0912 - type by type
    """Make one random change somewhere in the graph."""
    places = collect(root)
    value = data.draw(st.recursive(LEAVES, _containers, max_leaves=4))
    if not places or data.draw(st.integers(0, 5)) == 0:
        name = data.draw(st.sampled_from("PQRST"))
        if name in root and data.draw(st.booleans()):
            del root[name]
        else:
            root[name] = value
        return
    place = data.draw(st.sampled_from(range(len(places))))
    target = places[place]
    if isinstance(target, dict):
        key = data.draw(KEYS)
        step = data.draw(st.sampled_from(["set", "pop", "clear", "rename", "again"]))
        if step == "set":
            target[key] = value
        elif step == "pop":
            target.pop(key, None)
        elif step == "clear":
            target.clear()
        elif step == "rename" and target:
            first = next(iter(target))
            target[key] = target.pop(first)
        elif target:
            first = next(iter(target))
            target[first] = target.pop(first)
    elif isinstance(target, (list, collections.deque)):
        step = data.draw(st.sampled_from(["append", "pop", "reverse", "clear"]))
        if step == "append":
            target.append(value)
        elif step == "pop" and target:
            target.pop()
        elif step == "reverse":
            target.reverse()
        else:
            target.clear()
    elif isinstance(target, set):
        target.symmetric_difference_update({data.draw(st.integers(0, 9))})
    elif isinstance(target, bytearray):
        target.extend(b"z")
    else:
        name = data.draw(NAMES)
        if hasattr(target, name) and data.draw(st.booleans()):
            delattr(target, name)
        else:
            setattr(target, name, value)


@settings(max_examples=300, deadline=None)
@given(graph=GRAPHS, data=st.data())
def test_restoring_brings_back_the_identical_graph(graph: dict[str, Any], data: st.DataObject) -> None:
    """Same objects, same contents, same order after any mutations; restoring twice changes nothing."""
    module = types.ModuleType("generated_app")
    module.__dict__.update(graph)
    ledger = ObjectGraph(lambda name: name in ("generated_app", __name__))
    ledger.add_module("generated_app", module)
    ledger.write()
    ledger.moved()
    names = tuple(graph)

    def contents() -> dict[str, Any]:
        return {k: v for k, v in vars(module).items() if not k.startswith("__")}

    before = picture(contents())
    keep = [contents()]
    log: list[tuple[ObjectSlot, Difference]] = []
    for _ in range(data.draw(st.integers(1, 4))):
        root = contents()
        mutate(root, data)
        for name in (*names, "P", "Q", "R", "S", "T"):
            if name in root:
                module.__dict__[name] = root[name]
            else:
                module.__dict__.pop(name, None)
        keep.append(root)
        log += ledger.moved()
        if data.draw(st.booleans()):
            ledger.settle()
    undo(ledger, log)
    assert picture(contents()) == before
    assert ledger.moved() == []
    undo(ledger, log)
    assert picture(contents()) == before
    assert ledger.moved() == []
