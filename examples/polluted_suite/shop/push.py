"""Push messages: a channel that is only imported by those who need it."""

from __future__ import annotations

from shop.registry import channel

SENT: list[tuple[str, str]] = []


@channel("push")
def send(recipient: str, text: str) -> None:
    """Push *text* to the devices of *recipient*."""
    SENT.append((recipient, text))
