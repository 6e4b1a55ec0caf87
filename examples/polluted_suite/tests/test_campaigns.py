"""Marketing tests. They leave things behind, too."""

from __future__ import annotations

import sys
import types
import unittest
import warnings
from decimal import Decimal
from unittest.mock import patch

from shop import catalog, shipping, sms
from shop.clients import MailClient


class CampaignTest(unittest.TestCase):
    def test_sms_sale(self) -> None:
        """Module that does not exist, faked."""
        sys.modules["smsgate"] = types.ModuleType("smsgate")
        self.assertEqual("smsgate", sms.backend())

    def test_overnight(self) -> None:
        """Warnings, silenced for everybody."""
        warnings.simplefilter("ignore")
        self.assertEqual("mug: overnight", shipping.express("mug"))

    def test_mailing(self) -> None:
        """Mock patch, started and never stopped."""
        send = patch.object(MailClient, "send").start()
        MailClient().send("ann@example.org", "Sale!")
        send.assert_called_once()

    def test_half_price(self) -> None:
        """Cache, filled while the price table was patched (and properly put back)."""
        with patch.dict(catalog.PRICES, mug="4.25"):
            self.assertEqual(Decimal("4.25"), catalog.price("mug"))
