"""The ``isolation`` command: run a script in isolation, read journals, explain findings."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from isolation_core.config import load_settings
from isolation_core.errors import ConfigurationError, JournalError, did_you_mean

__all__ = ["main"]

_FINE, _FOUND, _USAGE, _NOTHING = 0, 1, 2, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        0 if all is well, 1 if a report has unhealed findings and ``--check`` was
        given, 2 for wrong usage, 4 if there is no journal; ``run`` returns the
        exit code of the script, or 1 instead of 0 in mode ``strict`` if it left
        something behind.
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    args, unknown = parser.parse_known_args(given)
    if args.action is _audit:
        args.args = given[given.index("audit") + 1 :]  # all of it is for pytest, in the order it was given
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = args.action(args)
    except ConfigurationError as error:
        return _fail(str(error), _USAGE)
    except JournalError as error:
        return _fail(str(error), _NOTHING)
    except BrokenPipeError:
        # The reader of our output has seen enough (`isolation report | head`);
        # what is still buffered must not fail once more when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FINE
    return code


def _fail(message: str, code: int) -> int:
    print(f"isolation: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isolation", description=__doc__)
    parser.add_argument("--version", action="version", version=f"isolation-core {version('isolation-core')}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    run = _verb(
        verbs,
        "run",
        "run a script with isolation on and name on stderr what it leaves behind",
        "isolation run script.py --its-own-option",
        "isolation run --mode strict --journal .isolation script.py",
        "isolation run -m package.module --its-own-option",
    )
    run.add_argument("--mode", help="off, report, restore (default) or strict")
    run.add_argument("--packages", metavar="NAMES", help="comma-separated packages whose module state is watched")
    run.add_argument("--ignore", action="append", metavar="KIND:GLOB", help="leave matching changes alone (repeatable)")
    run.add_argument("--journal", metavar="PATH", help="write a journal: a folder, or a file that ends in .jsonl")
    run.add_argument("-m", dest="module", action="store_true", help="SCRIPT is the name of a module, as for python -m")
    run.add_argument("script", help="the script to run, or with -m the module")
    run.add_argument("args", nargs=argparse.REMAINDER, help="its arguments")
    run.set_defaults(action=_run)

    report = _verb(
        verbs,
        "report",
        "show the findings in journals",
        "isolation report .isolation",
        "isolation report --format json --output report.json shard1.jsonl shard2.jsonl",
    )
    report.add_argument("journal", nargs="+", help="journal files or folders")
    report.add_argument("--format", choices=("text", "json"), default="text")
    report.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to stdout")
    report.add_argument("--notes", action="store_true", help="list harmless changes as well")
    report.add_argument("--all", action="store_true", help="list every finding, not only the worst ten")
    report.add_argument("--check", action="store_true", help="exit with 1 if something was found")
    report.set_defaults(action=_report)

    merge = _verb(
        verbs,
        "merge",
        "join the journals of several processes, shards or runs into one folder",
        "isolation merge shard1 shard2 -o merged",
        "isolation merge .isolation/*.jsonl -o merged",
    )
    merge.add_argument("journal", nargs="+", help="journal files or folders")
    merge.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    merge.set_defaults(action=_merge)

    audit = _verb(
        verbs,
        "audit",
        "find the tests that depend on others, and prove by experiment on which test and which state",
        "isolation audit",
        "isolation audit tests/unit -x",
    )
    audit.add_argument("args", nargs="*", help="arguments for pytest")
    audit.set_defaults(action=_audit)

    explain = _verb(
        verbs,
        "explain",
        "say what the code of a finding means and what to do about it",
        "isolation explain ENV001",
        "isolation explain mod001",
        "isolation explain",
    )
    explain.add_argument("code", nargs="?", help="a code such as ENV001; without one, all codes are listed")
    explain.set_defaults(action=_explain)
    return parser


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, *examples: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _run(args: argparse.Namespace) -> int:
    from isolation_script._run import INTERRUPTED, end_by_interrupt, run_module, run_script

    settings = load_settings(
        overrides={
            "mode": args.mode,
            "packages": [name for name in args.packages.split(",") if name] if args.packages else None,
            "ignore": args.ignore,
            "journal_dir": args.journal,
        }
    )
    if settings.unread is not None:
        print(f"isolation: settings come from {settings.source}; {settings.unread} is not read", file=sys.stderr)
    code = (run_module if args.module else run_script)(args.script, args.args, settings)
    if code == INTERRUPTED:
        end_by_interrupt()
    return code


def _report(args: argparse.Namespace) -> int:
    from isolation_core.journal import merge_journals, totals_of
    from isolation_core.reports import render_json, render_summary

    records = merge_journals(args.journal)
    if args.format == "json":
        text = render_json(records)
    else:
        limit = None if args.all else 10
        text = "\n".join(render_summary(records, limit=limit, include_notes=args.notes, always=True))
    if args.output is None:
        print(text)
    else:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")
        print(f"report written to {args.output}", file=sys.stderr)
    totals = totals_of(records)
    found = totals.restored + totals.remaining - totals.known
    return _FOUND if args.check and found else _FINE


def _merge(args: argparse.Namespace) -> int:
    from isolation_core.journal import merge_journals, write_journal

    output: Path = args.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        return _fail(f"{output} exists and is not an empty folder; name a new one", _USAGE)
    records = merge_journals(args.journal)
    write_journal(records, output)
    for warning in records.warnings:
        print(f"isolation: {warning}", file=sys.stderr)
    print(f"{len(records.processes)} processes, {len(records.events)} events in {output}", file=sys.stderr)
    return _FINE


def _audit(args: argparse.Namespace) -> int:
    from isolation_script.audit import PytestRuns, render_audit

    def say(text: str) -> None:
        print(f"isolation audit: {text}", file=sys.stderr, flush=True)

    audit = PytestRuns(args.args, say=say).audit()
    for line in render_audit(audit):
        print(line)
    return _FOUND if audit.verdicts or audit.brittle else _FINE


def _explain(args: argparse.Namespace) -> int:
    from isolation_core.codes import CODES
    from isolation_core.reports import explain

    if args.code is None:
        for each in CODES.values():
            print(f"{each.code}  {each.title}{' (reserved)' if each.reserved else ''}")
        return _FINE
    entry = explain(args.code)
    if entry is None:
        hint = did_you_mean(args.code.upper(), CODES, otherwise="`isolation explain` lists all of them")
        return _fail(f"{args.code!r} is not the code of a finding; {hint}", _USAGE)
    reserved = "\n\nThis code is reserved: nothing in this version reports it." if entry.reserved else ""
    print(f"{args.code.upper()}  {entry.title}\n\n{entry.explanation}\n\n{entry.fix}{reserved}")
    return _FINE


if __name__ == "__main__":
    sys.exit(main())
