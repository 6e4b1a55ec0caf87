"""CONTRIBUTING.md and the architecture page say what is true of the source."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "isolation_core"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FORWARDING = {"isolation_core/__init__.py", "isolation_core/__main__.py"}

UPWARD = {
    # FixtureManager, the runner of fixtures for scripts, opens a barrier for each scope.
    ("isolation_core/fixtures/", "isolation_core/barrier.py"),
}
"""Imports to a layer above, from a module to another: inside of functions, each for a reason."""

PRIVATE = {
    # The barrier composes the components: it is the one module that knows their insides.
    ("isolation_core/barrier.py", "isolation_core/contamination/"),
    ("isolation_core/barrier.py", "isolation_core/fixtures/"),
    ("isolation_core/barrier.py", "isolation_core/lifecycle/"),
    ("isolation_core/_watched.py", "isolation_core/contamination/"),
    # A session promotes late set-ups in the undo log, and leaves modules of the runner alone.
    ("isolation_core/runner.py", "isolation_core/contamination/"),
    # A fixture is a node: its cleanups are entries of a lifecycle.
    ("isolation_core/fixtures/", "isolation_core/lifecycle/"),
    # Event loops of the lifecycle, made public for runners.
    ("isolation_core/loops.py", "isolation_core/lifecycle/"),
    # Values of fixtures are watched by the undo log.
    ("isolation_core/fixtures/", "isolation_core/contamination/"),
}
"""Imports of private modules of another component."""


def layers() -> list[list[str]]:
    """Return the rows of the layout table, outermost first: the modules of each, as it names them."""
    table = CONTRIBUTING.partition("| layer | modules | contents |\n")[2].partition("\n\n")[0]
    return [re.findall(r"`([^`]+)`", row.split("|")[2]) for row in table.splitlines()[1:]]


RANK = {name: rank for rank, names in enumerate(layers()) for name in names}


def place_of(path: str) -> str:
    """Return the name under which the layout table lists the file at *path*."""
    parts = path.split("/")
    folder = "/".join(parts[:2]) + "/"
    return folder if len(parts) > 2 else path


def file_of(module: str) -> str | None:
    """Return the path of a module of this project, or None."""
    home = ROOT if module.partition(".")[0] == "isolation_core" else ROOT / "adapters"
    for candidate in (
        home.joinpath(*module.split(".")).with_suffix(".py"),
        home.joinpath(*module.split("."), "__init__.py"),
    ):
        if candidate.is_file():
            return candidate.relative_to(ROOT).as_posix()
    return None


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the modules that the file at *path* imports at run time, with their first imported name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_annotations = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_annotations:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, "") if file_of(inner) else (node.module, alias.name)


SOURCES = sorted([*CORE.rglob("*.py"), *(ROOT / "adapters").rglob("*.py")])
EDGES = [
    (path.relative_to(ROOT).as_posix(), target, module)
    for path in SOURCES
    for module, _ in imports_of(path)
    if (target := file_of(module)) is not None
]


def test_the_layout_table_lists_every_module() -> None:
    """Each module and package of the source is in one row of the layout table, and each entry exists."""
    places = {place_of(path.relative_to(ROOT).as_posix()) for path in SOURCES} - FORWARDING
    assert {"unlisted": places - RANK.keys(), "gone": RANK.keys() - places} == {"unlisted": set(), "gone": set()}
    assert len(RANK) == sum(len(row) for row in layers())


def test_imports_go_down() -> None:
    """A module imports from its own row of the layout table and from rows below it."""
    upward = {
        (place_of(source), place_of(target), source)
        for source, target, _ in EDGES
        if not {source, target} & FORWARDING and RANK[place_of(source)] > RANK[place_of(target)]
    }
    assert {edge for edge in upward if edge[:2] not in UPWARD} == set()
    assert {edge[:2] for edge in upward} == UPWARD, "an exception that is not needed any more"


def test_components_share_public_modules_only() -> None:
    """No component imports a private module of another one, apart from the listed exceptions."""
    private = {
        (place_of(source), place_of(target), f"{source} imports {module}")
        for source, target, module in EDGES
        if place_of(source) != place_of(target)
        and place_of(source).startswith("isolation_core")
        and place_of(target).endswith("/")
        and re.search(r"\._(?!_)", module)
    }
    assert {edge[2] for edge in private if edge[:2] not in PRIVATE} == set()
    assert {edge[:2] for edge in private} == PRIVATE, "an exception that is not needed any more"


def test_the_core_imports_no_adapter_and_only_the_pytest_adapter_imports_pytest() -> None:
    """The core knows no runner, and the private modules of pytest are not imported at all."""
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        packages = {module.partition(".")[0] for module, _ in imports_of(path)}
        assert "_pytest" not in packages, name
        assert "pytest" not in packages or name.startswith("adapters/isolation_pytest/"), name
        if name.startswith("isolation_core/") and name not in FORWARDING:
            assert not packages & {"isolation_pytest", "isolation_unittest", "isolation_script"}, name


def test_an_init_imports_and_lists_and_nothing_else() -> None:
    """An `__init__.py` of a package holds imports, the list of names, and the table of lazy names."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If, ast.Expr)
    for path in SOURCES:
        if path.name == "__init__.py":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                is_lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
                assert is_lazy or isinstance(node, allowed), f"{path}:{node.lineno}"


def test_the_architecture_page_names_files_that_exist() -> None:
    """Every path on the architecture page leads to a file or folder."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:isolation_core|adapters)/[\w/.]+)`", page)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


# -- the recipe for a probe ----------------------------------------------------

_STEP = re.compile(
    r"^ +<!-- add: (?P<path>[\w/.]+)(?:, before: \"(?P<anchor>[^\n]*)\")? -->\n +```\w+\n(?P<text>.*?)^ +```$",
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.skipif(sys.platform == "win32", reason="the example watches limits that POSIX systems have")
def test_the_recipe_for_a_probe_works_as_written(tmp_path: Path) -> None:
    """The steps of "How to add a probe", applied to a copy of the project, pass the tests of probes."""
    for name in ("isolation_core", "adapters", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    steps = list(_STEP.finditer(CONTRIBUTING))
    assert len(steps) == CONTRIBUTING.count("<!-- add:") == 6
    for step in steps:
        target = tmp_path / step["path"]
        # The blocks are indented like the items of the list they belong to.
        added = re.sub(r"^   ", "", step["text"], flags=re.MULTILINE)
        if step["anchor"] is None:
            target.write_text(added, encoding="utf-8")
            continue
        anchor = step["anchor"].replace("\\n", "\n").replace('\\"', '"')
        before, found, after = target.read_text(encoding="utf-8").partition(anchor)
        assert found, f"{step['path']} holds no {anchor!r}"
        target.write_text(before + added + found + after, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(tmp_path / "adapters")))}
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "limit or code or probes_agree"]
    files = ["contamination/probes/test_kinds.py", "contamination/test_codes.py", "test_docs.py"]
    done = subprocess.run(
        [sys.executable, *command, *(f"tests/{name}" for name in files)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 8, done.stdout
