"""Healthy tests. What an import registers belongs to the import, not to the test that came first."""

from __future__ import annotations

import unittest

from shop.registry import CHANNELS


class PushTest(unittest.TestCase):
    def test_push_is_a_channel(self) -> None:
        import shop.push

        self.assertIs(CHANNELS["push"], shop.push.send)

    def test_push_still_is_a_channel(self) -> None:
        import shop.push

        self.assertIs(CHANNELS["push"], shop.push.send)
