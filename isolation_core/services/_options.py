"""Options of real clients: what has an effect in memory, what needs none there, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from isolation_core._suggest import did_you_mean
from isolation_core.errors import ConfigurationError

__all__ = ["Options"]


def _names(names: str | frozenset[str]) -> frozenset[str]:
    return frozenset(names.split()) if isinstance(names, str) else names


@frozen
class Options:
    """The keyword arguments of one function of a client, as a double takes them.

    Attributes:
        function: the function, for messages.
        modelled: names of those that have the effect they have in the client, separated by spaces.
        harmless: names of those whose effect needs a network, a server of its own or a login; they are accepted.
        refused: those that change what code sees and are not modelled, each with its default, which is accepted.
    """

    function: str
    modelled: frozenset[str] = field(default=frozenset(), converter=_names)
    harmless: frozenset[str] = field(default=frozenset(), converter=_names)
    refused: Mapping[str, Any] = field(factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """All options of the function."""
        return self.modelled | self.harmless | self.refused.keys()

    def check(self, given: Mapping[str, Any]) -> None:
        """Check what was given.

        Raises:
            TypeError: as the client does, for an option it does not have, with a did-you-mean.
            ConfigurationError: for one that is not modelled.
        """
        for name, value in given.items():
            if name not in self.names:
                raise TypeError(f"{self.function}() got an unexpected keyword argument {name!r}{self._hint(name)}")
            if name in self.refused and value != self.refused[name]:
                raise ConfigurationError(
                    f"{self.function}({name}={value!r}) changes what the code sees, and is not modelled in memory; "
                    "leave it out, or use a real server: backend='real' or an address",
                    name=name,
                    value=value,
                )

    def _hint(self, name: str) -> str:
        return did_you_mean(name, self.names, before="; ")
