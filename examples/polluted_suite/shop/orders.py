"""Orders: from a basket to a paid and announced order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal

from shop import catalog, config
from shop.clients import MailClient, PaymentClient

logger = logging.getLogger("shop.orders")

VAT = Decimal("0.19")


@dataclass(frozen=True)
class Confirmation:
    """The message to the customer."""

    total: Decimal
    state: str
    sandbox: bool


def with_vat(amount: Decimal) -> Decimal:
    """Return *amount* with value-added tax."""
    return amount + amount * VAT


def place(basket: dict[str, int], customer: str, mail: MailClient) -> Confirmation:
    """Charge the *basket* and tell the *customer*."""
    total = sum((catalog.price(sku) * count for sku, count in basket.items()), Decimal(0))
    state = PaymentClient().charge(total)
    for recipient in config.mail_recipients(customer):
        mail.send(recipient, f"Your order is {state}.")
    logger.warning("order of %s is %s", customer, state)
    return Confirmation(total, state, config.is_sandbox())
