"""Settings that every adapter reads: one table, one order of precedence.

A call or the command line overrides the environment
(``ISOLATION_CORE_MODE`` and so on), which overrides the file, which overrides
the default. The file is the nearest ``isolation.toml`` or ``pyproject.toml``
with a table ``[tool.isolation-core]``, looked for upward from where one starts.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import attrs
from attrs import frozen

from isolation_core._backends import services_with_backends
from isolation_core._modes import Mode
from isolation_core._suggest import did_you_mean
from isolation_core.errors import ConfigurationError

__all__ = ["ENV_PREFIX", "Mode", "Settings", "current_settings", "load_settings", "use_settings"]

ENV_PREFIX: Final = "ISOLATION_CORE_"
"""``ISOLATION_CORE_MODE=report`` and so on; lists are separated by commas."""

_TABLE = "[tool.isolation-core]"
_OTHER_VARIABLES: Final = frozenset(ENV_PREFIX + name for name in ("DEBUG", "OUTCOMES", "RUN", "MOCK_ENGINE"))
"""Variables that are read, and are not settings."""


_current: list[Settings] = []


@frozen(kw_only=True)
class Settings:
    """How isolation is to work.

    Attributes:
        mode: see `Mode`.
        packages: whose module state is watched deeply; None: modules under the root.
        ignore: ``kind:path-glob`` patterns of changes neither to report nor to undo.
        probes: kinds to watch; None: all.
        baseline: file of findings that are known and tolerated.
        timeout: seconds each cleanup may take.
        journal_dir: where journals are written; None: nowhere.
        services: the backend of services, by name: ``virtual``, ``real``, or the address of a server.
        source: the file the settings come from, if any.
        unread: another file with settings beside it, which therefore does not count.
        origins: setting -> where its value was given, for those that were.
    """

    mode: Mode = "restore"
    packages: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    probes: tuple[str, ...] | None = None
    baseline: Path | None = None
    timeout: float = 10.0
    journal_dir: Path | None = None
    services: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    source: Path | None = None
    unread: Path | None = None
    origins: Mapping[str, str] = attrs.field(factory=dict, eq=False)


def load_settings(
    start: str | os.PathLike[str] | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Find and read the settings.

    Args:
        start: the directory from which the file is looked for, upward; the
            working directory if None.
        overrides: settings of the call or the command line; None values count as not given.
        environ: the environment to read; ``os.environ`` if None.

    Returns:
        The settings; paths from the file are relative to it, others to the working directory.

    Raises:
        ConfigurationError: if a key or a variable ``ISOLATION_CORE_*`` is unknown, a value has the
            wrong type or is not one of those allowed, or the file is not TOML.
    """
    variables = os.environ if environ is None else environ
    here = _working_directory()
    file, table = _find_table(here if start is None else Path(os.path.abspath(start)))
    layers: list[tuple[str, Path, Mapping[str, Any]]] = []
    if file is not None:
        layers.append((str(file), file.parent, table))
    _check_variables(variables)
    # The backend of each service has a variable of its own.
    for name in sorted({*_READERS} - {"services"}):
        variable = ENV_PREFIX + name.upper()
        if text := variables.get(variable, ""):
            layers.append((variable, here, {name: _from_text(name, text)}))
    layers.append(("the call", here, {k: v for k, v in (overrides or {}).items() if v is not None}))

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, folder, given in layers:
        for key, value in given.items():
            name = key.replace("-", "_")
            if name not in _READERS:
                raise _unknown_key(key, value, origin)
            values[name] = _READERS[name](_Place(key, origin, folder), value)
            origins[name] = origin
    return Settings(**values, source=file, unread=_second_table(file), origins=origins)


def current_settings() -> Settings:
    """Return the settings of this process, read on first use from the working directory upward.

    Raises:
        ConfigurationError: as `load_settings` does.
    """
    if not _current:
        _current.append(load_settings())
    return _current[0]


def use_settings(settings: Settings | None) -> None:
    """Make *settings* those of this process; None has them read again on next use."""
    _current[:] = [] if settings is None else [settings]


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path(os.sep)


def _find_table(start: Path) -> tuple[Path | None, Mapping[str, Any]]:
    for folder in (start, *start.parents):
        own = folder / "isolation.toml"
        if own.is_file():
            return own, _parse(own)
        project = folder / "pyproject.toml"
        if project.is_file():
            tools = _parse(project).get("tool", {})
            table = tools.get("isolation-core") if isinstance(tools, dict) else None
            if table is not None:
                if not isinstance(table, dict):
                    raise ConfigurationError(f"{project}: {_TABLE} must be a table", name=_TABLE, value=table)
                return project, table
    return None, {}


def _second_table(source: Path | None) -> Path | None:
    """Return the ``pyproject.toml`` beside an ``isolation.toml`` that has a table as well."""
    if source is None or source.name != "isolation.toml":
        return None
    project = source.with_name("pyproject.toml")
    if not project.is_file():
        return None
    tools = _parse(project).get("tool", {})
    return project if isinstance(tools, dict) and "isolation-core" in tools else None


def _check_variables(variables: Mapping[str, str]) -> None:
    """Refuse a variable that nothing reads: its author believes that it does something."""
    known = {ENV_PREFIX + name.upper() for name in {*_READERS, *services_with_backends()} - {"services"}}
    known |= _OTHER_VARIABLES
    for name, value in variables.items():
        if not name.startswith(ENV_PREFIX) or name in known or not value:
            continue
        if value in ("virtual", "real") or "://" in value:
            continue  # the backend of a service, which may be one of the user's own
        hint = did_you_mean(name, known, otherwise=f"known are: {', '.join(sorted(known))}", cutoff=0.7)
        raise ConfigurationError(f"the environment variable {name} is not a setting; {hint}", name=name, value=value)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}", name=str(path)) from error


def _unknown_key(key: str, value: object, origin: str) -> ConfigurationError:
    known = f"known are: {', '.join(sorted(_READERS))}"
    meant = did_you_mean(key.replace("-", "_"), _READERS, otherwise=known, cutoff=0.5)
    return ConfigurationError(f"unknown setting {key!r} in {origin}; {meant}", name=key, value=value)


@frozen
class _Place:
    """The source of a value, for error messages and relative paths."""

    key: str
    origin: str
    folder: Path

    def wrong(self, value: object, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"setting {self.key!r} in {self.origin} must be {expected}, not {value!r} ({type(value).__name__})",
            name=self.key,
            value=value,
        )


def _read_mode(place: _Place, value: object) -> str:
    modes = get_args(Mode)
    if value in modes:
        return str(value)
    raise place.wrong(value, " or ".join(map(repr, modes)) + did_you_mean(str(value), modes, before="; "))


def _read_names(place: _Place, value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise place.wrong(value, "a list of strings")


def _read_ignore(place: _Place, value: object) -> tuple[str, ...]:
    patterns = _read_names(place, value)
    for pattern in patterns:
        if not pattern.partition(":")[0].strip():
            raise place.wrong(pattern, "of patterns 'kind:path-glob', such as 'environ:TZ' or 'module:app.*'")
    return patterns


def _read_path(place: _Place, value: object) -> Path:
    if isinstance(value, (str, os.PathLike)) and value:
        return place.folder / Path(value).expanduser()
    raise place.wrong(value, "a path")


def _read_services(place: _Place, value: object) -> dict[str, str]:
    if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return {str(name): str(item) for name, item in value.items()}
    raise place.wrong(value, "a table of 'virtual', 'real' or the address of a server, by service")


def _read_timeout(place: _Place, value: object) -> float:
    # Written so that NaN is refused as well.
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise place.wrong(value, "a number of seconds above 0")


_READERS: Final[Mapping[str, Callable[[_Place, object], Any]]] = {
    "mode": _read_mode,
    "packages": _read_names,
    "ignore": _read_ignore,
    "probes": _read_names,
    "baseline": _read_path,
    "timeout": _read_timeout,
    "journal_dir": _read_path,
    "services": _read_services,
}


def _from_text(name: str, text: str) -> Any:
    """Give the text of a variable the type its setting has in a file."""
    if name in ("packages", "ignore", "probes"):
        return [part for part in (piece.strip() for piece in text.split(",")) if part]
    if name == "timeout":
        try:
            return float(text)
        except ValueError:
            return text
    return text
