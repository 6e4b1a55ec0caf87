"""The projects that a run covers: what they watch, and the settings of each.

``pytest a b`` from above two projects has one rootdir, that of the first. The
tests of the second are tests of this run too: the modules under its root are
first-party, and its own table counts for its tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from isolation_core.config import Settings

__all__ = ["Projects"]

_MARKS: Final = ("pyproject.toml", "isolation.toml", "pytest.ini", "tox.ini", "setup.cfg", "setup.py", ".git")
_TABLES: Final = ("isolation.toml", "pyproject.toml")


class Projects:
    """Finds the project of a test.

    Args:
        root: the rootdir of the run.
        settings: the settings of the run.
        load: returns the settings of a project, given a folder in it.
    """

    def __init__(self, root: Path, settings: Settings, load: Callable[[Path], Settings]) -> None:
        self._root = root
        self._settings = settings
        self._load = load
        # Asked for with each test: a path costs more to compare than a collector.
        self._by_collector: dict[object, Settings] = {}
        self._by_folder: dict[Path, Settings] = {root: settings}

    def roots_of(self, items: Iterable[pytest.Item]) -> Iterator[Path]:
        """Yield the roots of the projects that *items* are in, as far as they do not lie under the rootdir."""
        folders = {item.path.parent for item in items}
        outside = sorted(folder for folder in folders if not folder.is_relative_to(self._root))
        found = dict.fromkeys(_root_above(folder) for folder in outside)
        yield from found

    def settings_of(self, item: pytest.Item) -> Settings:
        """Return the settings for *item*: those of the table nearest to its file.

        Raises:
            ConfigurationError: if that table is wrong.
        """
        found = self._by_collector.get(item.parent)
        if found is None:
            found = self._by_collector[item.parent] = self._settings_in(item.path.parent)
        return found

    def _settings_in(self, folder: Path) -> Settings:
        found = self._by_folder.get(folder)
        if found is None:
            if any((folder / name).is_file() for name in _TABLES):
                found = self._load(folder)
                if found.source == self._settings.source:
                    found = self._settings
            elif folder.parent == folder:
                # A test that no project is around: what the command line and the environment say.
                found = self._load(folder)
            else:
                found = self._settings_in(folder.parent)
            self._by_folder[folder] = found
        return found

    def shared(self, items: Iterable[pytest.Item]) -> Iterator[str]:
        """Yield a text for each project with settings that only a whole run can have, and that do not count."""
        others = {id(each): each for each in (self.settings_of(item) for item in items)}
        for each in others.values():
            if each is self._settings:
                continue
            names = [
                name
                for name in ("baseline", "journal_dir")
                if getattr(each, name) is not None and getattr(each, name) != getattr(self._settings, name)
            ]
            if names:
                whose = self._settings.source or "the command line and the environment"
                yield f"{' and '.join(names)} of {each.source} do not count: a run has one, from {whose}"


def _root_above(folder: Path) -> Path:
    """Return the nearest folder around *folder* that looks like the root of a project, or *folder* itself."""
    for each in (folder, *folder.parents):
        if any(os.path.lexists(each / name) for name in _MARKS):
            return each
    return folder
