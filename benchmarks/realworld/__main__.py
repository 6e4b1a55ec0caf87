"""``python -m benchmarks.realworld [--plain] [--json FILE] [PROJECT or NUMBER ...]``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks._environments import CACHE
from benchmarks.realworld._cases import load_cases
from benchmarks.realworld._verdicts import Verdict, judge

_ROW = "{:>2}  {:<22} {:<8} {:<13} {:<12} {:<9} {:>7} {:>7}  {}"


def _row(verdict: Verdict, *, plain_only: bool) -> str:
    case = verdict.case
    recorded = "as recorded" if verdict.confirmed else "NOT SO"
    if plain_only or not verdict.confirmed:
        right = named = "-"
    else:
        right = ("fails alike" if case.kind == "brittle" else "passes") if verdict.right else "WRONG"
        named = "yes" if verdict.named == verdict.parts else f"{verdict.named} of {verdict.parts}"
        named += "" if verdict.shown or not verdict.named else ", hidden"
    off = f"{verdict.off_ms:.2f}"
    on = "-" if verdict.on_ms is None else f"{verdict.on_ms:.2f}"
    return _ROW.format(case.number, case.name, case.kind, recorded, right, named, off, on, " ".join(verdict.paths[:2]))


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({100 * part / whole:.0f} %)" if whole else "")


def _closing(verdicts: list[Verdict]) -> str:
    curable = [verdict for verdict in verdicts if verdict.case.kind != "brittle"]
    brittle = [verdict for verdict in verdicts if verdict.case.kind == "brittle"]
    healed = [verdict for verdict in curable if verdict.right]
    named = [verdict for verdict in healed if verdict.named == verdict.parts]
    alike = [verdict for verdict in brittle if verdict.right]
    return "\n".join(
        [
            f"confirmed without isolation   {_share(sum(v.confirmed for v in verdicts), len(verdicts))}",
            f"victim and nio heal           {_share(len(healed), len(curable))}",
            f"healed and the state named    {_share(len(named), len(healed))}",
            f"... and shown in the summary  {_share(sum(v.shown for v in named), len(healed))}",
            f"brittle fail as alone         {_share(len(alike), len(brittle))}",
            f"brittle with the state named  {_share(sum(v.named == v.parts for v in brittle), len(brittle))}",
        ]
    )


def main() -> int:
    """Run the chosen cases and print the table; the exit code is 0 if every case came out right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.realworld", description=__doc__)
    parser.add_argument("names", nargs="*", help="projects (six) or numbers of cases; all if none")
    parser.add_argument("--plain", action="store_true", help="only confirm the recorded verdicts, without isolation")
    parser.add_argument("--json", type=Path, default=CACHE / "realworld.json", help="where the results go")
    options = parser.parse_args()
    cases = load_cases(options.names)

    print(_ROW.format("no", "project", "kind", "without", "with", "named", "off ms", "on ms", "paths"), flush=True)
    verdicts = []
    for case in cases:
        verdicts.append(judge(case, plain_only=options.plain))
        print(_row(verdicts[-1], plain_only=options.plain), flush=True)
    for verdict in verdicts:
        if verdict.remark or (verdict.right and verdict.named < verdict.parts):
            heading = f"{verdict.case.number} {verdict.case.name}: {verdict.case.victim}"
            wanted = f"state {verdict.case.state}; named: {' '.join(verdict.paths) or 'nothing'}"
            print(f"\n{heading}\n{verdict.remark or 'right, but not named'}\n{wanted}")
    print("\nCPU per test in milliseconds, over the few tests of the case, first use of everything included.")
    print("named: the journal has a change with the polluter as owner for each part of the recorded state;")
    print("hidden: the terminal summary shows none of these paths.\n")
    print(_closing(verdicts))

    record = [
        {
            "number": verdict.case.number,
            "project": verdict.case.project,
            "victim": verdict.case.victim,
            "kind": verdict.case.kind,
            "state": verdict.case.state,
            "confirmed": verdict.confirmed,
            "right": verdict.right,
            "named": verdict.named,
            "parts": verdict.parts,
            "shown": verdict.shown,
            "paths": verdict.paths,
            "off_ms": verdict.off_ms,
            "on_ms": verdict.on_ms,
            "remark": verdict.remark,
        }
        for verdict in verdicts
    ]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1))
    wrong = [v for v in verdicts if not v.confirmed or not (v.right or options.plain)]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
