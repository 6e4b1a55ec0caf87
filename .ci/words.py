"""Refuse words that CONTRIBUTING.md replaces ("Words"), in pages, docstrings and comments.

usage: python .ci/words.py [FILE...]   (by default all files of the project)
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("adapters", "benchmarks", "changelog.d", "docs", "examples", "isolation_core", "tests")
LATER = (
    "docs/mock_isolation.md",
    "docs/services_postgres.md",
    "isolation_core/mocks/",
    "isolation_core/services/postgres/",
    "isolation_core/services/redis/",
    "tests/mocks/",
    "tests/services/postgres/",
    "tests/services/redis/",
)
"""Parts that are being replaced, whose text is not worth a pass."""

WORDS = re.compile(
    r"\b(is|are|be|was|were|been) told\b(?! to)|\bhears? (of|from|nothing)\b"
    r"|\b(nobody|somebody|whoever)('s)?\b"
    r"|\bstand(s|ing)? (on|around|upon)\b|\bbelongs? into\b|\bat hand\b"
    r"|(?<!there )\b(is|are) no (?!longer|more)(?=\w)|\blet finish\b"
    r"|\bof (ours|yours|its own making)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"```.*?```|``.+?``|`[^`\n]*`|<!--.*?-->|\"[^\"\n]*\"", re.DOTALL)


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of the file at *path*, each with its line: all of a page; docstrings and comments of code."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield 1, source
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(
            node
        ):
            expression = node.body[0]
            assert isinstance(expression, ast.Expr)
            assert isinstance(expression.value, ast.Constant)
            yield expression.lineno, str(expression.value.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def main(names: list[str]) -> int:
    """Print each place of a word that is to be replaced, and return whether there was any."""
    paths = [Path(name).resolve() for name in names]
    if not paths:
        paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
        paths += [path for path in ROOT.glob("*.md") if path.name != "CONTRIBUTING.md"]  # it has the list
    found = 0
    for path in sorted(paths):
        shown = path.relative_to(ROOT).as_posix()
        if shown.startswith(LATER) or shown == "CONTRIBUTING.md":
            continue
        for line, text in texts_of(path):
            # What is cut out keeps its length in lines, so that the places are right.
            plain = CODE.sub(lambda match: "\n" * match.group().count("\n"), text)
            for match in WORDS.finditer(plain):
                found += 1
                place = line + plain.count("\n", 0, match.start())
                print(f"{shown}:{place}: {match.group()!r}: see the list of words in CONTRIBUTING.md")
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
