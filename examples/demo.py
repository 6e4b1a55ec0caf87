"""Run the polluted suite without isolation, prove who breaks whom, and run it in isolation.

Everything in the table is found by the product: `isolation audit` runs the suite and pairs of its tests,
and each row is proved by an experiment. Exit code 0 only if every promise held: without isolation some
tests fail, each of them is explained with proof, and in isolation every test passes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from isolation_script.audit import Audit, PytestRuns

SUITE = Path(__file__).resolve().parent / "polluted_suite"
ALONE = ("--disable-plugin-autoload", "-p", "isolation")
"""Other plugins that happen to be installed must not decide how the demo ends."""


def run_suite(mode: str) -> dict[str, bool]:
    """Run the suite in a process of its own with ``--isolation=MODE``; return which tests passed."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-p", "isolation_pytest.outcomes", f"--isolation={mode}"]
        command += ["-p", "no:cacheprovider", *ALONE]
        environ = {**_environ(), "ISOLATION_CORE_OUTCOMES": str(outcomes)}
        done = subprocess.run(command, cwd=SUITE, env=environ, capture_output=True, text=True, check=False)
        if not outcomes.exists():
            sys.exit(f"--isolation={mode}: the suite did not run:\n{done.stdout}{done.stderr}")
        passed: dict[str, bool] = json.loads(outcomes.read_text("utf-8"))
        return passed


def _environ() -> dict[str, str]:
    # Settings of the user's environment must not decide how the demo ends.
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONWARN", "ISOLATION_CORE_"))}


def _totals(passed: dict[str, bool]) -> str:
    good = sum(passed.values())
    return f"{good} passed" + (f", {len(passed) - good} failed" if good < len(passed) else "")


def _short(test_id: str | None) -> str:
    return (test_id or "?").rpartition("::")[2]


def _rows(audit: Audit) -> Iterator[tuple[str, str, str]]:
    for verdict in sorted(audit.verdicts, key=lambda verdict: verdict.polluter or ""):
        state = ", ".join(each.path for each in verdict.state) or verdict.word
        yield _short(verdict.polluter), state, _short(verdict.test)


def main() -> int:
    """Run the demo; return 0 if the promise held."""
    for name in set(os.environ) - set(_environ()):
        del os.environ[name]
    off = run_suite("off")
    audit = PytestRuns(ALONE, folder=SUITE).audit()
    restore = run_suite("restore")
    proved = [verdict for verdict in audit.verdicts if verdict.word == "proved"]
    print(f"\n{len(off)} tests of a small shop; some leave something behind, and break another.\n")
    print(f"1  pytest --isolation=off      {_totals(off)}, and nothing says why\n")
    print(f"2  isolation audit             {len(proved)} explained, each proved by experiment:\n")
    for polluter, path, victim in [("this test", "leaves this behind", "and breaks"), *_rows(audit)]:
        print(f"   {polluter:<15}  {path:<40}  {victim}")
    print(f"\n3  pytest --isolation=restore  {_totals(restore)}: whatever was left behind is put back\n")
    failed = [test for test, passed in off.items() if not passed]
    healed = sum(restore.get(test, False) for test in failed)
    print(f"{len(proved)} of {len(failed)} failures proved, {healed} of {len(failed)} victims healed.")
    held = bool(failed) and len(proved) == len(failed) == healed and all(restore.values())
    if not held:
        print("NOT AS PROMISED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
