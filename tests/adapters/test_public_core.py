"""The adapters use the core as any other runner can: by its public names only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ADAPTERS = Path(__file__).parents[2] / "adapters"
FILES = sorted(ADAPTERS.rglob("*.py"))


def private_imports(tree: ast.AST) -> Iterator[str]:
    """Yield imports of private modules or names of the core."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "isolation_core":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] == "isolation_core"]
        else:
            continue
        yield from (name for name in names if any(part.startswith("_") for part in name.split(".")))


def private_attributes(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Yield uses of private attributes that no class of the adapters defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            if of not in ("self", "cls", "os", "sys", "argparse") and node.attr not in own:
                yield ast.unparse(node)


def own_names(trees: list[ast.AST]) -> set[str]:
    """Return the names that are defined or assigned in *trees*."""
    found: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ADAPTERS)))
def test_an_adapter_imports_nothing_private_of_the_core(file: Path) -> None:
    """No file of an adapter imports a private module or name of the core, or reaches into its objects."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert list(private_imports(tree)) == []
    assert list(private_attributes(tree, own_names([tree]))) == []


def test_the_check_sees_what_it_looks_for() -> None:
    """The check finds each way to use a private name."""
    tree = ast.parse(
        "import isolation_core._x\n"
        "from isolation_core._y import z\n"
        "from isolation_core.a import _b, c\n"
        "from isolation_core import fixtures\n"
        "barrier._frame, self._own\n"
    )
    assert list(private_imports(tree)) == ["isolation_core._x", "isolation_core._y.z", "isolation_core.a._b"]
    assert list(private_attributes(tree, own_names([tree]))) == ["barrier._frame"]
