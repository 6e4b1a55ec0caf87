"""Every code block of README.md and docs/ is run, so that no page can promise what the code does not do.

A page may steer its blocks by a comment on the line above one:

``<!-- file: NAME -->``    the block is a file of that name, in the folder of the page's commands.
``<!-- needs: MODULE -->`` the commands of a ``console`` block need a tool that may not be installed.
``<!-- exit: N -->``       the commands of a ``console`` block end with that code, not with 0.
``<!-- printed -->``       the Python blocks before it print this block.
``<!-- not run: WHY -->``  the block is left alone.

All other ``python`` blocks of a page are one script, and the commands of
``console`` blocks (lines that begin with ``$``) must print what the page shows.
``...`` matches any text in a shown output.
"""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import fields, frozen

from isolation_core.codes import CODES
from isolation_core.config import Settings
from isolation_core.contamination.objects._containers import ObjectState
from isolation_core.contamination.probes._builtin import builtin_probes

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- (?P<word>file|exit|needs|printed|not run)(?:: (?P<value>.+?))? -->\n+)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]+))?\)")


@frozen
class Block:
    """One fenced block, the line it begins at, and the comment above it."""

    language: str
    text: str
    line: int
    word: str | None
    value: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of *page*."""
    source = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(source):
        line = source.count("\n", 0, match.start("text"))
        yield Block(match["language"], match["text"], line, match["word"], match["value"] or "")


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run *command* in *folder* as a user would: our scripts on the path, none of the settings of this run."""
    # Where CI or BUILD_NUMBER is set, pytest does not shorten its summary.
    foreign = ("PYTEST_", "PYTHONWARN", "ISOLATION_CORE_", "COV_", "CI", "BUILD_NUMBER")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ours |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}", "COLUMNS": "80", "NO_COLOR": "1"}
    # Plugins that happen to be installed here are none of the reader's business.
    ours["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ours["PYTEST_ADDOPTS"] = "-p isolation_pytest.plugin -p no:cacheprovider"
    return subprocess.run(
        command,
        cwd=folder,
        env=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        shell=isinstance(command, str),
        text=True,
        timeout=120,
        check=False,
    )


def write(block: Block, folder: Path) -> None:
    """Write a block that is a file into *folder*."""
    target = folder / block.value
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(block.text, encoding="utf-8")


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block, each with what it should print."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(shown: str, printed: str) -> bool:
    """Return whether a page shows the printed text; a page that shows nothing matches any text."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return not shown or doctest.OutputChecker().check_output(shown, printed, flags)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """The Python blocks of a page, run as one script in a fresh process, raise nothing and print what is shown."""
    script = ""
    for block in blocks_of(page):
        if block.word == "file":
            write(block, tmp_path)
        elif block.language == "python" and block.word is None:
            # Blank lines put each line where the page has it, so that a traceback can be followed.
            script += "\n" * (block.line - script.count("\n")) + block.text
    (tmp_path / f"{page.stem}_page.py").write_text(script, encoding="utf-8")
    done = run([sys.executable, "-W", "error", f"{page.stem}_page.py"], tmp_path)
    assert done.returncode == 0, done.stdout
    shown = "".join(block.text for block in blocks_of(page) if block.word == "printed")
    assert matches(shown, done.stdout), f"{page.name} shows:\n{shown}\nbut this was printed:\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_console_blocks_print_what_they_show(page: Path, tmp_path: Path) -> None:
    """The commands of a page end as the page says and print what it shows."""
    for block in blocks_of(page):
        if block.word == "file":
            write(block, tmp_path)
        if block.language == "console" and block.word not in ("needs", "not run"):
            check_commands(page, block, tmp_path)


@pytest.mark.parametrize(
    ("page", "block"),
    [
        pytest.param(page, block, id=f"{page.stem}-{block.value}")
        for page in PAGES
        for block in blocks_of(page)
        if block.word == "needs"
    ],
)
def test_console_blocks_of_other_tools_print_what_they_show(page: Path, block: Block, tmp_path: Path) -> None:
    """Commands of other tools do the same, where the tool is installed."""
    if importlib.util.find_spec(block.value) is None:
        pytest.skip(f"{block.value} is not installed")
    for other in blocks_of(page):
        if other.word == "file":
            write(other, tmp_path)
    check_commands(page, block, tmp_path)


def check_commands(page: Path, block: Block, folder: Path) -> None:
    """Run the commands of *block* in *folder*, and compare what they print."""
    commands = list(commands_of(block))
    assert commands, f"{page.name}:{block.line}: a console block without a `$ ` line"
    for command, expected in commands:
        done = run(command, folder)
        where = f"{page.name}:{block.line}: $ {command}\n{done.stdout}"
        assert done.returncode == (int(block.value) if block.word == "exit" else 0), where
        assert matches(expected, done.stdout), f"{where}\nthe page shows:\n{expected}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between pages lead to files, and to headings, that exist."""
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_one_sentence_per_line(page: Path) -> None:
    """Prose has one sentence on a line, so that a change of one sentence is a change of one line."""
    source = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    for line in source.splitlines():
        assert not re.search(r"[a-z`)]\. [A-Z`]", line.partition("|")[0]), f"{page.name}: {line}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """Every page under docs/ is in the navigation of the site, once."""
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = [page for section in site["project"]["nav"] for pages in section.values() for page in pages]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)


def test_readme_opens_with_two_commands() -> None:
    """README begins with the two commands a newcomer needs: see it work, run the tests."""
    first = next(blocks_of(ROOT / "README.md"))
    lines = first.text.splitlines()
    assert first.language == "console"
    assert [line.rpartition("nox -s ")[2] for line in lines] == ["demo", "tests"]
    before = (ROOT / "README.md").read_text(encoding="utf-8").partition("```")[0].split("\n")
    assert len([line for line in before if line.strip() and not line.startswith("<!--")]) <= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_alone_without_need(page: Path) -> None:
    """Only commands that build environments or need a network are not run."""
    for block in blocks_of(page):
        if block.word == "not run":
            assert re.search(r"venv|pip|nox|git", block.text), f"{page.name}:{block.line}"


def test_findings_lists_every_code_and_kind() -> None:
    """Findings has each code that something can be reported under, with its kind, and none that is not explained."""
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    listed = {(code, kind) for code, kind in re.findall(r"^\| `([A-Z]{3}\d{3})` \| `([a-z-]+)` \|", page, re.MULTILINE)}
    watched: set[tuple[str, str]] = {(probe.code, probe.kind) for probe in builtin_probes()}
    pending = list(ObjectState.__subclasses__())
    while pending:
        facet = pending.pop()
        pending += facet.__subclasses__()
        watched.add((facet.code, facet.kind))
    # First imports are reported by the undo log itself.
    watched.add(("IMP001", "import"))
    assert {row for row in listed if not row[0].startswith(("MCK", "SVC"))} | {("MCK001", "patch")} == watched
    assert listed <= {(code, entry.kind) for code, entry in CODES.items()}


def test_reference_lists_every_setting() -> None:
    """Every key that can be set, and every option of pytest, is in the reference."""
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    keys = {field.name for field in fields(Settings)} - {"source", "unread", "origins"}
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", page.partition("### Patterns")[0], re.MULTILINE)) == keys
    told = run([sys.executable, "-m", "pytest", "--help", "-p", "isolation_pytest.plugin"], ROOT / "docs").stdout
    options = set(re.findall(r"^\s+(--isolation[\w-]*)", told, re.MULTILINE))
    assert options == set(re.findall(r"^\| `(--isolation[\w-]*)[=`]", page, re.MULTILINE))
