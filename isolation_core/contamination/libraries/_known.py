"""Which libraries have a profile. A profile is loaded once its library is imported, and not before."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from types import ModuleType
from typing import Any, Final

from isolation_core.contamination.libraries._profile import Profile, Unit
from isolation_core.contamination.libraries._state import LibraryState
from isolation_core.errors import ConfigurationError
from isolation_core.journal import get_journal

__all__ = [
    "GlobalUnits",
    "generation",
    "leaves_alone",
    "register_library_profile",
    "unit_for",
    "unregister_library_profile",
]

_SHIPPED: Final = frozenset(
    module.name for module in pkgutil.iter_modules([os.path.join(os.path.dirname(__file__), "profiles")])
)
"""Libraries with a profile of that name in `profiles`."""

_registered: dict[str, Profile] = {}
_loaded: dict[str, Profile | None] = {}
_generation = 0


def register_library_profile(profile: Profile) -> Profile:
    """Make every barrier opened from now on watch what *profile* says of a library.

    It takes the place of the profile that isolation-core itself has of the library. Call it before the
    first test, for example in ``conftest.py``.

    Args:
        profile: the profile.

    Returns:
        The profile itself.

    Raises:
        ConfigurationError: if another profile was registered for the library.
    """
    current = _registered.get(profile.library)
    if current is not None and current is not profile:
        raise ConfigurationError(
            f"a profile of {profile.library!r} is registered already; call "
            f"unregister_library_profile({profile.library!r}) first",
            name=profile.library,
            value=profile,
        )
    _registered[profile.library] = profile
    _forget(profile.library)
    return profile


def unregister_library_profile(library: str) -> None:
    """Forget the profile that was registered for *library*."""
    _registered.pop(library, None)
    _forget(library)


def _forget(library: str) -> None:
    global _generation  # noqa: PLW0603 - the one counter of this module
    _loaded.pop(library, None)
    _generation += 1


def generation() -> int:
    """Return a number that grows whenever a profile is registered or taken back."""
    return _generation


def profile_of(library: str) -> Profile | None:
    """Return the profile of an imported library, if it has one that fits its version."""
    if library in _loaded:
        return _loaded[library]
    found = _registered.get(library)
    if found is None and library in _SHIPPED:
        name = f"isolation_core.contamination.libraries.profiles.{library}"
        found = importlib.import_module(name).PROFILE
    if found is not None and not _is_verified(found):
        found = None
    _loaded[library] = found
    return found


def _is_verified(profile: Profile) -> bool:
    if profile.versions is None:
        return True
    try:
        version = metadata.version(profile.distribution or profile.library)
    except metadata.PackageNotFoundError:
        return False
    if profile.fits(version):
        return True
    get_journal().record("library-profile-off", library=profile.library, version=version, versions=profile.versions)
    return False


def _has_profile(library: str) -> bool:
    return library in _SHIPPED or library in _registered


def unit_for(names: Iterable[tuple[str, str]]) -> tuple[Profile, Unit] | None:
    """Return the unit for instances of a class.

    Args:
        names: module and qualified name of the class and its bases, in the order of its MRO.
    """
    for module, name in names:
        library = module.partition(".")[0]
        if not _has_profile(library):
            continue
        profile = profile_of(library)
        for unit in profile.objects if profile is not None else ():
            if unit.name == name:
                assert profile is not None
                return profile, unit
    return None


def leaves_alone(names: Iterable[tuple[str, str]]) -> bool:
    """Return whether instances of a class are not watched at all; *names* as for `unit_for`."""
    for module, name in names:
        library = module.partition(".")[0]
        if _has_profile(library):
            profile = profile_of(library)
            if profile is not None and name in profile.leaves:
                return True
    return False


class GlobalUnits:
    """Finds the global state of libraries as they come to be imported."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[ModuleType, Profile | None]] = {}
        self._waiting: list[tuple[Profile, Unit]] = []

    def find(self, is_first_party: Callable[[str], bool]) -> Iterator[tuple[str, LibraryState | None]]:
        """Yield name and state of units whose modules were imported since it was called last; None: it is void.

        Args:
            is_first_party: returns whether a module is watched deeply: no profile is needed then.
        """
        for library in (*_SHIPPED, *_registered):
            module = sys.modules.get(library)
            if module is None or is_first_party(library):
                continue
            profile = profile_of(library)
            if self._seen.get(library) == (module, profile):
                continue
            former = self._seen.get(library)
            for unit in former[1].units if former is not None and former[1] is not None else ():
                yield f"{library} {unit.name}", None
            self._seen[library] = (module, profile)
            self._waiting = [each for each in self._waiting if each[0].library != library]
            if profile is not None:
                self._waiting += [(profile, unit) for unit in profile.units]
        waiting, self._waiting = self._waiting, []
        for profile, unit in waiting:
            if not all(_is_imported(place.module) for place in unit.places):
                self._waiting.append((profile, unit))
                continue
            try:
                state = LibraryState(profile, unit)
            except Exception as error:
                get_journal().record(
                    "library-unit-off",
                    library=profile.library,
                    unit=unit.name,
                    error=f"{type(error).__name__}: {error}",
                )
                continue
            yield f"{profile.library} {unit.name}", state


def _is_imported(name: str) -> bool:
    module: Any = sys.modules.get(name)
    if module is None:
        return False
    # A module that is being executed is not there yet.
    spec = getattr(module, "__spec__", None)
    return not getattr(spec, "_initializing", False)
