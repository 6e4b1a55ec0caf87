"""Order tests. Each passes alone, and fails when a certain other test ran before it."""

from __future__ import annotations

import logging
import time
import unittest
import warnings
from decimal import Decimal

from shop import catalog, config, orders, receipts, settings, shipping, sms
from shop.clients import MailClient, PaymentClient

NOON = 1_767_225_600.0
HOUR_AT_START = time.localtime(NOON).tm_hour


class Keeper(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class OrderTest(unittest.TestCase):
    def test_real_money(self) -> None:
        self.assertFalse(config.is_sandbox())

    def test_paid(self) -> None:
        self.assertEqual("paid", PaymentClient().charge(Decimal(5)))

    def test_list_price(self) -> None:
        self.assertEqual(Decimal("8.50"), catalog.price("mug"))

    def test_in_euro(self) -> None:
        self.assertEqual("EUR", settings.currency())

    def test_logged(self) -> None:
        handler = Keeper()
        orders.logger.addHandler(handler)
        try:
            orders.place({"shirt": 1}, "ann@example.org", MailClient())
        finally:
            orders.logger.removeHandler(handler)
        self.assertEqual(1, len(handler.lines))


class NoticeTest(unittest.TestCase):
    def test_only_customer(self) -> None:
        self.assertEqual(["ann@example.org"], config.mail_recipients("ann@example.org"))

    def test_mail_arrives(self) -> None:
        mail = MailClient()
        mail.send("ann@example.org", "Thank you.")
        self.assertEqual([("ann@example.org", "Thank you.")], mail.outbox)

    def test_receipt(self) -> None:
        self.assertIn("ann@example.org", receipts.render("ann@example.org"))

    def test_sms_console(self) -> None:
        self.assertEqual("console", sms.backend())

    def test_express_warns(self) -> None:
        with warnings.catch_warnings(record=True) as seen:
            shipping.express("mug")
        self.assertEqual([FutureWarning], [warning.category for warning in seen])


def test_vat_exact() -> None:
    assert orders.with_vat(Decimal("1234.56")) == Decimal("1469.1264")


def test_usual_hour() -> None:
    assert shipping.hour_of_pickup(NOON) == HOUR_AT_START
