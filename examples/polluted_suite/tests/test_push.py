"""Healthy tests. What an import registers belongs to the import, not to the test that came first."""

from __future__ import annotations

import unittest

from orderdesk.registry import CHANNELS


class PushTest(unittest.TestCase):
    def test_push_is_a_channel(self) -> None:
        import orderdesk.push

        self.assertIs(CHANNELS["push"], orderdesk.push.send)

    def test_push_still_is_a_channel(self) -> None:
        import orderdesk.push

        self.assertIs(CHANNELS["push"], orderdesk.push.send)
