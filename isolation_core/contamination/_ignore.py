"""``ignore=`` patterns: changes that are neither reported nor undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from attrs import frozen

from isolation_core.errors import ConfigurationError

__all__ = ["IgnoreRules"]


@frozen
class IgnoreRules:
    """Compiled patterns.

    Attributes:
        patterns: pairs of a glob for the kind and a glob for the path.
    """

    patterns: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> IgnoreRules:
        """Compile ``"kind:path-glob"`` texts; a bare ``"kind"`` means every path of it.

        Raises:
            ConfigurationError: if *texts* is one text instead of several, or one is empty.
        """
        if isinstance(texts, str):
            raise ConfigurationError(
                f"ignore={texts!r} is one text; give a list of patterns, such as [{texts!r}]",
                name="ignore",
                value=texts,
            )
        pairs = []
        for text in texts:
            kind, colon, glob = text.partition(":")
            if not kind:
                raise ConfigurationError(
                    f"ignore={text!r} names no kind; write 'kind:path-glob', such as 'environ:TZ' or 'module:app.*'",
                    name="ignore",
                    value=text,
                )
            pairs.append((kind.strip(), glob.strip() if colon else "*"))
        return cls(tuple(pairs))

    def matcher(self) -> Callable[[str, str], bool] | None:
        """Return a function of kind and path, or None if nothing is ignored."""
        if not self.patterns:
            return None
        return self._matches

    def _matches(self, kind: str, path: str) -> bool:
        return any(
            fnmatchcase(kind, kind_glob) and (fnmatchcase(path, glob) or glob in path.split("'"))
            for kind_glob, glob in self.patterns
        )
