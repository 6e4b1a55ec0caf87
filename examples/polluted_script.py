"""A nightly job as a plain script: no test runner, the same pollution as the suite beside it.

Ten steps each do their work and leave something behind; ten checks each hold
alone and fail after their step. The only mark of isolation-core is the
decorator `isolated` on the steps.

    ISOLATION_CORE_MODE=off python examples/polluted_script.py    # the checks fail
    isolation run examples/polluted_script.py                     # the checks hold, the steps are named
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

from isolation_script import isolated

SUITE = Path(__file__).resolve().parent / "polluted_suite"
sys.path.insert(0, str(SUITE))
os.chdir(SUITE)

from shop import catalog, config, receipts, settings, shipping, sms  # noqa: E402
from shop.clients import MailClient, PaymentClient  # noqa: E402


@isolated
def use_the_sandbox() -> None:
    """Rebind a module global."""
    config.PROFILE = "sandbox"


@isolated
def copy_the_auditor() -> None:
    """Append to a list in a dict in a dict."""
    config.CONFIG["mail"]["bcc"].append("audit@shop.example")


@isolated
def decline_cards() -> None:
    """Replace a method of a class."""
    PaymentClient.charge = lambda self, amount: "declined"  # type: ignore[method-assign]


@isolated
def move_to_the_us() -> None:
    """Set an environment variable."""
    os.environ["SHOP_REGION"] = "us"


@isolated
def export_elsewhere() -> None:
    """Change the working directory."""
    os.chdir(tempfile.gettempdir())


@isolated
def be_quiet() -> None:
    """Raise the level of a logger."""
    logging.getLogger("shop").setLevel(logging.CRITICAL)


@isolated
def pretend_to_have_sms() -> None:
    """Fake a module that is not installed."""
    sys.modules["smsgate"] = types.ModuleType("smsgate")


@isolated
def silence_warnings() -> None:
    """Insert a warnings filter."""
    warnings.simplefilter("ignore")


@isolated
def mock_the_mail() -> None:
    """Start a mock patch and never stop it."""
    patch.object(MailClient, "send").start()


@isolated
def price_a_sale() -> None:
    """Fill a cache while the table behind it is patched."""
    with patch.dict(catalog.PRICES, mug="4.25"):
        catalog.price("mug")


def mail_arrives() -> bool:
    """Tell whether a mail that is sent is in the outbox."""
    mail = MailClient()
    mail.send("ann@example.org", "Thank you.")
    return len(mail.outbox) == 1


def express_warns() -> bool:
    """Tell whether the function that goes away says so."""
    with warnings.catch_warnings(record=True) as seen:
        shipping.express("mug")
    return len(seen) == 1


def receipt_is_rendered() -> bool:
    """Tell whether the template is found."""
    try:
        return "ann" in receipts.render("ann")
    except FileNotFoundError:
        return False


CHECKS: dict[Callable[[], None], tuple[str, Callable[[], bool]]] = {
    use_the_sandbox: ("money is real", lambda: not config.is_sandbox()),
    copy_the_auditor: ("only the customer gets mail", lambda: config.mail_recipients("ann") == ["ann"]),
    decline_cards: ("cards are charged", lambda: PaymentClient().charge(Decimal(5)) == "paid"),
    move_to_the_us: ("prices are in euro", lambda: settings.currency() == "EUR"),
    export_elsewhere: ("receipts are rendered", receipt_is_rendered),
    be_quiet: ("orders are logged", lambda: logging.getLogger("shop.orders").isEnabledFor(logging.WARNING)),
    pretend_to_have_sms: ("short messages go to the console", lambda: sms.backend() == "console"),
    silence_warnings: ("old functions warn", express_warns),
    mock_the_mail: ("mail arrives", mail_arrives),
    price_a_sale: ("a mug costs its list price", lambda: catalog.price("mug") == Decimal("8.50")),
}


def main() -> int:
    """Run every step, then every check; return how many checks fail."""
    for step in CHECKS:
        step()
    failed = 0
    for step, (promise, holds) in CHECKS.items():
        if not holds():
            failed += 1
            print(f"FAILED  {promise}  (broken by {step.__name__})")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks hold")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
