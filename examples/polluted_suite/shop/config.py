"""Configuration that lives in module globals."""

from __future__ import annotations

from typing import Any

PROFILE = "production"

CONFIG: dict[str, Any] = {
    "mail": {"sender": "shop@shop.example", "bcc": []},
    "limits": {"max_items": 50},
}


def is_sandbox() -> bool:
    """Tell whether money is only pretended to move."""
    return PROFILE != "production"


def mail_recipients(customer: str) -> list[str]:
    """Return everybody who gets the mail meant for *customer*."""
    return [customer, *CONFIG["mail"]["bcc"]]
