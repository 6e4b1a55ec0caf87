"""Runs one case without and with isolation and judges what came out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from attrs import field, frozen

from benchmarks._environments import CACHE, Environment, Observed, fetch_sdist, make_environment, unpack
from benchmarks.realworld._cases import Case

__all__ = ["Verdict", "judge"]

_ON = ("-p", "isolation_pytest.plugin", "--isolation=restore")


@frozen
class Verdict:
    """What one case showed.

    Attributes:
        confirmed: plain pytest behaves as recorded (the case is one).
        right: with isolation on it behaves as it should: a victim passes, a brittle test fails as it does alone.
        named: how many of the parts of the state the journal names, with the polluter as owner.
        parts: how many parts there are.
        paths: the paths that named them, and, if some part is missing, whatever else was reported.
        shown: whether the terminal summary shows a path that names it too.
        off_ms: CPU per test without isolation, milliseconds.
        on_ms: the same with isolation.
        remark: why it is wrong, when it is.
    """

    case: Case
    confirmed: bool = field(kw_only=True)
    right: bool = field(kw_only=True, default=False)
    named: int = field(kw_only=True, default=0)
    parts: int = field(kw_only=True)
    paths: list[str] = field(kw_only=True, factory=list)
    shown: bool = field(kw_only=True, default=False)
    off_ms: float = field(kw_only=True, default=0.0)
    on_ms: float | None = field(kw_only=True, default=None)
    remark: str = field(kw_only=True, default="")


def judge(case: Case, *, plain_only: bool = False) -> Verdict:
    """Run *case*, without isolation and (unless *plain_only*) with it.

    Raises:
        SystemExit: if its environment or its sources cannot be had.
    """
    environment = make_environment(case.name, case.requirements, python=case.python)
    expected = "passed" if case.kind == "brittle" else "failed"

    plain = _run(case, environment, "plain")
    alone = _run(case, environment, "alone", polluters=False, times=1)
    confirmed = _last(case, plain) == expected and _last(case, alone) == (
        "failed" if case.kind == "brittle" else "passed"
    )
    verdict = Verdict(
        case,
        confirmed=confirmed,
        parts=len(case.patterns),
        off_ms=_cost(plain),
        remark="" if confirmed else f"plain: {_last(case, plain)}, alone: {_last(case, alone)}\n{_tail(plain)}",
    )
    if plain_only or not confirmed:
        return verdict

    environment.install_checkout()
    journals = CACHE / "journals" / str(case.number)
    shutil.rmtree(journals, ignore_errors=True)
    journals.mkdir(parents=True)
    isolated = _run(case, environment, "isolated", extra=(*_ON, f"--isolation-journal={journals}/{{run}}.jsonl"))
    changes = _changes(journals)
    by_culprit = [path for path, owner in changes if _blames(owner, case)]
    namers = [next((path for path in by_culprit if pattern.search(path)), None) for pattern in case.patterns]
    found = [path for path in namers if path is not None]
    wrong = _wrong(case, plain, alone, isolated)
    return Verdict(
        case,
        confirmed=True,
        right=not wrong,
        named=len(found),
        parts=len(namers),
        paths=list(dict.fromkeys(found + ([] if len(found) == len(namers) else [path for path, _ in changes]))),
        shown=any(path in isolated.output for path in found),
        off_ms=_cost(plain),
        on_ms=_cost(isolated),
        remark=wrong,
    )


def _run(
    case: Case,
    environment: Environment,
    label: str,
    *,
    polluters: bool = True,
    times: int | None = None,
    extra: tuple[str, ...] = (),
) -> Observed:
    tree = unpack(fetch_sdist(case.requirement), f"{case.number}-{label}") / case.test_root
    for name, text in case.stand_ins.items():
        (tree / name).write_text(text)
    tests = (*case.polluters, case.victim) if polluters else (case.victim,)
    common = ("-q", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={tree}")
    twice = 2 if case.kind == "nio" else 1
    # The projects are not installed; those with a src/ folder need it on the path.
    return environment.pytest(
        [*common, *extra, *tests],
        cwd=tree,
        times=times or twice,
        variables={"PYTHONPATH": str(tree / "src")},
        timeout=300,
    )


def _outcomes(observed: Observed, run: int) -> dict[str, str]:
    return observed.runs[run]["outcomes"] if len(observed.runs) > run else {}


def _last(case: Case, observed: Observed) -> str:
    return observed.outcomes.get(case.victim, "did not run") if observed.runs else "crashed"


def _message(case: Case, observed: Observed) -> str:
    messages = observed.runs[-1]["messages"]
    # Addresses differ from process to process, and so do the folders the trees lie in.
    return re.sub(r"0x[0-9a-f]+|/\S*/trees/\S*?/", "", messages.get(case.victim, ""))


def _wrong(case: Case, plain: Observed, alone: Observed, isolated: Observed) -> str:
    verdict = _last(case, isolated)
    wanted = "failed" if case.kind == "brittle" else "passed"
    if verdict != wanted:
        why = _message(case, isolated) or _tail(isolated)
        return f"{verdict} with isolation on: {why}"
    if case.kind == "brittle" and _message(case, isolated) != _message(case, alone):
        return f"fails otherwise than alone: {_message(case, isolated)!r} instead of {_message(case, alone)!r}"
    moved = [test for test in case.polluters if _outcomes(plain, 0).get(test) != _outcomes(isolated, 0).get(test)]
    return f"polluter has another outcome with isolation on: {', '.join(moved)}" if moved else ""


def _blames(owner: str, case: Case) -> bool:
    # Set-up done for a whole class or file may be what pollutes: then the class or file is the owner.
    return any(culprit.startswith(owner) or owner.startswith(culprit) for culprit in case.culprits if owner)


def _changes(journals: Path) -> list[tuple[str, str]]:
    changes = []
    for journal in sorted(journals.rglob("*.jsonl")):
        for line in journal.read_text().splitlines():
            event = json.loads(line)
            if event.get("ev") == "change":
                changes.append((str(event["path"]), str(event.get("owner", ""))))
    return changes


def _cost(observed: Observed) -> float:
    spans = [run["starts"] for run in observed.runs]
    tests = sum(len(starts) - 1 for starts in spans)
    return 1000 * sum(starts[-1] - starts[0] for starts in spans) / max(tests, 1)


def _tail(observed: Observed) -> str:
    return "\n".join(observed.output.splitlines()[-8:])
