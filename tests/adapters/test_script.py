"""Plain scripts: run as Python runs them, isolated step by step, and judged by the command line."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import pytest
from isolation_script import isolated
from isolation_script.cli import main

from isolation_core.codes import CODES
from isolation_core.config import Settings, use_settings
from isolation_core.errors import ContaminationError
from isolation_core.findings import Change
from isolation_core.journal import Journal, as_finding, read_journal, use_journal

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAME = "ISOLATION_TEST_VARIABLE"


@pytest.fixture(autouse=True)
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """Each test has a journal of its own and default settings."""
    monkeypatch.delenv(NAME, raising=False)
    use_settings(Settings())
    with use_journal(Journal()) as own:
        yield own
    use_settings(None)


def python(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in *folder*, free of the settings and plugins of this run."""
    foreign = ("PYTEST_", "PYTHONWARN", "ISOLATION_", "COV_")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | variables
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=ours, capture_output=True, text=True, timeout=60, check=False
    )


def run(folder: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``isolation run`` in *folder*."""
    return python(folder, "-m", "isolation_core", "run", *args, **variables)


def script(folder: Path, code: str, name: str = "job.py") -> str:
    """Write a script into *folder* and return its name."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(code), encoding="utf-8")
    return name


SCRIPTS = {
    "what a script sees": """
        '''The doc.'''
        import sys
        print(sys.argv, sys.path[0], __name__, __file__, __doc__, __package__, __spec__, __cached__)
        print(type(__loader__).__name__, __builtins__, sys.modules["__main__"].__dict__ is globals())
        print(sorted(globals()))
        """,
    "exit code": "raise SystemExit(3)",
    "exit with words": "import sys; sys.exit('that went wrong')",
    "exit without": "import sys; sys.exit()",
    "an error": """
        def inner():
            return {}["missing"]
        try:
            inner()
        except KeyError as error:
            raise ValueError("outer") from error
        """,
    "an error while another is handled": """
        try:
            1 / 0
        except ZeroDivisionError:
            undefined
        """,
    "a group of errors": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "a syntax error": "def f(:\n    pass",
    "an interrupt": "raise KeyboardInterrupt",
    "a hook of its own": """
        import sys
        sys.excepthook = lambda kind, error, trace: print("hook:", kind.__name__, error, trace.tb_frame.f_code.co_name)
        raise ValueError("mine")
        """,
    "a hook that fails": """
        import sys
        def hook(*args):
            raise RuntimeError("hook")
        sys.excepthook = hook
        raise ValueError("mine")
        """,
    "a hook that exits": """
        import sys
        sys.excepthook = lambda *args: sys.exit(9)
        raise ValueError("mine")
        """,
    "pickling its own classes": """
        import pickle
        class Thing:
            pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
        """,
    "globals that change": """
        count = 0
        def bump():
            global count
            count += 1
        class Thing:
            registry = []
        bump()
        Thing.registry.append(1)
        print(count)
        """,
    "asyncio": "import asyncio\nasync def main(): return 5\nprint(asyncio.run(main()))",
    "spawned processes": """
        import multiprocessing
        def work(n):
            return n * 2
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [1, 2]))
                pool.close()
                pool.join()
        """,
}


def seen(done: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    """Output and exit code of a script, without the summary of isolation."""
    return done.returncode, done.stdout, done.stderr.partition("============================= isolation ")[0]


class TestRunsAsPython:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_a_script_cannot_tell(self, tmp_path: Path, name: str) -> None:
        """Exit code, output and tracebacks are those of ``python script.py``."""
        file = script(tmp_path, SCRIPTS[name])
        plain, ours = python(tmp_path, file, "--mode", "x", "-h"), run(tmp_path, file, "--mode", "x", "-h")
        if name == "a hook that fails":
            # The interpreter shows its own frames differently there; both errors must be shown.
            assert plain.returncode == ours.returncode
            for word in ("Error in sys.excepthook:", "RuntimeError: hook", "Original exception was:", "mine"):
                assert word in plain.stderr and word in ours.stderr
            return
        assert seen(ours) == seen(plain)

    @pytest.mark.parametrize("name", ["what a script sees", "an error", "an interrupt", "exit code"])
    def test_also_when_switched_off_and_by_the_command(self, tmp_path: Path, name: str) -> None:
        """The same holds in mode off, and for the installed command."""
        file = script(tmp_path, SCRIPTS[name])
        plain = python(tmp_path, file, "a")
        code = "import sys; from isolation_script.cli import main; sys.exit(main())"
        for ours in (
            run(tmp_path, "--mode", "off", file, "a"),
            python(tmp_path, "-c", code, "run", file, "a"),
        ):
            assert seen(ours) == seen(plain)

    def test_folders_links_and_relative_paths(self, tmp_path: Path) -> None:
        """sys.path[0] is the real folder of the script, whatever way it was named."""
        script(tmp_path, "import helper, sys; print(helper.x, sys.path[0], __file__, sys.argv[0])", "real/job.py")
        script(tmp_path, "x = 1", "real/helper.py")
        (tmp_path / "link.py").symlink_to(tmp_path / "real" / "job.py")
        for name in ("real/job.py", "link.py", "./real/../real/job.py", str(tmp_path / "real" / "job.py")):
            assert run(tmp_path, name).stdout == python(tmp_path, name).stdout != ""

    def test_a_folder_with_a_main_module(self, tmp_path: Path) -> None:
        """A folder is run like ``python folder``."""
        script(tmp_path, "import sys, beside; print(sys.argv[1:], sys.path, __name__, beside.x)", "app/__main__.py")
        script(tmp_path, "x = 2", "app/beside.py")
        assert run(tmp_path, "app", "a").stdout == python(tmp_path, "app", "a").stdout != ""

    def test_a_script_that_is_not_there(self, tmp_path: Path) -> None:
        """The exit code is 2, as Python's, and the message names the file."""
        done = run(tmp_path, "missing.py")
        assert done.returncode == python(tmp_path, "missing.py").returncode == 2
        assert f"can't open file '{tmp_path}/missing.py': [Errno 2] No such file" in done.stderr

    def test_what_a_script_leaves_to_the_end_still_finds_its_state(self, tmp_path: Path) -> None:
        """Exit handlers and threads that outlive the main program see what the script set."""
        file = script(
            tmp_path,
            """
            import atexit, os, threading, time
            os.environ["ISOLATION_TEST_VARIABLE"] = "set"
            atexit.register(lambda: print("exit handler", os.environ["ISOLATION_TEST_VARIABLE"]))
            def late():
                time.sleep(0.2)
                print("thread", os.environ["ISOLATION_TEST_VARIABLE"])
            threading.Thread(target=late).start()
            """,
        )
        assert run(tmp_path, file).stdout == "thread set\nexit handler set\n"

    def test_a_forked_child_says_nothing_about_its_parent(self, tmp_path: Path) -> None:
        """The summary comes once, from the process that was asked for it."""
        file = script(
            tmp_path,
            """
            import os, sys
            os.environ["ISOLATION_TEST_VARIABLE"] = "set"
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
            """,
        )
        assert run(tmp_path, file).stderr.count("== isolation ==") == 1


SPAWNED: Final = "spawned processes"
MODULES: Final = {
    "what it sees": """
        import sys
        print(__name__, __file__, __package__, __spec__.name, __doc__, sorted(globals()))
        print(sys.argv, sys.path[:2], sys.modules["__main__"].__file__ == __file__)
        """,
    "relative imports": "from . import helper\nprint(helper.__name__, __package__)",
    "exit code": "raise SystemExit(3)",
    "an error": "def f(): 1 / 0\nf()",
    "its own classes": """
        import pickle
        class Thing: pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
        """,
    SPAWNED: """
        import multiprocessing
        def work(n): return n * 2
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [1, 2]))
                pool.close()
                pool.join()
        """,
}


class TestModules:
    @pytest.mark.parametrize(
        ("name", "target"),
        # A spawned process does not import the __main__ of a package, and finds no functions of it.
        [(name, target) for name in MODULES for target in ("pkg", "pkg.inner") if (name, target) != (SPAWNED, "pkg")],
    )
    def test_a_module_cannot_tell(self, tmp_path: Path, name: str, target: str) -> None:
        """``isolation run -m`` gives a module or package the world that ``python -m`` gives it."""
        folder = tmp_path / "pkg"
        folder.mkdir()
        for file in ("__init__", "helper"):
            (folder / f"{file}.py").write_text("")
        for file in ("__main__", "inner"):
            (folder / f"{file}.py").write_text(textwrap.dedent(MODULES[name]))
        plain, ours = python(tmp_path, "-m", target, "--mode", "x"), run(tmp_path, "-m", target, "--mode", "x")
        code, out, err = seen(plain)
        # The interpreter shows two lines of its own.
        err = re.sub(r'  File "<frozen runpy>".*\n', "", err)
        assert seen(ours) == (code, out, err)

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            ("nope", "No module named nope"),
            ("nope.deep", "No module named nope"),
            ("pkg.nope", "No module named pkg.nope"),
            ("pkg", "No module named pkg.__main__; 'pkg' is a package and cannot be run directly"),
            ("math", "No code object available for math"),
        ],
    )
    def test_what_cannot_be_run_is_an_error(self, tmp_path: Path, target: str, text: str) -> None:
        """A module that does not exist or is not Python code is an error of one line; the exit code is 1."""
        (tmp_path / "pkg").mkdir()
        (tmp_path / "pkg" / "__init__.py").write_text("")
        done = run(tmp_path, "-m", target)
        assert (done.returncode, done.stderr.splitlines()[0]) == (1, f"isolation run: {text}")

    def test_what_a_module_leaves_is_reported(self, tmp_path: Path) -> None:
        """Findings have the module's name as their owner."""
        (tmp_path / "tool.py").write_text("import os\nos.environ['LEFT'] = '1'\n")
        done = run(tmp_path, "-m", "tool")
        assert "tool (script scope)" in done.stderr and "ENV001 os.environ['LEFT']" in done.stderr
        assert done.stderr.count("put back") == 1

    def test_a_clean_module_prints_nothing(self, tmp_path: Path) -> None:
        """State prepared for the module, such as sys.argv, is not a finding."""
        (tmp_path / "tool.py").write_text("print(1)\n")
        done = run(tmp_path, "-m", "tool")
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


class TestNamesLeaks:
    CODE = """
        import os, sys
        os.environ["ISOLATION_TEST_VARIABLE"] = "hunter2-canary"
        sys.exit(int(sys.argv[1]))
        """

    def test_leaks_are_named_and_the_exit_code_is_kept(self, tmp_path: Path) -> None:
        """The summary on stderr names owner and path without values; the exit code is that of the script."""
        done = run(tmp_path, script(tmp_path, self.CODE), "7")
        assert done.returncode == 7
        assert done.stdout == ""
        assert "\njob.py (script scope)\n  ENV001 os.environ['ISOLATION_TEST_VARIABLE']" in done.stderr
        assert "canary" not in done.stderr

    @pytest.mark.parametrize(("code", "expected"), [("0", 1), ("3", 3)])
    def test_strict_turns_success_into_failure_only(self, tmp_path: Path, code: str, expected: int) -> None:
        """In mode strict a leak makes exit code 0 a 1; other codes are kept."""
        done = run(tmp_path, "--mode", "strict", script(tmp_path, self.CODE), code)
        assert done.returncode == expected
        assert "ENV001" in done.stderr

    def test_switched_off_nothing_is_loaded(self, tmp_path: Path) -> None:
        """In mode off none of the built-in probes is even imported."""
        lists = ("probes._builtin", "probes._environ", "probes._logging")
        file = script(tmp_path, f"import sys; print([m for m in sys.modules if m.endswith({lists!r})])")
        assert run(tmp_path, file, ISOLATION_CORE_MODE="off").stdout == "[]\n"

    def test_state_of_imported_modules_is_named_and_the_scripts_own_is_not(self, tmp_path: Path) -> None:
        """Changes of a script to modules are reported; changes of its own globals are not."""
        script(tmp_path, "CONFIG = {'a': 1}", "settings.py")
        file = script(tmp_path, "import settings\nown = {}\nown['x'] = 1\nsettings.CONFIG['a'] = 2\nown['y'] = 1")
        done = run(tmp_path, file)
        assert "settings.CONFIG['a']" in done.stderr
        assert "own" not in done.stderr

    def test_a_journal_can_be_written(self, tmp_path: Path) -> None:
        """--journal writes the findings to a file, wherever the script goes meanwhile."""
        file = script(tmp_path, "import os, tempfile\nos.chdir(tempfile.gettempdir())")
        run(tmp_path, "--journal", "out", file)
        records = read_journal(tmp_path / "out")
        assert records.processes[0].header["runner"] == "isolation run"
        findings = [finding for event in records.events if (finding := as_finding(event)) is not None]
        assert [(finding.path, finding.owner) for finding in findings] == [("os.getcwd()", "job.py")]

    def test_steps_of_a_script_are_named_and_healed(self, tmp_path: Path) -> None:
        """The polluted example fails without isolation; with it every check holds and every step is named."""
        off = run(EXAMPLES, "--mode", "off", "polluted_script.py")
        assert (off.returncode, "0 of 10 checks hold" in off.stdout) == (1, True)
        on = run(EXAMPLES, "--journal", str(tmp_path), "polluted_script.py")
        assert (on.returncode, on.stdout) == (0, "10 of 10 checks hold\n"), on.stdout + on.stderr
        steps = ["use_the_sandbox", "copy_the_auditor", "decline_cards", "move_to_the_us", "export_elsewhere"]
        steps += ["be_quiet", "pretend_to_have_sms", "silence_warnings", "mock_the_mail", "price_a_sale"]
        owners = {event.fields.get("owner") for event in read_journal(tmp_path).events if as_finding(event)}
        assert [step for step in steps if f"polluted_script.py::{step}" not in owners] == []
        assert "polluted_script.py::be_quiet\n" in on.stderr

    def test_what_the_baseline_has_fails_nothing(self, tmp_path: Path) -> None:
        """The key `baseline` works for a script and for the decorator; a file that is none is a usage error."""
        code = """
            import os
            from isolation_script import isolated
            @isolated
            def step(): os.environ["STEP"] = "1"
            step()
            os.environ["WHOLE"] = "1"
        """
        name = script(tmp_path, code)
        rows = [["job.py::step", "ENV001", "os.environ['STEP']"], ["job.py", "ENV001", "os.environ['WHOLE']"]]
        known = tmp_path / "known.json"
        known.write_text(json.dumps({"schema": "isolation-baseline/1", "findings": rows}))
        assert run(tmp_path, "--mode=strict", name).returncode == 1
        done = run(tmp_path, "--mode=strict", name, ISOLATION_CORE_BASELINE="known.json")
        assert done.returncode == 0, done.stderr
        assert "2 known findings (baseline) not listed" in done.stderr and "ENV001" not in done.stderr
        known.write_text("{}")
        done = run(tmp_path, name, ISOLATION_CORE_BASELINE="known.json")
        assert done.returncode == 2 and "is not a baseline" in done.stderr and "Traceback" not in done.stderr

    def test_a_package_that_does_not_exist_is_told(self, tmp_path: Path) -> None:
        """A misspelled name in --packages is reported, with the nearest name."""
        script(tmp_path, "TABLE = {}", "store.py")
        done = run(tmp_path, "--packages=stoer", script(tmp_path, "import store"))
        assert "there is no package 'stoer', so nothing of it was watched; did you mean 'store'?" in done.stderr


class TestIsolated:
    def test_bare(self, journal: Journal) -> None:
        """@isolated puts back what a call changed, and passes the result on."""

        @isolated
        def step(value: str, *, times: int = 1) -> str:
            os.environ[NAME] = value
            return os.environ[NAME] * times

        assert step("ab", times=2) == "abab"
        assert NAME not in os.environ
        (event,) = journal.events
        assert event.fields["owner"] == f"{__name__}::TestIsolated.test_bare.<locals>.step"

    def test_with_arguments(self, journal: Journal) -> None:
        """@isolated(...) takes what a barrier takes."""

        @isolated("group", mode="report", owner="step 1", ignore=["cwd:*"], timeout=1, probes=["environ"])
        def step() -> None:
            os.environ[NAME] = "1"

        step()
        assert os.environ.pop(NAME) == "1"
        (finding,) = [as_finding(event) for event in journal.events]
        assert isinstance(finding, Change)
        assert (finding.owner, finding.restored) == ("step 1", False)

    def test_it_is_still_the_same_function(self) -> None:
        """Name, documentation, signature and kind of the function stay."""

        @isolated
        async def step(a: int, b: str = "x") -> None:
            """Do it."""

        assert (step.__name__, step.__doc__, inspect.iscoroutinefunction(step)) == ("step", "Do it.", True)
        assert str(inspect.signature(step)) == "(a: 'int', b: 'str' = 'x') -> 'None'"

    def test_an_error_passes_through(self) -> None:
        """An exception of the function reaches the caller unchanged, and the state is restored nevertheless."""

        @isolated
        def step() -> None:
            os.environ[NAME] = "1"
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            step()
        assert NAME not in os.environ

    def test_strict_raises(self) -> None:
        """In mode strict the call fails, naming what was left."""

        @isolated(mode="strict")
        def step() -> None:
            os.environ[NAME] = "1"

        with pytest.raises(ContaminationError, match=NAME):
            step()
        assert NAME not in os.environ

    def test_off_is_a_plain_call(self, journal: Journal) -> None:
        """Mode off, from the settings, leaves no trace."""
        use_settings(Settings(mode="off"))

        @isolated
        def step() -> None:
            os.environ[NAME] = "1"

        step()
        assert os.environ.pop(NAME) == "1"
        assert journal.totals.barriers == 0

    @pytest.mark.anyio
    async def test_async_functions(self, journal: Journal) -> None:
        """Async functions are isolated in the task that awaits them."""

        @isolated
        async def step(value: str) -> str:
            os.environ[NAME] = value
            await anyio.lowlevel.checkpoint()
            return os.environ[NAME]

        assert await step("x") == "x"
        assert NAME not in os.environ
        assert journal.totals.changes_by_kind == {"environ": 1}

    @pytest.mark.anyio
    async def test_a_cancelled_step_is_cleaned_up(self) -> None:
        """Cancellation passes through and the state is put back."""

        @isolated
        async def step() -> None:
            os.environ[NAME] = "1"
            await anyio.sleep_forever()

        with anyio.move_on_after(0.01) as scope:
            await step()
        assert scope.cancelled_caught
        assert NAME not in os.environ

    def test_generators_are_refused(self) -> None:
        """A generator's body runs after the call, so a barrier around the call would be a lie."""

        def numbers() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (numbers, later):
            with pytest.raises(TypeError, match="use `with isolation_barrier"):
                isolated(function)


def journal_in(folder: Path, worker: str = "main", *, finding: bool = True) -> Path:
    """Write a small journal and return its folder."""
    own = Journal()
    own.write_to(folder, run="r", worker=worker)
    if finding:
        own.record_finding(
            Change("environ", "os.environ['A']", before="1", after="2", code="ENV001", owner="test_a", restored=True)
        )
    own.record("close", scope="function", checks=20, clean=not finding, restored=True)
    return folder


class TestCommands:
    def test_report(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Journals become a summary on stdout."""
        assert main(["report", str(journal_in(tmp_path))]) == 0
        out = capsys.readouterr().out
        assert out.startswith("test_a\n  ENV001 os.environ['A']")
        assert "isolation score 100 %: 1 barrier checked" in out

    def test_report_as_json_into_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--format json --output writes one object and says where."""
        target = tmp_path / "reports" / "r.json"
        assert main(["report", str(journal_in(tmp_path / "j")), "--format", "json", "--output", str(target)]) == 0
        assert json.loads(target.read_text(encoding="utf-8"))["findings"][0]["owners"] == ["test_a"]
        captured = capsys.readouterr()
        assert (captured.out, str(target) in captured.err) == ("", True)

    @pytest.mark.parametrize(("finding", "code"), [(True, 1), (False, 0)])
    def test_report_can_be_a_check(self, tmp_path: Path, finding: bool, code: int) -> None:
        """--check turns findings into exit code 1."""
        assert main(["report", "--check", str(journal_in(tmp_path, finding=finding))]) == code

    def test_merge(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Several journals become one folder, which is a journal again; nothing is overwritten."""
        first, second = journal_in(tmp_path / "a", "gw0"), journal_in(tmp_path / "b", "gw1")
        merged = tmp_path / "merged"
        assert main(["merge", str(first), str(second), str(first), "-o", str(merged)]) == 0
        assert [process.header["worker"] for process in read_journal(merged).processes] == ["gw0", "gw1"]
        assert "2 processes, 4 events" in capsys.readouterr().err
        assert main(["merge", str(first), "-o", str(merged)]) == 2
        assert "not an empty folder" in capsys.readouterr().err

    def test_explain(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A code is explained in words and with a way out; an unknown one is an error that says so."""
        words = {"title": "set and left", "explanation": "Long text.", "fix": "use setenv", "reserved": False}
        entry = type("Entry", (), words)()
        monkeypatch.setattr("isolation_core.reports.explain", {"env001": entry}.get)
        assert main(["explain", "env001"]) == 0
        assert capsys.readouterr().out == "ENV001  set and left\n\nLong text.\n\nuse setenv\n"
        assert main(["explain", "XYZ999"]) == 2
        assert "'XYZ999' is not the code of a finding" in capsys.readouterr().err

    def test_explain_without_a_code_lists_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Every code is listed with its title, and a code that is nearly right is answered with the right one."""
        assert main(["explain"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == len(CODES)
        assert "ENV001  " + CODES["ENV001"].title in lines
        assert main(["explain", "ENV0001"]) == 2
        assert "did you mean 'ENV001'?" in capsys.readouterr().err

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """`isolation --version` names the distribution and its version."""
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"isolation-core {version('isolation-core')}\n"

    def test_explain_says_what_nothing_reports(self, capsys: pytest.CaptureFixture[str]) -> None:
        """`explain` says that a reserved code is reserved, so that no user waits for such a finding."""
        reserved = next(code for code, entry in CODES.items() if entry.reserved)
        assert main(["explain", reserved]) == 0
        assert "This code is reserved: nothing in this version reports it." in capsys.readouterr().out

    def test_no_journal_is_told_apart(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing to report on is exit code 4, not a clean report."""
        assert main(["report", str(tmp_path)]) == 4
        assert "it holds no *.jsonl" in capsys.readouterr().err

    def test_wrong_settings_are_usage_errors(self, tmp_path: Path) -> None:
        """A wrong mode or key is exit code 2 with the nearest name."""
        done = run(tmp_path, "--mode", "restor", script(tmp_path, ""))
        assert done.returncode == 2
        assert "did you mean 'restore'?" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("verb", ["run", "report", "merge", "explain"])
    def test_every_verb_ends_its_help_with_examples(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        """--help shows how to type it."""
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert f"examples:\n  isolation {verb} " in capsys.readouterr().out

    def test_a_reader_that_went_away_is_no_error(self, tmp_path: Path) -> None:
        """`isolation report | head -0` ends quietly."""
        journal_in(tmp_path / "j")
        code = "import sys; from isolation_script.cli import main; sys.exit(main(['report', 'j']))"
        quoted = f'{sys.executable} -c "{code}" | (exec 0<&-; sleep 0.3)'
        done = subprocess.run(quoted, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""

    def test_without_the_adapter_the_module_says_so(self, tmp_path: Path) -> None:
        """``python -m isolation_core`` names what is missing instead of a traceback."""
        code = "sys.modules['isolation_script'] = None; runpy.run_module('isolation_core', None, '__main__')"
        done = python(tmp_path, "-c", f"import runpy, sys; {code}")
        assert done.returncode == 2
        assert "isolation_script, which cannot be found" in done.stderr
        assert "Traceback" not in done.stderr
