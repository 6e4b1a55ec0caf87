"""Receipts, from a template beside the service."""

from __future__ import annotations

from pathlib import Path


def render(customer: str) -> str:
    """Return the receipt of *customer*."""
    return Path("templates/receipt.txt").read_text(encoding="utf-8").format(customer=customer)
