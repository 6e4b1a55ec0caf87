"""``python -m benchmarks.no_harm [--plain] [--json FILE] [PROJECT ...]``.

Each suite runs in two shuffled orders: without the plugin, with it switched
off, and restoring. Where the first two differ in a test, that test is unsteady
by itself. Whatever differs only with the plugin restoring runs a second time
both ways, and counts as harm when it comes out the same way again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from attrs import field, frozen

from benchmarks._environments import CACHE, Environment, Observed, fetch_sdist, make_environment, unpack

_PROJECTS = json.loads(Path(__file__).with_name("projects.json").read_text())
_PYTHON = "3.11"
_SEEDS = (11, 29)
_MODES = {"plain": (), "off": ("--isolation=off",), "restore": ("--isolation=restore",)}
_ABSENT = "did not run"
_ROW = "{:<10} {:>5} {:>7} {:>9} {:>7} {:>6}  {:>8} {:>8}"


@frozen
class Comparison:
    """One suite in one order.

    Attributes:
        project: its name.
        seed: of the order.
        tests: how many ran.
        outcomes: how many of each outcome, without the plugin.
        unsteady: tests that differ between two runs without isolation, with both outcomes.
        off_harm: tests that differ, twice, with the plugin switched off.
        harm: tests that differ, twice, with the plugin restoring.
        plain_cpu: seconds of CPU of the run without the plugin.
        restore_cpu: the same with the plugin restoring.
        remark: the end of the output of a run that told nothing.
    """

    project: str
    seed: int
    tests: int = field(kw_only=True)
    outcomes: dict[str, int] = field(kw_only=True)
    unsteady: dict[str, list[str]] = field(kw_only=True)
    off_harm: dict[str, list[str]] = field(kw_only=True, factory=dict)
    harm: dict[str, list[str]] = field(kw_only=True, factory=dict)
    plain_cpu: float = field(kw_only=True)
    restore_cpu: float | None = field(kw_only=True, default=None)
    remark: str = field(kw_only=True, default="")


class _Suite:
    """One project's suite, ready to run."""

    def __init__(self, name: str) -> None:
        facts = _PROJECTS[name]
        self.name = name
        self.arguments: list[str] = facts.get("arguments", [])
        self.archive = fetch_sdist(facts["requirement"])
        requirements = [facts["requirement"], *facts["requirements"]]
        self.environment: Environment = make_environment(f"noharm-{name}", requirements, python=_PYTHON)

    def run(self, mode: str, seed: int) -> Observed:
        # Absent, not just unloaded: some suites start pytest themselves, which would load whatever is installed.
        if mode == "plain":
            self.environment.remove_checkout()
        else:
            self.environment.install_checkout()
        tree = unpack(self.archive, f"noharm-{self.name}-{mode}")
        return self.environment.pytest(
            ["-q", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={tree}", *_MODES[mode], *self.arguments],
            cwd=tree,
            shuffle=seed,
            autoload=True,
            timeout=600,
            # Their own sources count as first-party, as they do for those who work on them.
            variables={"PYTHONPATH": str(tree / "src")} if (tree / "src").is_dir() else {},
        )


def _differences(one: Observed, other: Observed) -> dict[str, list[str]]:
    tests = dict.fromkeys([*one.outcomes, *other.outcomes])
    pairs = {test: [one.outcomes.get(test, _ABSENT), other.outcomes.get(test, _ABSENT)] for test in tests}
    return {test: pair for test, pair in pairs.items() if pair[0] != pair[1]}


def _counts(observed: Observed) -> dict[str, int]:
    words = list(observed.outcomes.values())
    counts = {word: words.count(word) for word in sorted(set(words))}
    uncollected = len(observed.runs[-1]["uncollected"]) if observed.runs else 0
    return counts | ({"not collected": uncollected} if uncollected else {})


def _cpu(observed: Observed) -> float:
    return observed.runs[-1]["cpu"] if observed.runs else 0.0


def _remark(*runs: Observed) -> str:
    # A run that ended early compares with nothing; its last words say why.
    return next(
        ("\n".join(run.output.splitlines()[-25:]) or "died without a word" for run in runs if not run.outcomes), ""
    )


def _compare(suite: _Suite, seed: int, *, plain_only: bool) -> Comparison:
    plain = suite.run("plain", seed)
    again = suite.run("plain" if plain_only else "off", seed)
    differing = _differences(plain, again)
    if plain_only:
        return Comparison(
            suite.name,
            seed,
            tests=len(plain.outcomes),
            outcomes=_counts(plain),
            unsteady=differing,
            plain_cpu=_cpu(plain),
            remark=_remark(plain, again),
        )
    restored = suite.run("restore", seed)
    suspects = _differences(plain, restored)
    off_harm: dict[str, list[str]] = {}
    harm: dict[str, list[str]] = {}
    unsteady: dict[str, list[str]] = {}
    if differing or suspects:
        steady = _differences(plain, second := suite.run("plain", seed))
        second_off = _differences(second, suite.run("off", seed)) if differing else {}
        second_restored = _differences(second, suite.run("restore", seed)) if suspects else {}
        for test, pair in (differing | suspects).items():
            if test not in steady and differing.get(test) == second_off.get(test) == pair:
                off_harm[test] = pair
            elif test not in steady and suspects.get(test) == second_restored.get(test) == pair:
                harm[test] = pair
            else:
                unsteady[test] = pair
    return Comparison(
        suite.name,
        seed,
        tests=len(plain.outcomes),
        outcomes=_counts(plain),
        unsteady=unsteady,
        off_harm=off_harm,
        harm=harm,
        plain_cpu=_cpu(plain),
        restore_cpu=_cpu(restored),
        remark=_remark(plain, again, restored),
    )


def _show(comparison: Comparison, *, plain_only: bool) -> None:
    on = "-" if comparison.restore_cpu is None else f"{comparison.restore_cpu:.1f}"
    print(
        _ROW.format(
            comparison.project,
            comparison.seed,
            comparison.tests,
            len(comparison.unsteady),
            "-" if plain_only else len(comparison.off_harm),
            "-" if plain_only else len(comparison.harm),
            f"{comparison.plain_cpu:.1f}",
            on,
        ),
        ", ".join(f"{count} {word}" for word, count in comparison.outcomes.items()),
        flush=True,
    )
    for word, tests in (("off", comparison.off_harm), ("restore", comparison.harm), ("unsteady", comparison.unsteady)):
        for test, (before, after) in list(tests.items())[:25]:
            print(f"    {word}: {test}: {before} -> {after}")
        if len(tests) > 25:
            print(f"    {word}: and {len(tests) - 25} more")
    if comparison.remark:
        print(comparison.remark)


def main() -> int:
    """Compare the chosen suites and print a table; the exit code is 0 if none was harmed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.no_harm", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(_PROJECTS)}; all if none")
    parser.add_argument("--plain", action="store_true", help="only find out which tests are unsteady by themselves")
    parser.add_argument("--json", type=Path, default=CACHE / "no_harm.json", help="where the results go")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(_PROJECTS)):
        parser.error(f"no such project: {', '.join(unknown)}; there are {', '.join(_PROJECTS)}")

    print(_ROW.format("project", "order", "tests", "unsteady", "by off", "by on", "cpu s", "with on"), " outcomes")
    comparisons = []
    for name in options.names or _PROJECTS:
        suite = _Suite(name)
        for seed in _SEEDS:
            comparisons.append(_compare(suite, seed, plain_only=options.plain))
            _show(comparisons[-1], plain_only=options.plain)
    harmed = [each for each in comparisons if each.harm or each.off_harm or not each.tests or each.remark]
    print(f"\n{len(comparisons) - len(harmed)} of {len(comparisons)} runs unharmed")
    record = [
        {
            "project": each.project,
            "seed": each.seed,
            "tests": each.tests,
            "outcomes": each.outcomes,
            "unsteady": each.unsteady,
            "off_harm": each.off_harm,
            "harm": each.harm,
            "plain_cpu": each.plain_cpu,
            "restore_cpu": each.restore_cpu,
            "remark": each.remark,
        }
        for each in comparisons
    ]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1))
    return 1 if harmed else 0


if __name__ == "__main__":
    sys.exit(main())
