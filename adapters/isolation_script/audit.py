"""``isolation audit``: runs pytest in processes of its own, and proves which test breaks which."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import field, frozen

from isolation_core.diagnosis import Prover, Verdict
from isolation_core.errors import ConfigurationError
from isolation_core.findings import Change, Leak
from isolation_core.journal import as_finding, read_journal

__all__ = ["Audit", "PytestRuns", "render_audit"]

_WHOLE_RUNS: Final = 60.0
"""Seconds of whole runs that may be spent for each victim: finding its polluter in pairs takes longer."""

Say = Callable[[str], None]


@frozen
class Audit:
    """What an audit found.

    Attributes:
        tests: how many tests ran.
        verdicts: one for each test that fails without isolation and passes with it.
        broken: tests that fail with isolation as well, so that their order is not the reason.
        brittle: tests that pass without isolation and fail with it: they need what another test left.
        sessions: how many pytest sessions were run.
    """

    tests: int
    verdicts: tuple[Verdict, ...]
    broken: tuple[str, ...] = field(default=(), kw_only=True)
    brittle: tuple[str, ...] = field(default=(), kw_only=True)
    sessions: int = field(default=0, kw_only=True)


class PytestRuns:
    """Runs pytest sessions for experiments.

    Args:
        arguments: what the user gives to pytest: files, options.
        folder: where to run.
        say: receives what is going on, line by line.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path | None = None, say: Say | None = None) -> None:
        self._arguments = list(arguments)
        self._folder = Path.cwd() if folder is None else folder
        # Options go with every session, tests and folders only with the first ones.
        self._options = [each for each in self._arguments if not (self._folder / each.partition("::")[0]).exists()]
        self._say = say or (lambda _: None)
        self.count = 0

    def audit(self) -> Audit:
        """Run the tests in report mode and in restore mode, and judge those whose outcomes differ.

        Raises:
            ConfigurationError: if pytest did not run any test; the message holds its last lines.
        """
        self._say("the whole suite, nothing put back")
        begin = time.perf_counter()
        left, findings = self._whole("report")
        seconds = time.perf_counter() - begin
        self._say("the whole suite, isolated")
        healed, _ = self._whole("restore")
        failed = [test for test, passed in left.items() if not passed]
        victims = [test for test in failed if healed.get(test)]
        is_short = seconds * len({(each.kind, each.path) for each in findings}) <= _WHOLE_RUNS * max(1, len(victims))
        verdicts = []
        for verdict in Prover(self, findings).judge_all(victims, self._whole_with if is_short else None):
            verdicts.append(verdict)
            self._say(f"{len(verdicts)} of {len(victims)}: {verdict.word}, {verdict.test}")
        return Audit(
            len(left),
            tuple(verdicts),
            broken=tuple(test for test in failed if not healed.get(test)),
            brittle=tuple(test for test, passed in healed.items() if not passed and left.get(test)),
            sessions=self.count,
        )

    def __call__(self, tests: Sequence[str], state: Iterable[Change | Leak] | None) -> Mapping[str, bool]:
        """Run *tests* in this order; see `isolation_core.diagnosis.Experiment`."""
        return self._run([*self._options, *_putting_back(state), *tests])[0]

    def _whole_with(self, _: Sequence[str], state: Iterable[Change | Leak] | None) -> Mapping[str, bool]:
        return self._run([*self._arguments, *_putting_back(state)])[0]

    def _whole(self, mode: str) -> tuple[dict[str, bool], list[Change | Leak]]:
        with tempfile.TemporaryDirectory() as place:
            journal = Path(place) / "journal.jsonl"
            passed, output = self._run([*self._arguments, f"--isolation={mode}", f"--isolation-journal={journal}"])
            if not passed:
                tail = "\n".join(output.splitlines()[-15:])
                raise ConfigurationError(f"pytest ran no test; it said:\n{tail}", name="audit")
            found = map(as_finding, read_journal(journal).events) if journal.exists() else iter(())
            return passed, [each for each in found if each is not None]

    def _run(self, arguments: Sequence[str]) -> tuple[dict[str, bool], str]:
        self.count += 1
        with tempfile.TemporaryDirectory() as place:
            outcomes = Path(place) / "outcomes.json"
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "isolation_pytest.outcomes",
                "-p",
                "no:cacheprovider",
            ]
            # The order of the tests is part of each experiment.
            command += ["-p", "no:randomly", "-p", "no:xdist", *arguments]
            environ = {**os.environ, "ISOLATION_CORE_OUTCOMES": str(outcomes), "PYTHONDONTWRITEBYTECODE": "1"}
            done = subprocess.run(  # noqa: S603 - pytest, with the user's own arguments
                command, cwd=self._folder, env=environ, capture_output=True, text=True, check=False
            )
            passed = json.loads(outcomes.read_text("utf-8")) if outcomes.exists() else {}
            return passed, done.stdout + done.stderr


def _putting_back(state: Iterable[Change | Leak] | None) -> list[str]:
    """Return the options that put back *state* and nothing else."""
    if state is None:
        return ["--isolation=off"]
    return ["--isolation=restore", *(f"--isolation-ignore=!{each.kind}:{each.path}" for each in state)]


def render_audit(audit: Audit) -> Iterator[str]:
    """Yield the lines of an audit's report: each verdict with the command that shows it."""
    for verdict in audit.verdicts:
        yield from _verdict(verdict)
    for test in audit.brittle:
        yield f"brittle         {test}"
        yield "  passes only with what another test leaves; pytest -v says below its failure which"
    if audit.broken:
        yield f"{len(audit.broken)} more failed with isolation as well: the order is not the reason"
    counts = {word: sum(verdict.word == word for verdict in audit.verdicts) for word in ("proved", "likely")}
    rest = len(audit.verdicts) - sum(counts.values())
    yield (
        f"{audit.tests} tests, {len(audit.verdicts) + len(audit.brittle)} depend on others: "
        f"{counts['proved']} proved, {counts['likely']} likely, {rest} not explained, "
        f"{len(audit.brittle)} brittle ({audit.sessions} sessions)"
    )


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.word:<14}  {verdict.test}"
    if verdict.polluter is None:
        return
    yield f"  broken by     {verdict.polluter}"
    for each in verdict.state:
        yield f"  through       {each.path}"
    pair = f"{shlex.quote(verdict.polluter)} {shlex.quote(verdict.test)}"
    yield f"  to see it     pytest --isolation=off {pair}"
