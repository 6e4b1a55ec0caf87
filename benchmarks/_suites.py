"""Writes the suites that are measured: small services with module state, and tests that leave it alone or do not."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["HEAVY_IMPORTS", "write_async", "write_heavy", "write_leaking", "write_polluted", "write_sync"]

HEAVY_IMPORTS: Final = (
    "aiohttp",
    "django.contrib.admin",
    "django.contrib.auth.models",
    "django.test",
    "fastapi.testclient",
    "pandas",
    "scipy.stats",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "sympy",
)

# 42 names a module: 21 plain values, 7 dicts, 4 lists, 2 sets, 4 cached functions, 4 classes; 24 elements a container.
_MODULE = '''\
"""Generated."""
import functools

{values}
{dicts}
{lists}
{sets}

def compute(number):
    return number * number

{caches}
{classes}
'''

_CACHE = """
@functools.lru_cache
def cached_{n}(key):
    return key + {n}
"""

_CLASS = """
class Service{n}:
    limit = {n}
    names = ("a", "b")

    def __init__(self, url="memory://"):
        self.url = url
        self.calls = []

    def call(self, what):
        self.calls.append(what)
        return what
"""


def _module(number: int) -> str:
    def lines(make: Callable[[int], str], count: int) -> str:
        return "\n".join(make(n) for n in range(count))

    return _MODULE.format(
        values=lines(lambda n: f"VALUE_{n} = {number * 100 + n!r}", 21),
        dicts=lines(lambda n: f"TABLE_{n} = {{f'key{{i}}': i for i in range(24)}}", 6)
        + "\nCONFIG = {'db': {'host': 'localhost', 'ports': [1, 2, 3]}, 'flags': {'debug': False}}",
        lists=lines(lambda n: f"ROWS_{n} = [str(i) for i in range(24)]", 4),
        sets=lines(lambda n: f"SEEN_{n} = {{f'item{{i}}' for i in range(24)}}", 2),
        caches=lines(lambda n: _CACHE.format(n=n), 4),
        classes=lines(lambda n: _CLASS.format(n=n), 4),
    )


def _write(folder: Path, files: Mapping[str, str]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


def _service(modules: int) -> dict[str, str]:
    return {"app/__init__.py": "", **{f"app/part_{n:03}.py": _module(n) for n in range(modules)}}


def _files(tests: int, per_file: int, head: Callable[[int], str], body: Callable[[int], str]) -> dict[str, str]:
    return {
        f"test_{file:02}.py": head(file)
        + "".join(body(number) for number in range(file * per_file, min(tests, (file + 1) * per_file)))
        for file in range((tests + per_file - 1) // per_file)
    }


def write_sync(folder: Path, *, tests: int, modules: int, per_file: int = 50) -> Path:
    """Trivial tests over *modules* modules, each test file importing its share of them; nothing is ever changed."""
    files = max(1, (tests + per_file - 1) // per_file)

    def head(file: int) -> str:
        mine = [n for n in range(modules) if n % files == file] or [file % modules]
        return "".join(f"import app.part_{n:03}\n" for n in mine) + f"from app.part_{mine[0]:03} import compute\n"

    def body(number: int) -> str:
        return f"\n\ndef test_{number}():\n    assert compute({number}) == {number * number}\n"

    return _write(folder, {"pytest.ini": "[pytest]\n", **_service(modules), **_files(tests, per_file, head, body)})


def write_heavy(folder: Path, *, tests: int, modules: int = 20) -> Path:
    """The same in a process that has imported what large applications import."""
    write_sync(folder, tests=tests, modules=modules)
    imports = "\n".join(f"import {name}" for name in HEAVY_IMPORTS if not name.startswith("django.contrib"))
    late = "\n".join(f"import {name}" for name in HEAVY_IMPORTS if name.startswith("django.contrib"))
    apps = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages"]
    (folder / "conftest.py").write_text(
        f"{imports}\nimport django.conf\n"
        f"django.conf.settings.configure(INSTALLED_APPS={[*apps, 'django.contrib.sessions']})\n"
        f"django.setup()\n{late}\n"
    )
    return folder


def write_async(folder: Path, *, tests: int, runner: str) -> Path:
    """Async tests without mocks, for *runner* ``"asyncio"`` (pytest-asyncio) or ``"anyio"``."""
    ini = "[pytest]\n" + ("asyncio_mode = auto\n" if runner == "asyncio" else "anyio_mode = auto\n")
    conftest = (
        ""
        if runner == "asyncio"
        else "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    mark = "" if runner == "asyncio" else "@pytest.mark.anyio\n"

    def head(file: int) -> str:
        return f"import asyncio\n\nimport pytest\n\nfrom app.part_{file % 4:03} import compute\n"

    def body(number: int) -> str:
        assertion = f"assert compute({number}) == {number * number}"
        return f"\n\n{mark}async def test_{number}():\n    await asyncio.sleep(0)\n    {assertion}\n"

    return _write(folder, {"pytest.ini": ini, "conftest.py": conftest, **_service(4), **_files(tests, 50, head, body)})


def write_leaking(folder: Path, *, tests: int, modules: int = 20) -> Path:
    """As `write_sync`, but every test leaves one thing behind: a variable, an entry, an attribute or an element."""
    leaks = (
        "os.environ['LEAK'] = '{n}'",
        "app.part_000.CONFIG['db']['host'] = '{n}'",
        "app.part_000.Service0.limit = -{n}",
        "app.part_000.ROWS_0.append('{n}')",
    )

    def head(_: int) -> str:
        return "import os\n\nimport app.part_000\n" + "".join(f"import app.part_{n:03}\n" for n in range(1, modules))

    def body(number: int) -> str:
        return f"\n\ndef test_{number}():\n    {leaks[number % len(leaks)].format(n=number + 1)}\n"

    return _write(folder, {"pytest.ini": "[pytest]\n", **_service(modules), **_files(tests, 50, head, body)})


# What a polluter does, and what its victim expects: ten kinds of state.
_PAIRS: Final = {
    "global": ("app.part_000.VALUE_0 = 'polluted'", "app.part_000.VALUE_0 == 0"),
    "class": ("app.part_000.Service1.limit = -1", "app.part_000.Service1.limit == 1"),
    "nested": ("app.part_000.CONFIG['db']['ports'].append(9)", "app.part_000.CONFIG['db']['ports'] == [1, 2, 3]"),
    "environ": ("os.environ['POLLUTED'] = '1'", "'POLLUTED' not in os.environ"),
    "path": ("sys.path.insert(0, '/polluted')", "'/polluted' not in sys.path"),
    "logging": ("logging.getLogger('app').setLevel(50)", "logging.getLogger('app').level == 0"),
    "patch": ("unittest.mock.patch('os.getpid', lambda: -1).start()", "os.getpid() > 0"),
    "cwd": ("os.chdir('/')", "os.getcwd() != '/'"),
    "cache": ("app.part_000.cached_0(1)", "app.part_000.cached_0.cache_info().currsize == 0"),
    "random": ("random.seed(4)", "random.random() != 0.23604808973743452"),
}


def write_polluted(folder: Path) -> Path:
    """200 tests: ten polluters in the first ten files, their ten victims in the last ten."""
    imports = "import logging\nimport os\nimport random\nimport sys\nimport unittest.mock\n\nimport app.part_000\n"
    files = {"pytest.ini": "[pytest]\n", **_service(20)}
    for number, (kind, (pollute, expect)) in enumerate(_PAIRS.items()):
        clean = "".join(
            f"\n\ndef test_clean_{n}():\n    assert app.part_000.compute({n}) == {n * n}\n" for n in range(9)
        )
        files[f"test_{number:02}_{kind}.py"] = f"{imports}{clean}\n\ndef test_polluter_{kind}():\n    {pollute}\n"
        files[f"test_{number + 10:02}_{kind}.py"] = (
            f"{imports}\n\ndef test_victim_{kind}():\n    assert {expect}\n{clean}"
        )
    return _write(folder, files)
