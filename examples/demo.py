"""Run the polluted suite three times and show what isolation does to it.

Exit code 0 only if every promise held: without isolation each victim fails,
report mode names each polluter with the state it left, and restore mode lets
every test pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from isolation_core.findings import Change, Leak
from isolation_core.journal import as_finding, read_journal

SUITE = Path(__file__).resolve().parent / "polluted_suite"


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


@dataclass
class Run:
    """One run of the suite: the outcome of each test, and what was found."""

    failed: dict[str, bool] = field(default_factory=dict)
    findings: list[Change | Leak] = field(default_factory=list)
    output: str = ""

    @property
    def totals(self) -> str:
        """The outcome in words."""
        count = sum(self.failed.values())
        words = [f"{len(self.failed) - count} passed"] + ([f"{count} failed"] if count else [])
        return ", ".join(words)

    def finding_of(self, pair: Pair) -> Change | Leak | None:
        """Return what was reported of the polluter of *pair*, if it is the state that breaks the victim."""
        for finding in self.findings:
            if pair.polluter in finding.owner and finding.path.startswith(pair.state):
                return finding
        return None


def run_suite(mode: str, *extra: str) -> Run:
    """Run the suite in a process of its own with ``--isolation=MODE``."""
    with tempfile.TemporaryDirectory() as folder:
        report, journal = Path(folder) / "report.xml", Path(folder) / "journal.jsonl"
        command = [
            *(sys.executable, "-m", "pytest", f"--isolation={mode}", f"--isolation-journal={journal}"),
            *(f"--junit-xml={report}", "-p", "no:cacheprovider", "-p", "no:randomly", "--color=no", *extra),
        ]
        # Settings of the user's environment must not decide how the demo ends.
        ours = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONWARN", "ISOLATION_CORE_"))}
        done = subprocess.run(command, cwd=SUITE, env=ours, capture_output=True, text=True, check=False)
        run = Run(output=done.stdout + done.stderr)
        if report.exists():
            run.failed = dict(_outcomes(report))
        if journal.exists():
            found = (as_finding(event) for event in read_journal(journal).events)
            run.findings = [finding for finding in found if finding is not None]
    return run


def _outcomes(report: Path) -> Iterator[tuple[str, bool]]:
    for case in ET.parse(report).iter("testcase"):
        failed = any(child.tag in ("failure", "error") for child in case)
        yield _report_name(f"{case.get('classname')}::{case.get('name')}"), failed


def _report_name(test_id: str) -> str:
    """Return *test_id* the way the XML report spells it."""
    return test_id.replace("/", ".").replace(".py::", ".").replace("::", ".")


def _short(test_id: str) -> str:
    return test_id.rpartition("::")[2]


def _path(finding: Change | Leak | None) -> str:
    return "not reported" if finding is None else finding.path


def _check(off: Run, report: Run, restore: Run) -> Iterator[str]:
    """Yield, one line each, what is not as promised."""
    victims = {_report_name(pair.victim) for pair in PAIRS}
    for mode, run, doomed in (("off", off, victims), ("report", report, victims), ("restore", restore, set())):
        if not run.failed:
            yield f"--isolation={mode}: the suite did not run:\n{run.output[-2000:]}"
        for test, failed in run.failed.items():
            if failed != (test in doomed):
                yield f"--isolation={mode}: {test} should {'fail' if test in doomed else 'pass'}"
    for pair in PAIRS:
        if report.failed and report.finding_of(pair) is None:
            told = [finding.path for finding in report.findings if pair.polluter in finding.owner] or "nothing"
            yield f"--isolation=report: {pair.polluter} should be named with {pair.state}, but it was {told}"


def main() -> int:
    """Run the demo; return 0 if the promise held."""
    off, report, restore = run_suite("off"), run_suite("report"), run_suite("restore")
    tests, polluters = len(off.failed), len(PAIRS)
    print(f"\n{tests} tests of a small shop; {polluters} of them leave something behind, and break another.\n")
    print(f"1  pytest --isolation=off      {off.totals}, and nothing says why\n")
    print(f"2  pytest --isolation=report   {report.totals}, and this is why:\n")
    rows = [(_short(pair.polluter), _path(report.finding_of(pair)), _short(pair.victim)) for pair in PAIRS]
    for polluter, path, victim in [("this test", "leaves this behind", "and breaks"), *rows]:
        print(f"   {polluter:<15}  {path:<40}  {victim}")
    print(f"\n3  pytest --isolation=restore  {restore.totals}: whatever was left behind is put back\n")
    problems = list(_check(off, report, restore))
    named = sum(report.finding_of(pair) is not None for pair in PAIRS)
    healed = sum(not restore.failed.get(_report_name(pair.victim), True) for pair in PAIRS)
    print(f"{named} of {len(PAIRS)} polluters named, {healed} of {len(PAIRS)} victims healed.")
    for problem in problems:
        print(f"NOT AS PROMISED  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
