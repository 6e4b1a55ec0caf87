"""As a runner of one's own that opens and closes scopes: ``python custom_runner.py``."""

from __future__ import annotations

import stack

from isolation_core import FixtureManager


def one_order(client: stack.Service) -> None:
    assert client.order("tea") == 1


def another_order(client: stack.Service, broker: list[str]) -> None:
    assert client.order("coffee") == 1
    assert broker == []


def tampers(settings: dict[str, object]) -> None:
    settings["retries"] = 0


def is_not_bothered(settings: dict[str, object]) -> None:
    assert settings["retries"] == 3


def main() -> None:
    manager = FixtureManager()
    with manager.scope("session"):
        for test in (one_order, another_order, tampers, is_not_bothered):
            with manager.scope("function", test.__name__) as scope:
                manager.inject(test)()
            for change in scope.barrier.changes:
                print(f"{change.owner}: {change}")


if __name__ == "__main__":
    main()
