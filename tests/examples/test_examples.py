"""The examples: the pollution is real, and is healed the same way through every door."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isolation_core.journal import as_finding, read_journal

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SUITE = EXAMPLES / "polluted_suite"


@dataclass(frozen=True)
class Pair:
    """A test that leaves something behind, where that shows, and the test it breaks."""

    polluter: str
    state: str
    victim: str


ADMIN, CAMPAIGN = "tests/test_admin.py::AdminTest::", "tests/test_campaigns.py::CampaignTest::"
ORDER, NOTICE = "tests/test_orders.py::OrderTest::", "tests/test_orders.py::NoticeTest::"
FIGURES, ORDERS = "tests/test_figures.py::", "tests/test_orders.py::"

PAIRS = (
    Pair(ADMIN + "test_sandbox", "shop.config.PROFILE", ORDER + "test_real_money"),
    Pair(ADMIN + "test_auditor", "shop.config.CONFIG['mail']['bcc']", NOTICE + "test_only_customer"),
    Pair(ADMIN + "test_declined", "shop.clients.PaymentClient.charge", ORDER + "test_paid"),
    Pair(ADMIN + "test_region_us", "os.environ['SHOP_REGION']", ORDER + "test_in_euro"),
    Pair(ADMIN + "test_export", "os.getcwd()", NOTICE + "test_receipt"),
    Pair(ADMIN + "test_quiet_mode", "logging.getLogger('shop').level", ORDER + "test_logged"),
    Pair(CAMPAIGN + "test_sms_sale", "sys.modules['smsgate']", NOTICE + "test_sms_console"),
    Pair(CAMPAIGN + "test_overnight", "warnings.filters", NOTICE + "test_express_warns"),
    Pair(CAMPAIGN + "test_mailing", "shop.clients.MailClient.send", NOTICE + "test_mail_arrives"),
    Pair(CAMPAIGN + "test_half_price", "shop.catalog.price", ORDER + "test_list_price"),
    Pair(FIGURES + "test_rounding", "decimal.getcontext().prec", ORDERS + "test_vat_exact"),
    Pair(FIGURES + "test_abroad", "time.tzname", ORDERS + "test_usual_hour"),
)
"""The pollution of the suite; ``state`` is how the path of the finding begins."""


UNITTEST_PAIRS = [pytest.param(pair, id=pair.state) for pair in PAIRS if pair.polluter.count("::") == 2]
FUNCTION_PAIRS = [pytest.param(pair, id=pair.state) for pair in PAIRS if pair.polluter.count("::") == 1]


OURS_ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p isolation -p no:cacheprovider"}
"""Variables under which pytest has our plugin, by its entry point, and none of the others installed for tests."""


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder of the suite, free of the settings of this run."""
    # Where CI or BUILD_NUMBER is set, pytest does not shorten its summary.
    foreign = ("PYTEST_", "PYTHONWARN", "ISOLATION_CORE_", "COV_", "CI", "BUILD_NUMBER")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | variables
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=SUITE, env=ours, capture_output=True, text=True, timeout=600, check=False)


def run_pytest(*args: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the suite with plain pytest: no plugins, no cache folder."""
    quiet = ("--disable-plugin-autoload", "-p", "no:cacheprovider", "-q")
    return run("-m", "pytest", *quiet, *args)


def unittest_name(test_id: str) -> str:
    """Return the dotted name under which unittest knows a test."""
    return test_id.replace("/", ".").replace(".py::", ".").replace("::", ".")


class TestPollution:
    @pytest.mark.parametrize("pair", UNITTEST_PAIRS)
    def test_victim_fails_after_its_polluter_only(self, pair: Any) -> None:
        """Without isolation a victim fails right after its polluter, and passes alone."""
        polluter, victim = unittest_name(pair.polluter), unittest_name(pair.victim)
        together = run("-m", "unittest", polluter, victim)
        assert "Ran 2 tests" in together.stderr and "FAILED (" in together.stderr, together.stderr
        assert victim in together.stderr
        assert run("-m", "unittest", victim).returncode == 0

    @pytest.mark.parametrize("pair", FUNCTION_PAIRS)
    def test_victim_function_fails_after_its_polluter_only(self, pair: Any) -> None:
        """The same holds for the pairs that only pytest can run."""
        together = run_pytest(pair.polluter, pair.victim)
        assert "1 failed, 1 passed" in together.stdout, together.stdout
        alone = run_pytest(pair.victim)
        assert "1 passed" in alone.stdout, alone.stdout


def found_in(journal: Path) -> dict[str, set[tuple[str, str]]]:
    """Return code and path of what each owner left behind, the warning registries of its module aside."""
    found: dict[str, set[tuple[str, str]]] = {}
    for event in read_journal(journal).events:
        finding = as_finding(event)
        if finding is not None and "__warningregistry__" not in finding.path:
            found.setdefault(finding.owner, set()).add((finding.code, finding.path))
    return found


@pytest.fixture(scope="module")
def through_pytest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[str, str]]]:
    """The findings of the plugin in the example suite, which it also heals."""
    journal = tmp_path_factory.mktemp("journal") / "pytest.jsonl"
    done = run("-m", "pytest", "-q", "--isolation=restore", f"--isolation-journal={journal}", **OURS_ALONE)
    assert done.returncode == 0, done.stdout
    return found_in(journal)


class TestDoors:
    @pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.state)
    def test_pytest_names_the_state(self, pair: Any, through_pytest: dict[str, set[tuple[str, str]]]) -> None:
        """In the run in which all tests pass, each polluter is named with what it left."""
        assert any(path.startswith(pair.state) for _, path in through_pytest[pair.polluter])

    def test_unittest_finds_the_same(self, through_pytest: dict[str, set[tuple[str, str]]], tmp_path: Path) -> None:
        """``python -m isolation_unittest`` heals the unmodified suite, and finds what pytest finds."""
        journal = tmp_path / "unittest.jsonl"
        done = run("-m", "isolation_unittest", ISOLATION_CORE_JOURNAL_DIR=str(journal))
        assert done.returncode == 0, done.stderr
        assert f"Ran {2 * 10 + 2} tests" in done.stderr
        found = found_in(journal)
        for pair in PAIRS[:10]:
            assert found[unittest_name(pair.polluter)] == through_pytest[pair.polluter]

    def test_script_finds_the_same(self, through_pytest: dict[str, set[tuple[str, str]]], tmp_path: Path) -> None:
        """``isolation run`` heals the script, names each step, and passes its exit code on."""
        journal, script = tmp_path / "script.jsonl", EXAMPLES / "polluted_script.py"
        done = run("-m", "isolation_core", "run", "--journal", str(journal), str(script))
        assert done.returncode == 0, done.stderr
        assert "10 of 10 checks hold" in done.stdout
        found = found_in(journal)
        tree = ast.parse(script.read_text(encoding="utf-8"))
        steps = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
        assert len(steps) == 10
        for step, pair in zip(steps, PAIRS[:10], strict=True):
            assert found[f"{script.name}::{step}"] == through_pytest[pair.polluter]

    def test_script_is_polluted_without(self) -> None:
        """With isolation off every check of the script fails, and so does the script."""
        done = run(str(EXAMPLES / "polluted_script.py"), ISOLATION_CORE_MODE="off")
        assert done.returncode == 1
        assert "0 of 10 checks hold" in done.stdout

    def test_demo_keeps_its_promise(self) -> None:
        """The demo ends well, and shows what README.md says it shows."""
        done = run(str(EXAMPLES / "demo.py"), **OURS_ALONE)
        assert done.returncode == 0, done.stdout + done.stderr
        readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
        shown = readme.partition("<!-- demo -->\n```text\n")[2].partition("```")[0]
        assert shown == done.stdout.lstrip("\n")
        assert max(map(len, done.stdout.splitlines())) <= 80


OWN_RUNNER = EXAMPLES / "own_runner"


def run_own(*args: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts of the runner of one's own, from another folder."""
    command = [sys.executable, str(OWN_RUNNER / args[0]), *args[1:]]
    return subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=600, check=False)


def test_a_runner_of_ones_own() -> None:
    """The runner of forty lines heals and names what a test leaves, and keeps what tests share."""
    done = run_own("runner.py", "checks")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" passed\n") == 3
    assert "checks.test_sale\n  MOD002 kiosk.PRICES['tea']: 3 -> 2, put back" in done.stdout
    assert "the run (session scope)\n  MOD002 kiosk.CONNECTIONS: [] -> ['memory:'], put back" in done.stdout


def test_performance_loop() -> None:
    """A barrier around each iteration: none finds what the one before computed, and the times are shown apart."""
    done = run_own("performance_loop.py")
    assert (done.returncode, done.stderr) == (0, "")
    first, function, its_barrier = done.stdout.splitlines()
    assert first == "1000 iterations, 1000 barriers, 1000 began without a cached result"
    assert function.startswith("measured function: ") and its_barrier.startswith("its barrier: ")
