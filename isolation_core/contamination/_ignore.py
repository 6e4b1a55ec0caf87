"""``ignore=`` patterns: changes that are neither reported nor undone.

A pattern that begins with ``!`` turns the list around: everything but the
changes that such patterns name exactly is left alone. An experiment that puts
back one piece of state, and nothing else, is written that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from attrs import frozen

from isolation_core._suggest import did_you_mean
from isolation_core.errors import ConfigurationError

__all__ = ["IgnoreRules"]


@frozen
class IgnoreRules:
    """Compiled patterns.

    Attributes:
        patterns: pairs of a glob for the kind and a glob for the path.
        only: pairs of kind and path; if there are any, everything else is ignored.
    """

    patterns: tuple[tuple[str, str], ...] = ()
    only: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> IgnoreRules:
        """Compile ``"kind:path-glob"`` texts; a bare ``"kind"`` means every path of it.

        Raises:
            ConfigurationError: if *texts* is one text instead of several, one is empty, or names a
                kind of finding that does not exist.
        """
        if isinstance(texts, str):
            raise ConfigurationError(
                f"ignore={texts!r} is one text; give a list of patterns, such as [{texts!r}]",
                name="ignore",
                value=texts,
            )
        pairs = []
        only = set()
        for text in texts:
            if text.startswith("!"):
                kind, _, path = text[1:].partition(":")
                _check_kind(kind, text)
                only.add((kind, path))
                continue
            kind, colon, glob = text.partition(":")
            if not kind:
                raise ConfigurationError(
                    f"ignore={text!r} names no kind; write 'kind:path-glob', such as 'environ:TZ' or 'module:app.*'",
                    name="ignore",
                    value=text,
                )
            _check_kind(kind.strip(), text)
            pairs.append((kind.strip(), glob.strip() if colon else "*"))
        return cls(tuple(pairs), frozenset(only))

    def matcher(self) -> Callable[[str, str], bool] | None:
        """Return a function of kind and path, or None if nothing is ignored."""
        if not self.patterns and not self.only:
            return None
        return self._matches

    def _matches(self, kind: str, path: str) -> bool:
        if self.only and (kind, path) not in self.only:
            return True
        return any(
            fnmatchcase(kind, kind_glob) and (fnmatchcase(path, glob) or glob in path.split("'"))
            for kind_glob, glob in self.patterns
        )


_checked: set[str] = set()


def _check_kind(glob: str, text: str) -> None:
    """Check that some kind of finding matches *glob*; a rule that can never match would be silently useless."""
    if glob in _checked:
        return
    # Imported late: a run that ignores nothing needs no list of kinds.
    from isolation_core.codes import CODES
    from isolation_core.contamination.probes._registered import registered_probes

    known = {code.kind for code in CODES.values()} | {probe.kind for probe in registered_probes()}
    if not any(fnmatchcase(kind, glob) for kind in known):
        hint = did_you_mean(glob, known, otherwise=f"known kinds: {', '.join(sorted(known))}")
        raise ConfigurationError(
            f"ignore={text!r}: {glob!r} is not a kind of finding; {hint}", name="ignore", value=text
        )
    _checked.add(glob)
