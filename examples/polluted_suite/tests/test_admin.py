"""Back-office tests. Each passes, and each leaves something behind."""

from __future__ import annotations

import logging
import os
import tempfile
import unittest
from decimal import Decimal

from shop import config, settings
from shop.clients import PaymentClient


class AdminTest(unittest.TestCase):
    def test_sandbox(self) -> None:
        """Module global, rebound."""
        config.PROFILE = "sandbox"
        self.assertTrue(config.is_sandbox())

    def test_auditor(self) -> None:
        """List in a dict in a dict, changed in place."""
        config.CONFIG["mail"]["bcc"].append("audit@shop.example")
        self.assertIn("audit@shop.example", config.mail_recipients("ann@example.org"))

    def test_declined(self) -> None:
        """Method of a class, replaced."""
        PaymentClient.charge = lambda self, amount: "declined"  # type: ignore[method-assign]
        self.assertEqual("declined", PaymentClient().charge(Decimal(5)))

    def test_region_us(self) -> None:
        """Environment variable, set."""
        os.environ["SHOP_REGION"] = "us"
        self.assertEqual("USD", settings.currency())

    def test_export(self) -> None:
        """Working directory, changed."""
        os.chdir(tempfile.gettempdir())
        self.assertFalse(os.path.exists("templates/receipt.txt"))

    def test_quiet_mode(self) -> None:
        """Level of a logger, raised."""
        logging.getLogger("shop").setLevel(logging.CRITICAL)
        self.assertFalse(logging.getLogger("shop.orders").isEnabledFor(logging.WARNING))
