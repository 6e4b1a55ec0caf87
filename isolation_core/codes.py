"""Every code a finding can have, with its meaning, the reason why it matters, and a better way."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

__all__ = ["CODES", "FindingCode"]


@frozen
class FindingCode:
    """The description of one stable code.

    Attributes:
        code: the code.
        kind: the kind of the findings that have it.
        title: a few words: what happened.
        explanation: a paragraph: how it is noticed and why it matters.
        fix: advice on what to write. Its first sentence fits on one line of a summary.
        reserved: whether no part of this version reports it.
    """

    code: str
    kind: str = field(kw_only=True)
    title: str = field(kw_only=True)
    explanation: str = field(kw_only=True)
    fix: str = field(kw_only=True)
    reserved: bool = field(default=False, kw_only=True)


def _code(code: str, kind: str, title: str, explanation: str, fix: str, *, reserved: bool = False) -> FindingCode:
    return FindingCode(code, kind=kind, title=title, explanation=explanation, fix=fix, reserved=reserved)


_MONKEYPATCH: Final = "Use monkeypatch.setattr(...) or mock.patch.object(...), which undo it."

_FIRST_PARTY: Final = (
    _code(
        "MOD001",
        "module",
        "module attribute set, replaced or deleted",
        "A global of one of your modules is not the object it was. Every later test that imports the module sees it.",
        _MONKEYPATCH,
    ),
    _code(
        "MOD002",
        "container",
        "container changed in place",
        "A list, dict, set or other container that your modules hold has other items than before. It is put back "
        "item by item in the same object, so that everybody who holds it sees the old content.",
        "Use monkeypatch.setitem(...) or mock.patch.dict(...), or work on a copy. Or empty it after yield.",
    ),
    _code(
        "MOD003",
        "object",
        "attribute of a shared object changed",
        "An object that your modules, a wider fixture or a parametrize list hold has other attributes than before.",
        "Make the object in a fixture, or use monkeypatch.setattr(...).",
    ),
    _code(
        "MOD004",
        "function",
        "function changed",
        "Code, defaults or attributes of a function are not what they were; a mutable default argument that "
        "collects values is the usual case.",
        "Use None as the default and make the object inside. Patch functions with monkeypatch.setattr(...).",
    ),
    _code(
        "MOD005",
        "closure",
        "variable of a closure changed",
        "A function that your modules hold keeps state in a variable of the function it was made in.",
        "Make the closure in a fixture, one for each test.",
    ),
    _code(
        "MOD006",
        "foreign-module",
        "attribute of an installed module replaced",
        "A name of a library or standard-library module that your code imports is bound to another object.",
        _MONKEYPATCH,
    ),
    _code(
        "MOD007",
        "thread-local",
        "thread-local value changed",
        "A threading.local of your modules holds another value for this thread than before.",
        "Reset it in a fixture after yield.",
    ),
    _code(
        "MOD008",
        "cache",
        "cache filled",
        "A functools cache of your modules has entries it did not have. What a cache remembers from one test answers "
        "the next one.",
        "Call its cache_clear() in a fixture after yield. There is no need if its answers never change.",
    ),
    _code(
        "MOD009",
        "container",
        "weak container changed",
        "A WeakSet, WeakKeyDictionary or WeakValueDictionary of your modules has other members than before.",
        "Unregister what the test registered, or drop the last reference to it.",
    ),
    _code(
        "MOD010",
        "container",
        "singledispatch implementation registered",
        "A functools.singledispatch function has an implementation it did not have.",
        "Register at import time, or dispatch on a function made in the test.",
    ),
    _code(
        "LIB001",
        "library",
        "state of a library changed",
        "Configuration, a registry or a hook of an installed library is not what it was. Every later test that uses "
        "the library sees it. What belongs together is put back whole, or left whole if a part of it cannot be.",
        "Use what the library has for tests, or undo it in a fixture after yield.",
    ),
    _code(
        "MOD011",
        "module",
        "module executed again",
        "A module was reloaded: its functions and classes are new objects, those imported elsewhere the old ones.",
        "Do not reload in a test. Set what the module reads with monkeypatch.setattr(), or reload in another process.",
    ),
    _code(
        "IMP001",
        "import",
        "first import that had an effect",
        "A test was the first to import this module. What the module did elsewhere when it was executed is kept, "
        "because nothing would do it again. The same is true of what it computed from state that the test had changed.",
        "Import it in conftest.py. Then it is executed before the first test, in an unchanged world.",
    ),
    _code(
        "CLS001",
        "class",
        "class attribute or method changed",
        "The namespace of one of your classes is not what it was: all instances, old and new, are affected.",
        "Use monkeypatch.setattr(Class, ...) or mock.patch.object(Class, ...).",
    ),
    _code(
        "CLS002",
        "foreign-class",
        "attribute of an installed class changed",
        "A class of a library that your code imports has another attribute or method than before.",
        "Use monkeypatch.setattr(Class, ...) or mock.patch.object(Class, ...).",
    ),
    _code(
        "CLS003",
        "class",
        "virtual subclass registered",
        "A class was registered with an abstract base class, so isinstance() answers differently from now on.",
        "Derive from the base class, or register at import time.",
    ),
    _code(
        "RNG002",
        "random",
        "generator of your own advanced",
        "A random.Random instance of your modules is not in the state it was in.",
        "Make the generator in a fixture with a fixed seed.",
    ),
)

_PROCESS: Final = (
    _code(
        "ENV001",
        "environ",
        "environment variable left behind",
        "os.environ was changed: a variable set, changed or deleted, the mapping itself replaced, or a variable set "
        "past Python with os.putenv(). Child processes and C libraries see it. Values are not shown, only their "
        "length and a fingerprint that is equal for equal values within one run.",
        "Use monkeypatch.setenv(...) or mock.patch.dict(os.environ, ...).",
    ),
    _code(
        "CWD001",
        "cwd",
        "working directory changed",
        "The process is in another folder, or in one that was deleted: every relative path means something else.",
        "Use monkeypatch.chdir(...) or contextlib.chdir(...).",
    ),
    _code(
        "CWD002",
        "umask",
        "file mode mask changed",
        "os.umask() was set: files made from now on have other permissions.",
        "Set it back after yield: old = os.umask(0o077), yield, os.umask(old).",
    ),
    _code(
        "STD001",
        "stream",
        "standard stream replaced",
        "sys.stdin, sys.stdout or sys.stderr is another object. Output of later tests is lost.",
        "Use capsys, redirect_stdout(...) or monkeypatch.setattr(sys, ...).",
    ),
    _code(
        "STD002",
        "stream-settings",
        "standard stream reconfigured",
        "Encoding, error handling or buffering of a standard stream was changed with reconfigure().",
        "Reconfigure a stream of the test's own, or set it back after yield.",
    ),
    _code(
        "SIG001",
        "signal",
        "signal handler changed",
        "A signal has another handler than before. Handlers installed from C are reported, never overwritten.",
        "Keep what signal.signal(...) returns and set it again after yield.",
    ),
    _code(
        "SIG002",
        "timer",
        "timer left armed",
        "An interval timer or alarm() will send its signal in the middle of a later test.",
        "Call signal.setitimer(which, 0) or signal.alarm(0) after yield.",
    ),
    _code(
        "SIG003",
        "signal-mask",
        "signal mask or wake-up descriptor changed",
        "The main thread blocks other signals than before, or writes to another descriptor when one arrives.",
        "Call signal.pthread_sigmask(signal.SIG_SETMASK, old) after yield.",
    ),
    _code(
        "LOC001",
        "locale",
        "locale changed",
        "A category of the process-wide locale is another: number formats, sorting and encodings change with it.",
        "Set it back with locale.setlocale(category, old) after yield.",
    ),
    _code(
        "LOC002",
        "timezone",
        "time zone changed",
        "time.tzset() was called with another TZ. Taking the variable back is not enough: it must be called again.",
        "After yield, call monkeypatch.undo(), then time.tzset(). Or pass zoneinfo objects explicitly.",
    ),
)

_INTERPRETER: Final = (
    _code(
        "PTH001",
        "path",
        "import path, import hooks or arguments changed",
        "sys.path, sys.argv, sys.meta_path, sys.path_hooks or sys.warnoptions was replaced, or has other items or "
        "another order. Imports may find other files from now on.",
        "Use monkeypatch.syspath_prepend(...) or monkeypatch.setattr(sys, ...).",
    ),
    _code(
        "PTH002",
        "importer-cache",
        "finder put into the importer cache",
        "sys.path_importer_cache holds a finder that the import system did not make.",
        "Use monkeypatch.setitem(sys.path_importer_cache, ...).",
    ),
    _code(
        "SYM001",
        "modules",
        "sys.modules tampered with",
        "A fake module was left in sys.modules, or a module was removed or replaced. Modules that were really "
        "imported are never taken out again: a second import would give every class a second identity.",
        "Use monkeypatch.setitem(sys.modules, ...) or mock.patch.dict(...).",
    ),
    _code(
        "BLT001",
        "builtins",
        "builtin replaced, added or deleted",
        "A name in builtins is another object. Every module sees it.",
        "Use monkeypatch.setattr(builtins, ...). Better, patch the name in the module under test.",
    ),
    _code(
        "HOK001",
        "hook",
        "interpreter hook replaced",
        "sys.excepthook, displayhook, unraisablehook or breakpointhook is another function.",
        "Use monkeypatch.setattr(sys, 'excepthook', ...).",
    ),
    _code(
        "HOK002",
        "thread-hook",
        "thread hook replaced",
        "threading.excepthook, or what new threads are traced or profiled with, is another function.",
        "Use monkeypatch.setattr(threading, 'excepthook', ...). Call threading.settrace(None) after yield.",
    ),
    _code(
        "HOK003",
        "trace",
        "trace, profile or asynchronous hook left on",
        "sys.settrace(), sys.setprofile(), sys.set_asyncgen_hooks() or coroutine origin tracking was not undone in "
        "this thread. Coverage tools and debuggers are left alone.",
        "Keep the old value and set it again in a fixture after yield.",
    ),
    _code(
        "HOK004",
        "monitoring",
        "monitoring tool left registered",
        "A tool id of sys.monitoring is in use that was free.",
        "Call sys.monitoring.free_tool_id(id) in a fixture after yield.",
    ),
    _code(
        "INT001",
        "flag",
        "interpreter flag changed",
        "An attribute of sys that steers the interpreter was set, replaced or deleted.",
        "Use monkeypatch.setattr(sys, ...).",
    ),
    _code(
        "INT002",
        "interpreter",
        "interpreter limit or switch changed",
        "A recursion, digit or time limit, the stack size of threads, fault handling or memory tracing differs.",
        "Keep the old value and set it again in a fixture after yield.",
    ),
    _code(
        "INT003",
        "gc",
        "garbage collector reconfigured",
        "The collector was disabled, or has other thresholds, debug flags or callbacks.",
        "Wrap the code: gc.disable(), try, finally gc.enable().",
    ),
    _code(
        "WRN001",
        "warnings",
        "warning filters or hooks changed",
        "Filters, the default action or the functions that show warnings differ. Later tests get other warnings, or "
        "errors where there were none.",
        "Wrap the code in `with warnings.catch_warnings():`. Or mark the test with pytest.mark.filterwarnings.",
    ),
    _code(
        "LOG001",
        "logging",
        "logging set-up changed",
        "A logger, handler or formatter, or a switch of the logging module, is not what it was. A handler that was "
        "left behind keeps writing to a stream that is closed by now; dictConfig() disables every logger it does "
        "not name.",
        "Use caplog.set_level(...), or undo it in a fixture after yield. Set disable_existing_loggers to False.",
    ),
    _code(
        "RNG001",
        "random",
        "random numbers drawn or seeded",
        "The generator behind the functions of random moved on. That is not a fault; it is put back so that the "
        "next test draws the same numbers as when it runs alone.",
        "Use a random.Random(seed) of the test's own where the numbers matter.",
    ),
    _code(
        "NUM001",
        "decimal",
        "decimal context changed",
        "Precision, rounding or traps of the current decimal context differ.",
        "Wrap the code in `with decimal.localcontext() as context:`.",
    ),
    _code(
        "NUM002",
        "decimal-templates",
        "decimal template changed",
        "decimal.DefaultContext or one of its siblings differs: every context made from now on is affected.",
        "Wrap the code in `with decimal.localcontext() as context:`.",
    ),
    _code(
        "CTX001",
        "contextvar",
        "context variable left set",
        "A ContextVar has another value than before. One that had no value and has no default cannot be unset "
        "without the token of its set().",
        "Keep the token: token = var.set(...), yield, var.reset(token).",
    ),
    _code(
        "AIO001",
        "event-loop",
        "event loop or policy left set",
        "The event loop policy is another one, or a loop is set as the current one while none is running.",
        "Use asyncio.run(...) or asyncio.Runner. Call asyncio.set_event_loop(None) after yield.",
    ),
    _code(
        "REG001",
        "registry",
        "standard-library registry changed",
        "A table or default that a standard-library module keeps for the whole process has changed.",
        "Unregister it, or set the old value, in a fixture after yield.",
    ),
    _code(
        "REG002",
        "mimetypes",
        "MIME type added or changed",
        "The table behind mimetypes.guess_type() has changed.",
        "Use a mimetypes.MimeTypes() object of the test's own.",
    ),
    _code(
        "REG003",
        "codec",
        "codec or error handler registered",
        "A codec search function or an error handler was left registered.",
        "Call codecs.unregister(function) in a fixture after yield.",
    ),
    _code(
        "EXT001",
        "atexit",
        "atexit callback left registered",
        "A function of your own will run when the process ends, on state that is long gone by then.",
        "Call atexit.unregister(function) in a fixture after yield.",
    ),
    _code(
        "EXT002",
        "finalizer",
        "finalizer left on a living object",
        "weakref.finalize() was called on an object that lives on.",
        "Keep the finalizer and call its detach() in a fixture after yield.",
    ),
)

_LIVING: Final = (
    _code(
        "MCK001",
        "patch",
        "patch started and not stopped",
        "patcher.start() of unittest.mock was called without stop(): the target stays replaced. Only patches started "
        "inside are stopped, newest first.",
        "Use `with patch(...)`, the decorator, or addCleanup(patcher.stop). With pytest-mock, use the mocker fixture.",
    ),
    _code(
        "MCK002",
        "coroutine",
        "call of a mock never awaited",
        "An isolated asynchronous mock was called and the coroutine it gave was not awaited.",
        "Await the call, or use a mock whose method is not asynchronous.",
    ),
    _code(
        "MCK004",
        "mock",
        "isolated mock of a wider scope changed",
        "A mock that outlives the test, a module global or the value of a wider fixture, was called or configured.",
        "Make the mock in a fixture of the test, or reset(mock) at its end.",
    ),
    _code(
        "THR001",
        "thread",
        "thread still running",
        "A thread started inside was still alive after a grace period. Threads cannot be killed, only waited for.",
        "Signal it to end and join() it in a fixture after yield. Shut executors down.",
    ),
    _code(
        "TSK001",
        "task",
        "task still pending",
        "An asynchronous task started inside was not finished when its owner ended.",
        "Await it, cancel it, or start it in a task group.",
    ),
    _code(
        "FDS001",
        "fd",
        "file descriptor left open, closed or redirected",
        "The set of open descriptors, or what one of them refers to, differs.",
        "Use `with open(...)`, or close it in a fixture after yield.",
    ),
    _code(
        "FIX001",
        "fixture",
        "fixture up after its scope",
        "A managed fixture was still up when the barrier it lives in had been torn down: its cleanup was never begun.",
        "Look at the error of the teardown that ended early. Leave a barrier in the way it was entered.",
    ),
    _code(
        "FIX002",
        "fixture",
        "cleanup of a fixture cut short",
        "The teardown of a managed fixture, or a cleanup of it, took longer than its budget and was cancelled: the "
        "code behind the place where it waited never ran.",
        "Find out what it waits for, or raise timeout= of the fixture.",
    ),
    _code(
        "SVC001",
        "service",
        "open or unused at the end",
        "A connection, transaction, producer, subscription or message of a service double was neither closed nor "
        "consumed when its barrier or scenario ended, or an HTTP route was never called. The double closed what it "
        "could; the real service would have kept it.",
        "Use `async with`, or close, stop, acknowledge or consume it.",
    ),
    _code(
        "SVC002",
        "service",
        "unused fault rule",
        "A fault was planned, and no call came that it applied to: the test does not test what it says.",
        "Correct the pattern and conditions, or add it with optional=True.",
    ),
    _code(
        "PRC001",
        "process",
        "child process left behind",
        "A process started inside was still running, or had ended without being waited for.",
        "Use `with Popen(...)`, or terminate() and wait() after yield.",
        reserved=True,
    ),
    _code(
        "FIL001",
        "file",
        "file left behind",
        "Files appeared, changed or went away outside of the folders that are made for the test.",
        "Write to tmp_path.",
        reserved=True,
    ),
    _code(
        "COL001",
        "collection",
        "changed while tests were collected",
        "Importing a test module changed state that other modules share, before the first test ran.",
        "Move the change from module level into a fixture.",
        reserved=True,
    ),
    _code(
        "HEA001",
        "heal",
        "could not be put back",
        "The old value was written and is still not there. The process is dirty: later tests may be affected.",
        "Run the test in a process of its own until it cleans up after itself. The finding gives the reason.",
        reserved=True,
    ),
    _code(
        "USR001",
        "custom",
        "reported by a probe of your own",
        "A probe registered with register_probe() saw a difference.",
        "Give the probe its own `code` to distinguish its findings.",
    ),
)

_DECISIONS: Final = (
    _code(
        "UND001",
        "decision",
        "set-up of a class or module for itself",
        "Attributes that setUpClass, setup_class, setup_module or a fixture of a class or module sets on its own test "
        "class or test module belong to that scope. They are left there and are not a finding.",
        "There is nothing to do.",
    ),
    _code(
        "UND002",
        "decision",
        "number that counts up was kept",
        "A number that your code counts upward and hands out, as a key, a name or a result, is not wound back: what "
        "was numbered may still be there, and would meet its own number again. A tally that is not handed out is put "
        "back.",
        "There is nothing to do. Set it in a fixture where a test relies on it.",
    ),
    _code(
        "UND003",
        "decision",
        "generator that was drawn from was kept",
        "A generator of random numbers was used and not seeded, so it goes on. One that was seeded is put back.",
        "There is nothing to do. Use a random.Random(seed) of the test's own.",
    ),
    _code(
        "UND004",
        "decision",
        "state of a fixture in use was kept",
        "A test changed what a wider fixture had set up, and putting it back would take the set-up itself away. It "
        "is put back when the fixture's own scope ends.",
        "Change it in a fixture of the same scope. Or give the test its own value.",
    ),
    _code(
        "UND005",
        "decision",
        "first use was undone silently",
        "Your code makes something when it is first asked for, and a test was the first to ask. Nothing else holds it, "
        "so it was put back whole, and the next test makes it anew as it would alone.",
        "There is nothing to do.",
    ),
    _code(
        "UND006",
        "decision",
        "first use was kept",
        "Your code made something when it was first asked for, and a library, a thread or the interpreter holds it as "
        "well: a metric in a registry, a worker that runs, a server with its port. It cannot be unmade, so it was "
        "kept with everything that was made together with it. Otherwise the next test would make it a second time.",
        "Make it in a fixture of session scope, or at import.",
    ),
    _code(
        "UND007",
        "decision",
        "state of a live thread was left alone",
        "A thread is alive and works on the object: its functions, its target or its arguments hold it. Putting it "
        "back would pull it from under the thread, and no test is to blame for what a thread does. One note is "
        "recorded for each thread.",
        "End the thread in the teardown of the fixture that starts it.",
    ),
    _code(
        "UND008",
        "decision",
        "what a cache learned was kept, or taken out silently",
        "A cache gained entries. They were kept where the test changed nothing that an answer may depend on. They were "
        "taken out again where it used patches, fakes, a temporary folder or a fixture of its own, or where that "
        "cannot be known.",
        "There is nothing to do. Clear it in a fixture where a test relies on that.",
    ),
    _code(
        "UND009",
        "decision",
        "a library's own work on its object was kept",
        "A library finishes its objects when they are first used: middleware that is built, a validator that is "
        "compiled, settings that were read. Neither the test nor the code that holds the object assigns to that name, "
        "so nobody but the library did it, and it was kept.",
        "There is nothing to do. Use the object once in a session fixture.",
    ),
    _code(
        "UND020",
        "decision",
        "variable of the script was kept",
        "A script changed one of its own variables inside a barrier that it opened, such as a list of results. "
        "Putting it back would take the results away.",
        "There is nothing to do. Name packages=['__main__'] to have it put back.",
    ),
    _code(
        "UND030",
        "decision",
        "state of a library was kept",
        "A test registered something with a library, and something that lives on holds it: taking it out of the "
        "registry would leave one half of it.",
        "Register it at import. Or drop what holds it at the end of the test.",
    ),
    _code(
        "UND031",
        "decision",
        "state of a library was put back in silence",
        "Healthy tests change it as well: a flag that a library sets when it is used for the first time, or a count.",
        "There is nothing to do.",
    ),
)

_GRAPH: Final = (
    _code(
        "ISO001",
        "graph",
        "dependencies form a cycle",
        "Each node of the cycle waits for the next one, so none can be set up first.",
        "Cut one edge: split the node, or hand the other one in later.",
    ),
    _code(
        "ISO002",
        "graph",
        "dependency does not exist",
        "A node requires a name that is not defined.",
        "Define it, or correct the name: the message suggests near ones.",
    ),
    _code(
        "ISO003",
        "graph",
        "wide node depends on a narrow one",
        "A node of a wide scope would outlive what it depends on.",
        "Widen the scope of the dependency, or narrow the scope of the dependent.",
    ),
    _code(
        "ISO004",
        "graph",
        "name defined twice",
        "Two nodes have the same name, and it is not said which one is meant.",
        "Rename one of them, or override it on purpose.",
    ),
)

CODES: Final[dict[str, FindingCode]] = {
    entry.code: entry for entry in (*_FIRST_PARTY, *_PROCESS, *_INTERPRETER, *_LIVING, *_DECISIONS, *_GRAPH)
}
"""All of them, by code."""
