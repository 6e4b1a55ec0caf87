"""With unittest: ``python -m unittest with_unittest``."""

from __future__ import annotations

import unittest

import stack  # noqa: F401 - the definitions
from isolation_unittest import IsolationMixin


class Orders(IsolationMixin, unittest.TestCase):
    def test_one_order(self) -> None:
        client = self.isolation.fixture("client")
        self.assertEqual(client.order("tea"), 1)

    def test_another_order(self) -> None:
        client = self.isolation.fixture("client")
        self.assertEqual(client.order("coffee"), 1)
        self.assertEqual(self.isolation.fixture("broker"), [])


if __name__ == "__main__":
    unittest.main()
