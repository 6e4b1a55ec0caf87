"""``isolation run``: a script or module as ``python`` runs it, with a barrier around it."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, NoReturn, TextIO

import isolation_core
from isolation_core.config import Settings, use_settings

__all__ = ["INTERRUPTED", "end_by_interrupt", "run_module", "run_script"]

INTERRUPTED: Final = 130
"""The exit code that shells show for a program ended by SIGINT."""

_OURS: Final = tuple(os.path.dirname(str(path)) + os.sep for path in (__file__, isolation_core.__file__))
_STARTERS: Final = frozenset({runpy.__file__, "<frozen runpy>"})


class _Watch:
    """The barrier around the whole script, closed after everything the script leaves to the interpreter."""

    def __init__(self, owner: str, settings: Settings) -> None:
        from isolation_core.runner import RunnerSession

        self.exit_code = 0
        self._stderr: TextIO = sys.stderr
        self._pid = os.getpid()
        # The barriers that the script opens itself are part of what is reported.
        self._session = RunnerSession(settings, runner="isolation run", root=os.getcwd(), shared=True)
        # Globals of a script end with it and are not leaks.
        ignore = (*settings.ignore, "*:__main__", "*:__main__.*", "*:__main__[[]*")
        self._barrier = self._session.make("script", owner, ignore=ignore)

    def open(self) -> None:
        """Enter the barrier; it is left when the interpreter ends."""
        # Registered before the script can register anything, so that it runs
        # last: threads are joined by then and the script's own handlers done.
        # Putting state back earlier would pull it away from under them.
        atexit.register(self._close)
        self._session.enter(self._barrier)

    def accept(self) -> None:
        """Take what moved until now for what the program found."""
        self._session.checkpoint()

    def _close(self) -> None:
        if self._pid != os.getpid():
            return
        from isolation_core.errors import ContaminationError

        leaked = False
        try:
            self._session.close(self._barrier)
        except ContaminationError:
            leaked = True
        except Exception:
            # The interpreter prints what an exit handler raises, but not its
            # own idea of who we are.
            self._print(traceback.format_exc())
        self._session.print_summary(self._stderr)
        self._session.journal.close()
        if leaked and self.exit_code == 0:
            # An exit handler has no other way left to say that the run failed.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(1)

    def _print(self, text: str) -> None:
        # The script may have closed the stream, and its reader may be gone.
        with contextlib.suppress(Exception):
            self._stderr.write(text)
            self._stderr.flush()


def run_script(script: str, args: Sequence[str], settings: Settings) -> int:
    """Run *script* with *args* as the main program of this process.

    Args:
        script: a file, or a folder or archive with a ``__main__.py``.
        args: its command line.
        settings: how to isolate it.

    Returns:
        The exit code of the script, unless it ended by SystemExit, which is raised;
        `INTERRUPTED` if it ended by KeyboardInterrupt, whose traceback was printed.

    Raises:
        SystemExit: raised by the script.
    """
    use_settings(settings)
    try:
        code = None if _is_container(script) else _compiled(script)
    except OSError as error:
        detail = f"[Errno {error.errno}] {error.strerror}"
        print(f"isolation run: can't open file {os.path.abspath(script)!r}: {detail}", file=sys.stderr)
        return 2
    except (SyntaxError, ValueError) as error:
        _report(error)
        return 1
    _become_main(script, args)
    name = os.path.basename(script)
    if code is None:
        return _run(lambda _: runpy.run_path(os.path.abspath(script), run_name="__main__"), name, settings)
    return _run(lambda _: exec(code, sys.modules["__main__"].__dict__), name, settings)  # noqa: S102 - the purpose


class _NotRunnableError(Exception):
    """There is no such module, or it cannot be run."""


def run_module(name: str, args: Sequence[str], settings: Settings) -> int:
    """Run the module or package *name* with *args* as the main program of this process, as ``python -m`` does.

    Args:
        name: its full name; of a package, the module ``__main__`` in it is run.
        args: its command line.
        settings: how to isolate it.

    Returns:
        See `run_script`.

    Raises:
        SystemExit: raised by the module.
    """
    use_settings(settings)
    main = _new_main()
    sys.argv[:] = ["-m", *args]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    try:
        return _run(lambda watch: _execute_module(name, main, watch), name, settings)
    except _NotRunnableError as error:
        print(f"isolation run: {error}", file=sys.stderr)
        return 1


def _execute_module(name: str, main: types.ModuleType, watch: _Watch | None) -> None:
    # Found only now: the packages around it are imported for that, inside of the barrier.
    spec = _find_runnable(name)
    get_code = getattr(spec.loader, "get_code", None)
    code: types.CodeType | None = None if get_code is None else get_code(spec.name)
    if code is None:
        raise _NotRunnableError(f"No code object available for {spec.name}")
    main.__dict__.update(
        __file__=spec.origin,
        __cached__=spec.cached,
        __loader__=spec.loader,
        __package__=spec.parent,
        __spec__=spec,
    )
    sys.argv[0] = spec.origin or name
    if watch is not None:
        watch.accept()
    exec(code, main.__dict__)  # noqa: S102 - running a module is the purpose


def _find_runnable(name: str) -> importlib.machinery.ModuleSpec:
    parent = name.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            parent, name = name, f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        # That of the name itself; what a package misses when it is imported is an error of its own.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise _NotRunnableError(f"No module named {error.name}") from None
    if spec is None:
        hint = f"; {parent!r} is a package and cannot be run directly" if name == f"{parent}.__main__" else ""
        raise _NotRunnableError(f"No module named {name}{hint}")
    return spec


def _run(body: Callable[[_Watch | None], object], owner: str, settings: Settings) -> int:
    """Call *body* inside a barrier and return the exit code it amounts to; see `run_script`."""
    watch = None
    if settings.mode != "off":
        watch = _Watch(owner, settings)
        watch.open()
    try:
        body(watch)
    except SystemExit as end:
        if watch is not None:
            watch.exit_code = 0 if end.code is None else 1
            if isinstance(end.code, int):
                watch.exit_code = end.code
        end.with_traceback(None)
        raise
    except KeyboardInterrupt as interrupt:
        if watch is not None:
            watch.exit_code = INTERRUPTED
        _report(interrupt)
        return INTERRUPTED
    except _NotRunnableError:
        if watch is not None:
            watch.exit_code = 1
        raise
    except BaseException as error:
        if watch is not None:
            watch.exit_code = 1
        _report(error)
        return 1
    return 0


def _is_container(script: str) -> bool:
    return os.path.isdir(script) or script.endswith((".pyc", ".pyz", ".zip"))


def _absolute(script: str) -> str:
    # Not abspath(): the interpreter keeps dots as they were typed.
    return os.path.join(os.getcwd(), script)


def _compiled(script: str) -> types.CodeType:
    path = _absolute(script)
    with io.open_code(path) as stream:
        source = stream.read()
    return compile(source, path, "exec", dont_inherit=True)


def _become_main(script: str, args: Sequence[str]) -> None:
    """Give ``__main__``, ``sys.argv`` and ``sys.path`` the values the interpreter gives a script."""
    path = _absolute(script)
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    _new_main().__dict__.update(__file__=path, __cached__=None, __loader__=loader)
    sys.argv[:] = [script, *args]
    # The folder of the command, or the current one, stood first for us.
    if not sys.flags.safe_path:
        del sys.path[0]
        if not _is_container(script):
            sys.path.insert(0, os.path.dirname(os.path.realpath(script)))


def _new_main() -> types.ModuleType:
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    return main


def _report(error: BaseException) -> None:
    """Print *error* the way the interpreter would, through whatever hook the script installed."""
    for each in _linked(error, set()):
        each.__traceback__ = _without_our_frames(each.__traceback__)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit:
        raise
    except BaseException:
        print("Error in sys.excepthook:", file=sys.stderr)
        traceback.print_exc()
        print("\nOriginal exception was:", file=sys.stderr)
        traceback.print_exception(error)


def _linked(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    yield from _linked(error.__cause__, seen)
    yield from _linked(error.__context__, seen)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _linked(inner, seen)


def _without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not (file.startswith(_OURS) or (not kept and file in _STARTERS)):
            kept.append(trace)
        trace = trace.tb_next
    following: TracebackType | None = None
    for entry in reversed(kept):
        entry.tb_next, following = following, entry
    return following


def end_by_interrupt() -> NoReturn:
    """End the process by the signal itself, as the shell expects of a program that was interrupted."""
    # The interpreter sees to it when this arrives at the top. It must only not
    # print it, and holds on to the frames it came from: raise it where there are few.
    sys.excepthook = _say_nothing
    raise KeyboardInterrupt


def _say_nothing(*_: object) -> None:
    """A hook that prints nothing, because the real one has already been called."""
