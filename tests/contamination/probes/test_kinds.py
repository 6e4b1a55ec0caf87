"""Every kind of state the built-in probes watch: noticed, named, put back, and quiet when nothing happened."""

# ruff: noqa: D103 - a pollution is said by its name and its one line.
from __future__ import annotations

import asyncio
import atexit
import builtins
import calendar
import codecs
import contextvars
import copyreg
import csv
import decimal
import email.charset
import faulthandler
import functools
import gc
import gettext
import importlib
import io
import json
import logging
import mimetypes
import multiprocessing
import os
import random
import reprlib
import shutil
import signal
import socket
import sqlite3
import ssl
import sys
import sysconfig
import tempfile
import threading
import time
import tracemalloc
import types
import urllib.parse
import urllib.request
import warnings
import weakref
import webbrowser
import xml.etree.ElementTree as ET
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from isolation_core import isolation_barrier
from isolation_core.contamination import Difference, Probe
from isolation_core.contamination.probes._builtin import builtin_probes

KEPT: list[Any] = []
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)
CONFIG: dict[str, int] = {}


def _replaces_handlers() -> bool:
    logger = logging.Logger("zz.sample")  # noqa: LOG001 - not one of the tree
    logger.addHandler(logging.NullHandler())
    held = logger.handlers
    logger.removeHandler(held[0])
    return logger.handlers is not held


REPLACES_HANDLERS = _replaces_handlers()


class Box:
    """An object of the project."""


BOX = Box()
Pollution = Callable[[], object]
POLLUTIONS: dict[str, tuple[Pollution, str]] = {}


def pollutes(*paths: str) -> Callable[[Pollution], Pollution]:
    """Register a pollution and the paths its findings must have."""

    def register(function: Pollution) -> Pollution:
        POLLUTIONS[function.__name__] = (function, "|".join(paths))
        return function

    return register


@pollutes("os.environ['ZZ_NEW']")
def env_new() -> None:
    os.environ["ZZ_NEW"] = "1"


@pollutes("os.environ['PATH']")
def env_changed() -> None:
    os.environ["PATH"] += ":/zz"


@pollutes("os.environ['PATH']")
def env_deleted() -> None:
    del os.environ["PATH"]


@pollutes("os.environ")
def env_rebound() -> None:
    os.environ = os.environ.copy()  # type: ignore[assignment]  # noqa: B003


@pollutes("os.environ['ZZ_BELOW'] (C level)")
def env_below() -> None:
    os.putenv("ZZ_BELOW", "1")


@pollutes("os.environ['PATH'] (C level)")
def env_below_changed() -> None:
    os.putenv("PATH", "/zz")


@pollutes("os.environ['PATH'] (C level)")
def env_below_deleted() -> None:
    os.unsetenv("PATH")


@pollutes("os.getcwd()")
def cwd() -> None:
    os.chdir("/")


@pollutes("os.getcwd()")
def cwd_deleted() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


@pollutes("os.umask()")
def umask() -> None:
    os.umask(0o777)


@pollutes("sys.argv[")
def argv() -> None:
    sys.argv.append("zz")


@pollutes("sys.argv")
def argv_rebound() -> None:
    sys.argv = ["zz"]


@pollutes("sys.path[0]")
def path_front() -> None:
    sys.path.insert(0, "/zz")


@pollutes("sys.path[")
def path_removed() -> None:
    del sys.path[-1]


@pollutes("sys.path (order)")
def path_order() -> None:
    sys.path.reverse()


@pollutes("sys.path")
def path_rebound() -> None:
    sys.path = ["/zz", *sys.path[::-1]]


@pollutes("sys.meta_path[0]")
def meta_path() -> None:
    finder: Any = types.SimpleNamespace(find_spec=lambda *_: None)
    sys.meta_path.insert(0, finder)


@pollutes("sys.path_hooks[")
def path_hooks() -> None:
    def refuse(path: str) -> Any:
        raise ImportError(path)

    sys.path_hooks.append(refuse)


@pollutes("sys.warnoptions[")
def warnoptions() -> None:
    sys.warnoptions.append("error")


@pollutes("sys.path_importer_cache['/zz']")
def importer_cache() -> None:
    sys.path_importer_cache["/zz"] = Box()  # type: ignore[assignment]


@pollutes("sys.modules['zz_fake']")
def module_fake() -> None:
    sys.modules["zz_fake"] = types.ModuleType("zz_fake")


@pollutes("sys.modules['zz_mock']")
def module_mock() -> None:
    sys.modules["zz_mock"] = mock.MagicMock()


@pollutes("sys.modules['zz_none']")
def module_none() -> None:
    sys.modules["zz_none"] = None  # type: ignore[assignment]


@pollutes("sys.modules['zz_alias']")
def module_alias() -> None:
    sys.modules["zz_alias"] = json


@pollutes("sys.modules['json.decoder']")
def module_removed() -> None:
    del sys.modules["json.decoder"]


@pollutes("sys.modules['json.decoder']")
def module_replaced() -> None:
    fake = types.ModuleType("json.decoder")
    sys.modules["json.decoder"] = fake
    json.decoder = fake


@pollutes("sys.modules")
def modules_rebound() -> None:
    sys.modules = dict(sys.modules)


@pollutes("builtins.zz")
def builtin_new() -> None:
    builtins.zz = 1  # type: ignore[attr-defined]


@pollutes("builtins.open")
def builtin_open() -> None:
    original = builtins.open
    builtins.open = functools.partial(original)  # type: ignore[assignment]


@pollutes("builtins.__import__")
def builtin_import() -> None:
    original = builtins.__import__
    builtins.__import__ = functools.partial(original)


@pollutes("builtins.ascii")
def builtin_deleted() -> None:
    del builtins.ascii


@pollutes("builtins._")
def builtin_translation() -> None:
    gettext.install("zz")


@pollutes("sys.stdout")
def stdout() -> None:
    sys.stdout = io.StringIO()


@pollutes("sys.stdin")
def stdin_none() -> None:
    sys.stdin = None


@pollutes("sys.__stderr__")
def original_stderr() -> None:
    sys.__stderr__ = io.StringIO()  # type: ignore[misc, assignment]


@pollutes("sys.__stdout__.errors")
def stream_reconfigured() -> None:
    assert isinstance(sys.__stdout__, io.TextIOWrapper)
    sys.__stdout__.reconfigure(errors="xmlcharrefreplace")


@pollutes("sys.excepthook")
def excepthook() -> None:
    sys.excepthook = lambda *_: None


@pollutes("sys.displayhook")
def displayhook() -> None:
    sys.displayhook = lambda _: None


@pollutes("sys.unraisablehook")
def unraisablehook() -> None:
    sys.unraisablehook = lambda _: None


@pollutes("sys.breakpointhook")
def breakpointhook() -> None:
    sys.breakpointhook = lambda *_, **__: None


@pollutes("threading.excepthook")
def thread_excepthook() -> None:
    threading.excepthook = lambda _: None


@pollutes("threading.gettrace()")
def thread_trace() -> None:
    threading.settrace(lambda *_: None)


@pollutes("threading.getprofile()")
def thread_profile() -> None:
    threading.setprofile(lambda *_: None)


@pollutes("sys.getprofile()")
def profile() -> None:
    sys.setprofile(lambda *_: None)


@pollutes("sys.get_asyncgen_hooks().firstiter")
def asyncgen_hooks() -> None:
    sys.set_asyncgen_hooks(firstiter=lambda _: None)


@pollutes("sys.get_coroutine_origin_tracking_depth()")
def origin_depth() -> None:
    sys.set_coroutine_origin_tracking_depth(3)


@pollutes("sys.dont_write_bytecode")
def bytecode() -> None:
    sys.dont_write_bytecode = not sys.dont_write_bytecode


@pollutes("sys.pycache_prefix")
def pycache_prefix() -> None:
    sys.pycache_prefix = "/zz"


@pollutes("sys.tracebacklimit")
def traceback_limit() -> None:
    sys.tracebacklimit = 1


@pollutes("sys.ps1")
def prompt() -> None:
    sys.ps1 = "zz"


@pollutes("sys.getrecursionlimit()")
def recursion_limit() -> None:
    sys.setrecursionlimit(sys.getrecursionlimit() + 1)


@pollutes("sys.getswitchinterval()")
def switch_interval() -> None:
    sys.setswitchinterval(0.125)


@pollutes("sys.get_int_max_str_digits()")
def digits() -> None:
    sys.set_int_max_str_digits(5000)


@pollutes("threading.stack_size()")
def stack_size() -> None:
    threading.stack_size(1 << 20)


@pollutes("faulthandler.is_enabled()")
def fault_handler() -> None:
    (faulthandler.disable if faulthandler.is_enabled() else faulthandler.enable)()


@pollutes("tracemalloc.get_traceback_limit()")
def tracing_memory() -> None:
    tracemalloc.start(3)


@pollutes("gc.isenabled()")
def gc_disabled() -> None:
    gc.disable()


@pollutes("gc.get_threshold()")
def gc_threshold() -> None:
    gc.set_threshold(1, 2, 3)


@pollutes("gc.get_debug()")
def gc_debug() -> None:
    gc.set_debug(gc.DEBUG_UNCOLLECTABLE)


@pollutes("gc.callbacks[")
def gc_callback() -> None:
    gc.callbacks.append(lambda *_: None)


@pollutes("warnings.filters[0]")
def warning_filter() -> None:
    warnings.filterwarnings("ignore", "zz unlikely")


@pollutes("warnings.filters[")
def warnings_reset() -> None:
    warnings.resetwarnings()


@pollutes("warnings.showwarning")
def show_warning() -> None:
    warnings.showwarning = lambda *_, **__: None


@pollutes("warnings.formatwarning")
def format_warning() -> None:
    warnings.formatwarning = lambda *_, **__: ""


@pollutes("warnings.defaultaction")
def default_action() -> None:
    warnings.defaultaction = "error"  # type: ignore[attr-defined]


@pollutes("warnings.onceregistry[")
def once_registry() -> None:
    warnings.onceregistry["zz"] = 1  # type: ignore[attr-defined]


@pollutes("logging.getLogger().level")
def root_level() -> None:
    logging.getLogger().setLevel(7)


@pollutes("logging.getLogger().handlers[")
def root_handler() -> None:
    logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))


@pollutes("logging.getLogger('zz.new').level")
def logger_level() -> None:
    logging.getLogger("zz.new").setLevel("ERROR")


@pollutes("logging.getLogger('zz.new').handlers[0]")
def logger_handler() -> None:
    logging.getLogger("zz.new").addHandler(logging.NullHandler())


@pollutes("logging.getLogger('zz.old').handlers[0]", "logging.getLogger('zz.old').filters[0]")
def logger_emptied() -> None:
    logging.getLogger("zz.old").handlers.clear()
    logging.getLogger("zz.old").filters.clear()


# From 3.14.10 on removing a handler rebinds the list, so that what is in it counts and not which list it is.
@pollutes("logging.getLogger('zz.old').handlers[" if REPLACES_HANDLERS else "logging.getLogger('zz.old').handlers")
def handlers_rebound() -> None:
    logging.getLogger("zz.old").handlers = []


@pollutes("logging.getLogger('zz.old').handlers (order)")
def handlers_reordered() -> None:
    logging.getLogger("zz.old").handlers.reverse()


@pollutes("logging.getLogger('zz.new').propagate", "logging.getLogger('zz.old').disabled")
def logger_flags() -> None:
    logging.getLogger("zz.new").propagate = False
    logging.getLogger("zz.old").disabled = True


@pollutes("logging.getLogger('zz.old').handlers[0].level")
def handler_level() -> None:
    logging.getLogger("zz.old").handlers[0].setLevel(7)


@pollutes("logging.getLogger('zz.old').handlers[0].formatter")
def handler_formatter() -> None:
    logging.getLogger("zz.old").handlers[0].setFormatter(logging.Formatter("%(levelname)s"))


@pollutes("logging.getLogger('zz.old').handlers[0].formatter.datefmt")
def formatter_changed() -> None:
    formatter = logging.getLogger("zz.old").handlers[0].formatter
    assert formatter is not None
    formatter.datefmt = "zz"


@pollutes("logging.getLogger('zz.old').handlers[0].filters")
def handler_filter() -> None:
    logging.getLogger("zz.old").handlers[0].addFilter(lambda _: True)


@pollutes("logging.getLogger('zz.old').handlers[0].stream")
def handler_stream() -> None:
    logging.getLogger("zz.old").handlers[0].stream = io.StringIO()  # type: ignore[attr-defined]


@pollutes("logging.root.manager.disable")
def logging_disabled() -> None:
    logging.disable(logging.CRITICAL)


@pollutes("logging.raiseExceptions")
def logging_raise() -> None:
    logging.raiseExceptions = not logging.raiseExceptions


@pollutes("logging.lastResort")
def last_resort() -> None:
    logging.lastResort = None


@pollutes("logging.lastResort.level")
def last_resort_level() -> None:
    assert logging.lastResort is not None
    logging.lastResort.setLevel(7)


@pollutes("logging.getLoggerClass()")
def logger_class() -> None:
    logging.setLoggerClass(type("Mine", (logging.Logger,), {}))


@pollutes("logging.getLogRecordFactory()")
def record_factory() -> None:
    logging.setLogRecordFactory(functools.partial(logging.LogRecord))


@pollutes("logging._levelToName[33]", "logging._nameToLevel['ZZ']")
def level_name() -> None:
    logging.addLevelName(33, "ZZ")


@pollutes("logging.root.manager.loggerDict['zz.old']")
def logger_removed() -> None:
    del logging.root.manager.loggerDict["zz.old"]


@pollutes("time.tzname")
def time_zone() -> None:
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()


@pollutes("decimal.getcontext().prec", "decimal.getcontext().traps")
def decimal_context() -> None:
    decimal.getcontext().prec = 5
    decimal.getcontext().traps[decimal.Inexact] = True


@pollutes("decimal.getcontext()")
def decimal_context_set() -> None:
    decimal.setcontext(decimal.Context(prec=3))


@pollutes("decimal.DefaultContext.rounding", "decimal.BasicContext.traps")
def decimal_template() -> None:
    decimal.DefaultContext.rounding = decimal.ROUND_UP
    decimal.BasicContext.traps[decimal.Inexact] = True


@pollutes("random.getstate()")
def random_seed() -> None:
    random.seed(1)


@pollutes("signal.getsignal(signal.SIGUSR1)")
def signal_handler() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)


@pollutes("signal.getsignal(signal.SIGINT)")
def interrupt_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pollutes("signal.getitimer(signal.ITIMER_REAL)")
def alarm() -> None:
    signal.alarm(1000)


@pollutes("signal.getitimer(signal.ITIMER_VIRTUAL)")
def timer() -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)


@pollutes("signal.pthread_sigmask(")
def signal_mask() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


@pollutes("signal.set_wakeup_fd()")
def wakeup_descriptor() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    KEPT.extend((ours, theirs))
    signal.set_wakeup_fd(theirs.fileno())


@pollutes("unittest.mock.patch('json.dumps')")
def patch_started() -> None:
    mock.patch("json.dumps").start()


@pollutes("unittest.mock.patch(json.loads)")
def patch_object_started() -> None:
    mock.patch.object(json, "loads").start()


@pollutes("unittest.mock.patch(dict 'tests.contamination.probes.test_kinds.CONFIG')")
def patch_dict_started() -> None:
    mock.patch.dict(CONFIG, {"zz": 1}).start()


@pollutes(f"{__name__}.VARIABLE")
def context_variable() -> None:
    VARIABLE.set(5)


@pollutes("asyncio.get_event_loop_policy()")
def loop_policy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())


@pollutes("asyncio.get_event_loop()")
def loop_set() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


@pollutes("codecs.register()[")
def codec_search() -> None:
    codecs.register(lambda _: None)


@pollutes("codecs.lookup_error('zz')")
def codec_errors() -> None:
    codecs.register_error("zz", lambda _: ("", 0))


@pollutes("copyreg.dispatch_table[")
def pickler() -> None:
    copyreg.pickle(Box, lambda _: (Box, ()))


@pollutes("mimetypes._db.types_map[True]['.zz']")
def mime_type() -> None:
    mimetypes.add_type("x/zz", ".zz")


@pollutes("socket.getdefaulttimeout()")
def socket_timeout() -> None:
    socket.setdefaulttimeout(5)


@pollutes("csv.field_size_limit()")
def csv_limit() -> None:
    csv.field_size_limit(7)


@pollutes("csv.get_dialect('zz')")
def csv_dialect() -> None:
    csv.register_dialect("zz", delimiter="|")


@pollutes("csv.get_dialect('excel')")
def csv_dialect_removed() -> None:
    csv.unregister_dialect("excel")


@pollutes("shutil._ARCHIVE_FORMATS['zz']")
def archive_format() -> None:
    shutil.register_archive_format("zz", lambda *_: None)


@pollutes("shutil._UNPACK_FORMATS['zip']")
def unpack_format() -> None:
    shutil.unregister_unpack_format("zip")


@pollutes("xml.etree.ElementTree._namespace_map['http://zz']")
def namespace() -> None:
    ET.register_namespace("zz", "http://zz")


@pollutes("email.charset.CHARSETS['zz']", "email.charset.ALIASES['zy']", "email.charset.CODEC_MAP['zz']")
def mail_charset() -> None:
    email.charset.add_charset("zz")
    email.charset.add_alias("zy", "zz")
    email.charset.add_codec("zz", "utf-8")


@pollutes("sqlite3.adapters[", "sqlite3.converters['ZZ']")
def database_adapter() -> None:
    sqlite3.register_adapter(Box, str)
    sqlite3.register_converter("zz", int)


@pollutes("multiprocessing.get_start_method(allow_none=True)")
def start_method() -> None:
    multiprocessing.set_start_method("spawn", force=True)


@pollutes("sysconfig._INSTALL_SCHEMES['zz']")
def install_scheme() -> None:
    sysconfig._INSTALL_SCHEMES["zz"] = {}  # type: ignore[attr-defined]


@pollutes("webbrowser._browsers['zz']")
def browser() -> None:
    webbrowser.register("zz", None)


@pollutes("gettext._current_domain")
def text_domain() -> None:
    gettext.textdomain("zz")


@pollutes("gettext._localedirs['zz']")
def text_folder() -> None:
    gettext.bindtextdomain("zz", "/zz")


@pollutes("reprlib.aRepr.maxstring")
def repr_limit() -> None:
    reprlib.aRepr.maxstring = 5


@pollutes("urllib.parse.uses_netloc[")
def url_scheme() -> None:
    urllib.parse.uses_netloc.append("zz")


@pollutes("urllib.request._opener")
def url_opener() -> None:
    urllib.request.install_opener(urllib.request.build_opener())


@pollutes("ssl._create_default_https_context")
def tls_context() -> None:
    ssl._create_default_https_context = ssl._create_unverified_context  # type: ignore[assignment]


@pollutes("tempfile.tempdir")
def temporary_folder() -> None:
    tempfile.tempdir = "/zz"


@pollutes("calendar.firstweekday()")
def first_weekday() -> None:
    calendar.setfirstweekday(calendar.SUNDAY)


@pollutes("zoneinfo.TZPATH")
def zone_path() -> None:
    zoneinfo.reset_tzpath(to=["/zz"])


@pollutes("atexit.register(<function ")
def exit_callback() -> None:
    def at_exit() -> None:
        """Belongs to the project."""

    atexit.register(at_exit)


@pollutes("weakref.finalize(")
def finalizer() -> None:
    weakref.finalize(BOX, int)


def look(probes: tuple[Probe, ...]) -> list[Any]:
    """Return a snapshot of every probe."""
    return [probe.capture() for probe in probes]


def moved(probes: tuple[Probe, ...], before: list[Any], after: list[Any]) -> list[tuple[Probe, Difference]]:
    """Return what a barrier would call a difference."""
    found = []
    for probe, was, now in zip(probes, before, after, strict=True):
        if now is not was and not probe.same(was, now):
            found += [(probe, d) for d in probe.diff(was, now) if not probe.agrees(d.key, d.before, d.after)]
    return found


def _newest_first(found: list[tuple[Probe, Difference]]) -> list[tuple[Probe, Difference]]:
    back = found[::-1]
    back.sort(key=lambda pair: pair[0].kind != "patch")
    return back


def undo(found: list[tuple[Probe, Difference]]) -> None:
    """Restore all differences, patches first, newest first, and notify each probe at the end."""
    for probe, difference in _newest_first(found):
        probe.restore(difference.key, difference.before)
    for probe in dict.fromkeys(probe for probe, _ in found):
        probe.finish()


@pytest.fixture(scope="module")
def probes() -> tuple[Probe, ...]:
    """The built-in probes, in the order a barrier asks them."""
    return builtin_probes()


@pytest.fixture(autouse=True)
def random_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a plugin seeds the generator for each test, the probe leaves it alone."""
    monkeypatch.delitem(sys.modules, "pytest_randomly", raising=False)


@pytest.fixture(autouse=True)
def old_logger() -> Iterator[None]:
    """A logger that was set up before."""
    logger = logging.getLogger("zz.old")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.addHandler(logging.NullHandler())
    logger.addFilter(logging.Filter())
    # Made at first use, by whichever test is first.
    mimetypes.init()
    yield
    logging.root.manager.loggerDict.pop("zz.old", None)
    logging.root.manager.loggerDict.pop("zz.new", None)
    while KEPT:
        KEPT.pop().close()


@pytest.mark.parametrize("name", POLLUTIONS)
def test_pollution_is_noticed_named_and_undone(name: str, probes: tuple[Probe, ...]) -> None:
    """Each pollution has a difference whose path names it; undoing brings the old state back, once and for all."""
    pollute, paths = POLLUTIONS[name]
    before = look(probes)
    pollute()
    after = look(probes)
    found = moved(probes, before, after)
    undo(found)
    now = look(probes)
    left = [probe.describe(d.key) for probe, d in moved(probes, before, now)]
    undo(found)
    again = [probe.describe(d.key) for probe, d in moved(probes, now, look(probes))]
    named = [probe.describe(difference.key) for probe, difference in found]
    # An address is another one in each run: neither a reader nor a baseline would know it again.
    shown = [probe.render(d.key, value) for probe, d in found for value in (d.before, d.after)]
    assert not [text for text in (*named, *shown) if "0x" in text]
    for path in paths.split("|"):
        assert any(text.startswith(path) if path[-1] in "[( " else text == path for text in named), named
    assert left == []
    assert again == []
    for probe, difference in found:
        for value in (difference.before, difference.after):
            assert 0 < len(probe.render(difference.key, value)) <= 200


@pytest.mark.parametrize("name", POLLUTIONS)
def test_pollution_shows_through_barriers_that_only_glance(name: str) -> None:
    """After looks at which nothing moved, when probes are no longer asked, each pollution shows, twice in a row."""
    pollute, paths = POLLUTIONS[name]
    # Not the heap: it would take from this module what it keeps open.
    kinds = [probe.kind for probe in builtin_probes()]
    with isolation_barrier(probes=kinds):
        for _ in range(2):
            for _ in range(2):
                with isolation_barrier(probes=kinds) as quiet:
                    pass
                assert quiet.clean
            with isolation_barrier(probes=kinds) as barrier:
                pollute()
            named = [change.path for change in barrier.changes] + [leak.path for leak in barrier.leaks]
            for path in paths.split("|"):
                assert any(text.startswith(path) if path[-1] in "[( " else text == path for text in named), named


def test_several_pollutions_at_once_are_undone_together(probes: tuple[Probe, ...]) -> None:
    """The order in which differences are undone does not matter."""
    before = look(probes)
    for name in ("path_front", "path_order", "argv_rebound", "env_new", "time_zone", "logger_level", "warning_filter"):
        POLLUTIONS[name][0]()
    found = moved(probes, before, look(probes))
    undo(found[::-1])
    assert moved(probes, before, look(probes)) == []


QUIET: dict[str, Pollution] = {
    "nothing": lambda: None,
    "a new logger": lambda: logging.getLogger("zz.new.quiet.one"),
    "a real import": lambda: importlib.import_module("wave"),
    "reading the environment": lambda: os.environ.get("HOME"),
    "sleeping": lambda: time.sleep(0),
    "the runner's own variable": lambda: os.environ.__setitem__("PYTEST_CURRENT_TEST", "x"),
    "catch_warnings": lambda: warnings.catch_warnings().__enter__(),
    "a cached temporary folder": tempfile.gettempdir,
    "a decimal signal": lambda: decimal.Decimal(1) / 3,
    "a reset context variable": lambda: VARIABLE.reset(VARIABLE.set(3)),
    "a patch that was stopped": lambda: mock.patch("json.dumps").__enter__() and mock.patch.stopall(),
    "a thread": lambda: threading.Thread(target=int).start(),
    "the garbage collector": gc.collect,
    "a temporary folder object": lambda: tempfile.TemporaryDirectory().cleanup(),
    "an atexit callback of a library": lambda: atexit.register(logging.shutdown),
    "logging something": lambda: logging.getLogger("zz.old").warning("hello"),
    "the default start method": multiprocessing.get_start_method,
    "the last value of a doctest": lambda: setattr(builtins, "_", 5),
}


@pytest.mark.parametrize("name", QUIET)
def test_harmless_things_are_no_difference(name: str, probes: tuple[Probe, ...]) -> None:
    """The side effects of every healthy test are not reported."""
    before = look(probes)
    patcher = mock.patch("json.dumps")
    patcher.start()
    patcher.stop()
    if name != "a patch that was stopped":
        QUIET[name]()
    found = [probe.describe(d.key) for probe, d in moved(probes, before, look(probes))]
    if hasattr(builtins, "_"):
        delattr(builtins, "_")
    assert found == []


def test_unchanged_state_returns_the_same_snapshot(probes: tuple[Probe, ...]) -> None:
    """Two looks in a row give the identical snapshot, so that comparing costs nothing."""
    look(probes)
    first, second = look(probes), look(probes)
    assert [p.kind for p, a, b in zip(probes, first, second, strict=True) if a is not b] == []


def test_kinds_and_codes_are_unique(probes: tuple[Probe, ...]) -> None:
    """Each probe has a kind and a code of its own, and says what it costs."""
    assert len({probe.kind for probe in probes}) == len({probe.code for probe in probes}) == len(probes)
    assert all(probe.cost > 0 for probe in probes)
