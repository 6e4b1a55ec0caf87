"""Secrets: whatever looks like a credential stays out of every text of a finding, and ordinary text stays readable."""

from __future__ import annotations

import string
import sys
import types
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core import isolation_barrier
from isolation_core._secrets import holds_secret, is_secret_name, scrub
from isolation_core.contamination._rendering import bounded_repr
from isolation_core.findings import Change, Leak

ALPHABET = string.ascii_letters + string.digits
SECRETS = st.text(ALPHABET, min_size=8, max_size=40).map(lambda text: f"Zq{text}")
NAMES = st.sampled_from(
    [
        "password",
        "PASSWD",
        "db_password",
        "secret",
        "SECRET_KEY",
        "token",
        "access_token",
        "api_key",
        "apiKey",
        "API-KEY",
        "credentials",
        "auth",
        "Authorization",
        "cookie",
        "session_id",
        "private_key",
        "dsn",
        "jwt",
    ]
)
SHAPES: list[Callable[[str, str], object]] = [
    lambda name, secret: f"{name}={secret}",
    lambda name, secret: f"--{name}={secret}",
    lambda name, secret: f"{name}: {secret}",
    lambda name, secret: f'{{"{name}": "{secret}"}}',
    lambda name, secret: f"https://host/path?{name}={secret}",
    lambda name, secret: f"https://host/path?a=b&{name}={secret}&c=d",
    lambda name, secret: f"https://host/#{name}={secret}",
    lambda _, secret: f"postgresql://user:{secret}@host/db",
    lambda _, secret: f"Bearer {secret}",
    lambda name, secret: f"{name}={secret}".encode(),
    lambda name, secret: bytearray(f"{name}={secret}", "ascii"),
    lambda name, secret: {name: secret},
    lambda name, secret: {name: [secret]},
    lambda name, secret: {name: (1, secret.encode())},
    lambda name, secret: [("a", 1), (name, secret)],
    lambda name, secret: ["run", f"--{name}", secret],
    lambda name, secret: {"nested": {name: secret}},
]


@given(NAMES, SECRETS, st.sampled_from(SHAPES))
def test_no_shape_of_a_secret_is_shown(name: str, secret: str, shape: Callable[[str, str], object]) -> None:
    """A value with a credential in it is rendered without the credential."""
    assert secret[:6] not in bounded_repr(shape(name, secret))


@given(NAMES, SECRETS, st.sampled_from([shape for shape in SHAPES if isinstance(shape("a", "b"), str)]))
def test_no_text_of_a_finding_holds_a_secret(name: str, secret: str, shape: Callable[[str, str], str]) -> None:
    """The texts of every finding are scrubbed on the way in, repeatedly to the same text."""
    text = f"before {shape(name, secret)} after"
    change = Change("module", text, before=text, after=text, code="MOD001", owner="test", reason=text)
    leak = Leak("task", text, code="TSK001", owner="test", reason=text)
    for shown in (
        change.path,
        change.before,
        change.after,
        change.reason,
        leak.path,
        leak.reason,
        str(change),
        str(leak),
    ):
        assert shown is not None
        assert secret[:6] not in shown
        assert scrub(shown) == shown
    assert change.path.startswith("before ")


@given(NAMES, SECRETS)
def test_all_text_under_the_name_of_a_credential_is_redacted(name: str, secret: str) -> None:
    """Whatever hangs below an attribute or key with such a name is shown without its text."""
    assert is_secret_name(name)
    for value in (secret, secret.encode(), [secret], (secret,), {secret}, {"eu": secret}, [{"eu": [secret]}]):
        assert secret not in bounded_repr(value, secret=True)


ORDINARY = [
    "EUR",
    "author: eve and others",
    "/home/eve/passed/tokens.py",
    "https://host/path?page=2&sort=name",
    "key: value",
    "the password was changed",
    "authors=12",
    "C:\\Users\\eve",
    "a & b",
    "max_tokens=100",
    "password=None",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_shown(text: str) -> None:
    """Text that only speaks of such things is left alone."""
    assert not holds_secret(text)
    assert scrub(text) == text


@pytest.mark.parametrize("name", ["author", "authors", "compass", "bypass_count", "monkey", "keyboard", "passed"])
def test_ordinary_names_are_no_secret(name: str) -> None:
    """A name that contains the letters of another one does not hide its value."""
    assert not is_secret_name(name)


def test_huge_text_is_searched_in_linear_time() -> None:
    """A long word of the characters that names consist of ends at once."""
    assert scrub("token" * 200_000)
    assert not holds_secret("a" * 1_000_000)


@pytest.fixture
def app() -> Iterator[types.ModuleType]:
    """Return a first-party module with state of many kinds."""
    module = types.ModuleType("secrets_app")
    state = "URL = ''\nB = b''\nDB_PASSWORDS = ['x']\nSESSIONS = {}\nCONF = {'auth': {'eu': 'x'}}\n"
    source = f"{state}def f(a, password='x'): pass\n"
    exec(source, vars(module))
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def pollute(app: Any, secret: str) -> None:
    """Leave *secret* in every kind of place."""
    app.URL = f"https://x.y/z?token={secret}"
    app.B = b"password=" + secret.encode()
    app.DB_PASSWORDS.append(secret)
    app.SESSIONS[secret] = 1
    app.CONF["auth"]["eu"] = secret
    app.f.__defaults__ = (secret,)
    app.f.__kwdefaults__ = {"token": secret}
    sys.argv += [f"--password={secret}", "--api-key", secret]
    sys.path.append(f"https://user:{secret}@host/simple")
    COOKIE.set(secret)


COOKIE: ContextVar[str] = ContextVar("session_cookie")


def test_findings_of_every_kind_are_free_of_secrets(app: types.ModuleType) -> None:
    """Attributes, bytes, lists, keys, defaults, arguments and context variables are reported without the secret."""

    def block() -> Any:
        with isolation_barrier(packages=["secrets_app"]) as barrier:
            pollute(app, "Zq1SEKRIT99")
        return barrier

    barrier = copy_context().run(block)
    assert len(barrier.changes) >= 10
    assert [str(change) for change in barrier.changes if "SEKRIT" in repr(change)] == []
    assert all(change.restored for change in barrier.changes if change.kind != "contextvar")
