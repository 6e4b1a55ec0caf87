"""Real Django under pytest-django: the test database is the one that is destroyed, and the developer's is untouched."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("django", reason="Django does not support this interpreter yet")
pytest.importorskip("pytest_django")

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {"default": DATABASE}
INSTALLED_APPS = ["items"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""

MODELS = """
from django.db import models
class Item(models.Model):
    name = models.CharField(max_length=50)
"""

# Notes the name of each database that is about to be destroyed, wherever Django was told to.
CONFTEST = """
import pathlib
from django.db.backends.base.creation import BaseDatabaseCreation

destroy = BaseDatabaseCreation.destroy_test_db

def noting(self, old_database_name=None, *args, **kwargs):
    with pathlib.Path("destroyed.txt").open("a") as file:
        print(self.connection.settings_dict["NAME"], "then", old_database_name, file=file)
    return destroy(self, old_database_name, *args, **kwargs)

BaseDatabaseCreation.destroy_test_db = noting
"""

SUITES = {
    "function": """
        import pytest
        pytestmark = pytest.mark.django_db
        def test_one():
            from items.models import Item
            Item.objects.create(name="one")
        def test_two():
            from items.models import Item
            assert Item.objects.count() == 0
        """,
    "fixture": """
        def test_one(db):
            from items.models import Item
            Item.objects.create(name="one")
        def test_two(request):
            request.getfixturevalue("transactional_db")
            from items.models import Item
            assert Item.objects.count() == 0
        """,
    "class": """
        import pytest
        class TestItems:
            def test_nothing(self):
                pass
            @pytest.mark.django_db
            def test_one(self):
                from items.models import Item
                Item.objects.create(name="one")
            @pytest.mark.django_db(transaction=True)
            def test_two(self):
                from items.models import Item
                assert Item.objects.count() == 0
        """,
    "session": """
        import pytest
        @pytest.fixture(scope="session")
        def database(django_db_setup, django_db_blocker):
            from django.db import connection
            with django_db_blocker.unblock():
                connection.ensure_connection()
            yield connection.settings_dict["NAME"]
        def test_nothing():
            pass
        @pytest.mark.django_db
        def test_one(request):
            from items.models import Item
            assert Item.objects.db == "default"
            assert "test" in request.getfixturevalue("database") or "memory" in request.getfixturevalue("database")
        @pytest.mark.django_db
        def test_two(database):
            from django.db import connection
            assert connection.settings_dict["NAME"] == database
        """,
    "testcase": """
        from django.test import TestCase
        from items.models import Item
        class ItemTest(TestCase):
            @classmethod
            def setUpTestData(cls):
                cls.item = Item.objects.create(name="data")
            def test_one(self):
                Item.objects.create(name="one")
            def test_two(self):
                assert Item.objects.count() == 1
        """,
    "transactional": """
        from django.test import TransactionTestCase
        from items.models import Item
        class ItemTest(TransactionTestCase):
            def test_one(self):
                Item.objects.create(name="one")
            async def test_async(self):
                await Item.objects.acreate(name="two")
                assert await Item.objects.acount() == 1
        """,
    "async": """
        from django.test import TestCase
        from items.models import Item
        class ItemTest(TestCase):
            async def test_one(self):
                await Item.objects.acreate(name="one")
            async def test_two(self):
                assert await Item.objects.acount() == 0
        """,
}


def project(pytester: pytest.Pytester, database: dict[str, object]) -> None:
    """Make a Django project with one model."""
    pytester.makepyfile(settings_x=f"DATABASE = {database!r}\n{SETTINGS}", conftest=CONFTEST)
    pytester.mkpydir("items")
    Path("items/models.py").write_text(MODELS)
    pytester.makeini("[pytest]\nDJANGO_SETTINGS_MODULE = settings_x\n")
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings_x"
    assert pytester.run(sys.executable, "-m", "django", "migrate", "--run-syncdb", "-v0").ret == 0


def run(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run the suite with Django's plugin, ours, and those that *args* name."""
    return pytester.runpytest_subprocess(
        "--disable-plugin-autoload", "-p", "isolation", "-p", "pytest_django.plugin", "-p", "no:cacheprovider", *args
    )


def destroyed() -> list[tuple[str, str]]:
    """Return which database each destroy step was for, and which name it put back."""
    lines = Path("destroyed.txt").read_text().splitlines()
    return [(name, back) for name, _, back in (line.partition(" then ") for line in lines)]


@pytest.fixture(autouse=True)
def django_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the settings' name back after each test."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "settings_x")


@pytest.fixture
def sqlite_file(pytester: pytest.Pytester) -> Path:
    """Return the database file of a developer, with one item in it."""
    project(pytester, {"ENGINE": "django.db.backends.sqlite3", "NAME": "dev.sqlite3"})
    file = Path("dev.sqlite3").absolute()
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO items_item (name) VALUES ('precious')")
    connection.close()
    return file


def suites(pytester: pytest.Pytester, *names: str) -> None:
    """Make a test module of each of the suites called *names*."""
    for name in names:
        pytester.makepyfile(**{f"test_{name}": SUITES[name]})


@pytest.mark.parametrize("names", [*((name,) for name in SUITES), tuple(SUITES)], ids="+".join)
def test_the_database_file_of_the_developer_is_untouched(
    pytester: pytest.Pytester, sqlite_file: Path, names: tuple[str, ...]
) -> None:
    """Whatever asks for the test database first, only the test database is destroyed."""
    suites(pytester, *names)
    before = sqlite_file.stat().st_ino, sqlite_file.read_bytes()
    result = run(pytester)
    assert result.ret == 0
    assert (sqlite_file.stat().st_ino, sqlite_file.read_bytes()) == before
    assert [("memory" in name, back) for name, back in destroyed()] == [(True, "dev.sqlite3")]


@pytest.mark.parametrize("mode", ["strict", "report"])
def test_the_database_file_is_untouched_in_the_other_modes(
    pytester: pytest.Pytester, sqlite_file: Path, mode: str
) -> None:
    """Strict and report destroy the test database alone, too."""
    suites(pytester, *SUITES)
    before = sqlite_file.stat().st_ino, sqlite_file.read_bytes()
    result = run(pytester, f"--isolation={mode}")
    assert "failed" not in result.parseoutcomes()
    assert (sqlite_file.stat().st_ino, sqlite_file.read_bytes()) == before
    assert [("memory" in name, back) for name, back in destroyed()] == [(True, "dev.sqlite3")]


def test_the_database_file_is_untouched_by_workers(pytester: pytest.Pytester, sqlite_file: Path) -> None:
    """Under pytest-xdist each worker destroys its own test database."""
    pytest.importorskip("xdist")
    suites(pytester, *SUITES)
    before = sqlite_file.stat().st_ino, sqlite_file.read_bytes()
    result = run(pytester, "-p", "xdist", "-n", "2", "--dist", "loadfile")
    assert result.ret == 0
    assert (sqlite_file.stat().st_ino, sqlite_file.read_bytes()) == before
    assert len(destroyed()) == 2
    assert all("memory" in name and back == "dev.sqlite3" for name, back in destroyed())


@pytest.fixture
def postgres_database(pytester: pytest.Pytester) -> Iterator[str]:
    """Return the name of a developer's database on a PostgreSQL server of this machine, if there is one."""
    psycopg = pytest.importorskip("psycopg")
    try:
        socket.create_connection(("127.0.0.1", 5432), timeout=1).close()
        admin = psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres connect_timeout=2", autocommit=True)
    except (OSError, psycopg.OperationalError):
        pytest.skip("no PostgreSQL server that lets in the user postgres on 127.0.0.1")
    name = f"dev_{uuid.uuid4().hex[:12]}"
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
    engine = "django.db.backends.postgresql"
    try:
        project(pytester, {"ENGINE": engine, "NAME": name, "USER": "postgres", "HOST": "127.0.0.1", "PORT": "5432"})
        with psycopg.connect(f"host=127.0.0.1 user=postgres dbname={name}") as connection:
            connection.execute("INSERT INTO items_item (name) VALUES ('precious')")
        yield name
    finally:
        with psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"DROP DATABASE IF EXISTS test_{name} WITH (FORCE)")


@pytest.mark.parametrize("mode", ["restore", "strict"])
def test_the_postgresql_database_of_the_developer_is_untouched(
    pytester: pytest.Pytester, postgres_database: str, mode: str
) -> None:
    """On PostgreSQL the test database is dropped, and the developer's one with its rows is still there."""
    import psycopg

    suites(pytester, "function", "fixture", "class", "session")
    result = run(pytester, f"--isolation={mode}")
    assert "failed" not in result.parseoutcomes()
    with psycopg.connect(f"host=127.0.0.1 user=postgres dbname={postgres_database}") as connection:
        assert connection.execute("SELECT name FROM items_item").fetchall() == [("precious",)]
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert (f"test_{postgres_database}",) not in names
    assert destroyed() == [(f"test_{postgres_database}", postgres_database)]
