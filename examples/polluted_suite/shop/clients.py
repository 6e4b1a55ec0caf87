"""Clients of the two services we depend on; here they only pretend."""

from __future__ import annotations

from decimal import Decimal


class PaymentClient:
    """Client of the payment provider."""

    timeout = 5.0

    def charge(self, amount: Decimal) -> str:
        """Charge *amount* and return the state of the payment."""
        return "paid" if amount > 0 else "rejected"


class MailClient:
    """Client of the mail provider."""

    def __init__(self) -> None:
        self.outbox: list[tuple[str, str]] = []

    def send(self, recipient: str, text: str) -> None:
        """Send *text* to *recipient*."""
        self.outbox.append((recipient, text))
