"""Settings: one table, found upward, checked, overridden in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from isolation_core.config import Settings, current_settings, load_settings, use_settings
from isolation_core.errors import ConfigurationError

EVERYTHING = """
mode = "strict"
packages = ["app"]
ignore = ["environ:TZ"]
probes = ["environ", "cwd"]
baseline = "known.toml"
timeout = 3
journal_dir = ".isolation"
"""


def project(folder: Path, table: str, *, own_file: bool = False) -> Path:
    """Write *table* as the settings of *folder* and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("isolation.toml" if own_file else "pyproject.toml")
    path.write_text(table if own_file else f"[tool.isolation-core]\n{table}", encoding="utf-8")
    return path


def load(start: Path, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Load with an environment that holds nothing but *environ*."""
    return load_settings(start, overrides=overrides, environ=environ or {})


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    """Nothing has to be configured."""
    settings = load(tmp_path)
    assert settings == Settings()
    assert (settings.mode, settings.packages, settings.timeout, settings.source) == ("restore", None, 10.0, None)
    assert settings.origins == {}


@pytest.mark.parametrize("own_file", [True, False])
def test_every_key_is_read_from_the_table(tmp_path: Path, own_file: bool) -> None:
    """All keys, with the types they promise; paths are relative to the file."""
    path = project(tmp_path, EVERYTHING, own_file=own_file)
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    assert load(tmp_path / "tests" / "unit") == Settings(
        mode="strict",
        packages=("app",),
        ignore=("environ:TZ",),
        probes=("environ", "cwd"),
        baseline=tmp_path / "known.toml",
        timeout=3.0,
        journal_dir=tmp_path / ".isolation",
        source=path,
    )


def test_the_nearest_file_with_a_table_counts(tmp_path: Path) -> None:
    """A pyproject.toml without the table is passed by; isolation.toml comes before pyproject.toml."""
    project(tmp_path, 'mode = "report"')
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.other]\nmode = 1\n", encoding="utf-8")
    assert load(inner).mode == "report"
    project(inner, 'mode = "off"', own_file=True)
    assert load(inner).mode == "off"


def test_call_before_environment_before_file(tmp_path: Path) -> None:
    """The order of precedence, and where each value came from is remembered."""
    path = project(tmp_path, 'mode = "report"\ntimeout = 1\npackages = ["a"]')
    environ = {"ISOLATION_CORE_MODE": "strict", "ISOLATION_CORE_TIMEOUT": "2.5"}
    settings = load(tmp_path, {"mode": "off", "packages": None}, environ)
    assert (settings.mode, settings.timeout, settings.packages) == ("off", 2.5, ("a",))
    assert settings.origins == {
        "mode": "the call",
        "timeout": "ISOLATION_CORE_TIMEOUT",
        "packages": str(path),
    }


def test_lists_and_paths_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are separated by commas, empty variables count as absent, paths start at the working directory."""
    monkeypatch.chdir(tmp_path)
    environ = {
        "ISOLATION_CORE_PACKAGES": "app, lib ,",
        "ISOLATION_CORE_JOURNAL_DIR": "out",
        "ISOLATION_CORE_MODE": "",
    }
    settings = load(tmp_path, environ=environ)
    assert settings.packages == ("app", "lib")
    assert settings.journal_dir == tmp_path / "out"
    assert settings.mode == "restore"


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without *environ* the variables of the process are read."""
    monkeypatch.setenv("ISOLATION_CORE_MODE", "report")
    assert load_settings(tmp_path).mode == "report"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("mod = 1", ["'mod'", "did you mean 'mode'?"]),
        ("journal-dirs = 1", ["'journal-dirs'", "did you mean 'journal_dir'?"]),
        ("zzz = 1", ["'zzz'", "known are: baseline, ignore, journal_dir"]),
        ("mode = 'restored'", ["'mode'", "'restored'", "did you mean 'restore'?"]),
        ("mode = 3", ["'mode'", "'off' or 'report'", "3 (int)"]),
        ("packages = 'app'", ["'packages'", "a list of strings", "'app' (str)"]),
        ("packages = [1]", ["'packages'", "a list of strings"]),
        ("ignore = [':x']", ["'ignore'", "kind:path-glob", "':x'"]),
        ("timeout = true", ["'timeout'", "a number of seconds", "True (bool)"]),
        ("timeout = 0", ["'timeout'", "above 0"]),
        ("timeout = nan", ["'timeout'", "above 0"]),
        ("baseline = ''", ["'baseline'", "a path"]),
        ("journal_dir = 1", ["'journal_dir'", "a path", "1 (int)"]),
        ("mode = ", ["cannot be read"]),
    ],
)
def test_mistakes_name_the_key_the_file_and_the_way_out(tmp_path: Path, table: str, words: list[str]) -> None:
    """Unknown keys, wrong types and wrong values raise errors that name the expected ones."""
    path = project(tmp_path, table)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert [word for word in [str(path), *words] if word not in message] == []
    assert caught.value.name


def test_mistakes_in_variables_and_calls_name_those(tmp_path: Path) -> None:
    """The message says where the wrong value was given."""
    with pytest.raises(ConfigurationError, match="in ISOLATION_CORE_TIMEOUT must be a number"):
        load(tmp_path, environ={"ISOLATION_CORE_TIMEOUT": "soon"})
    with pytest.raises(ConfigurationError, match="in the call; did you mean 'mode'"):
        load(tmp_path, {"mod": "off"})


def test_a_table_that_is_none_is_an_error(tmp_path: Path) -> None:
    """`isolation-core = 3` under [tool] is an error, not ignored."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nisolation-core = 3\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="must be a table"):
        load(tmp_path)


def test_dashes_and_underscores_are_the_same(tmp_path: Path) -> None:
    """journal-dir is journal_dir."""
    project(tmp_path, 'journal-dir = "j"')
    assert load(tmp_path).journal_dir == tmp_path / "j"


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    """Settings are a value."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load(tmp_path).mode = "off"  # type: ignore[misc]


def test_a_process_reads_its_settings_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later changes of the directory or the environment do not change what was read; they can be set and reread."""
    project(tmp_path, 'mode = "report"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ISOLATION_CORE_MODE", raising=False)
    use_settings(None)
    try:
        assert current_settings().mode == "report"
        monkeypatch.setenv("ISOLATION_CORE_MODE", "off")
        assert current_settings().mode == "report"
        use_settings(Settings(mode="strict"))
        assert current_settings().mode == "strict"
        use_settings(None)
        assert current_settings().mode == "off"
    finally:
        use_settings(None)


def test_a_deleted_working_directory_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a working directory no file is read, and the defaults apply."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.delenv("ISOLATION_CORE_MODE", raising=False)
    use_settings(None)
    try:
        assert current_settings().mode == "restore"
    finally:
        monkeypatch.undo()
        use_settings(None)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ISOLATION_CORE_MOED", "ISOLATION_CORE_MODE"), ("ISOLATION_CORE_IGNORES", "ISOLATION_CORE_IGNORE")],
)
def test_a_variable_that_nothing_reads_is_an_error(tmp_path: Path, name: str, meant: str) -> None:
    """A misspelt variable of the environment is refused with the nearest one."""
    with pytest.raises(ConfigurationError, match=f"{name} is not a setting; did you mean '{meant}'"):
        load(tmp_path, environ={name: "strict"})


def test_variables_of_services_and_of_others_are_no_mistakes(tmp_path: Path) -> None:
    """The backend of any service has a variable, also of a service that is registered later."""
    environ = {
        "ISOLATION_CORE_REDIS": "real",
        "ISOLATION_CORE_MINE": "tcp://here",
        "ISOLATION_CORE_DEBUG": "1",
        "X": "1",
    }
    assert load(tmp_path, environ=environ).mode == "restore"


def test_a_second_table_beside_the_file_is_named(tmp_path: Path) -> None:
    """Where two files in one folder have settings, the one that does not count is known."""
    own = project(tmp_path, 'mode = "strict"', own_file=True)
    assert load(tmp_path).unread is None
    second = project(tmp_path, 'mode = "report"')
    settings = load(tmp_path)
    assert (settings.mode, settings.source, settings.unread) == ("strict", own, second)
