"""Registry of notification channels; channels register themselves when imported."""

from __future__ import annotations

from collections.abc import Callable

Sender = Callable[[str, str], None]

CHANNELS: dict[str, Sender] = {}


def channel(name: str) -> Callable[[Sender], Sender]:
    """Register the decorated function as the channel called *name*."""

    def register(sender: Sender) -> Sender:
        CHANNELS[name] = sender
        return sender

    return register
