"""The profile of Django, against the library in a process of its own: settings cannot be configured twice."""

from __future__ import annotations

import pytest

CONFTEST = """
import django
from django.conf import settings

settings.configure(
    USE_I18N=True, LANGUAGE_CODE="en-us", USE_TZ=True, TIME_ZONE="UTC", SECRET_KEY="x", PAGE=10, NEST={"a": {"b": [1]}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
)
django.setup()
"""

SUITE = """
import pytest
from django.apps import apps
from django.conf import settings
from django.core.cache import cache
from django.core.signals import request_finished
from django.db.models.signals import post_save
from django.test import override_settings
from django.utils import timezone, translation

CALLS = []
DUMMY = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


def handler(**_):
    CALLS.append(1)


def healthy():
    with override_settings(PAGE=3, INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]):
        assert settings.PAGE == 3
    with translation.override("fr"):
        assert translation.get_language() == "fr"
    request_finished.connect(handler, weak=False)
    request_finished.disconnect(handler)


POLLUTERS = {
    "set": lambda: setattr(settings, "PAGE", 50),
    "deleted": lambda: delattr(settings, "PAGE"),
    "nested": lambda: settings.NEST["a"]["b"].append(2),
    "override": lambda: override_settings(PAGE=50).enable(),
    "caches": lambda: override_settings(CACHES=DUMMY).enable(),
    "apps": lambda: override_settings(INSTALLED_APPS=[]).enable(),
    "signal": lambda: (request_finished.connect(handler), post_save.connect(handler, weak=False)),
    "language": lambda: translation.activate("fr"),
    "timezone": lambda: timezone.activate("Europe/Paris"),
}


@pytest.mark.parametrize("what", POLLUTERS)
def test_pollute(what):
    POLLUTERS[what]()


@pytest.mark.parametrize("what", POLLUTERS)
def test_victim(what):
    healthy()
    assert settings.PAGE == 10
    assert settings.NEST == {"a": {"b": [1]}}
    assert len(apps.app_configs) == 2
    cache.set("k", 1)
    assert cache.get("k") == 1
    request_finished.send(sender=None)
    assert CALLS == []
    assert translation.get_language() == "en-us"
    assert timezone.get_current_timezone_name() == "UTC"
"""


def test_django(pytester: pytest.Pytester) -> None:
    """Settings with all that is derived from them, signals, language and time zone; healthy use is silent."""
    pytest.importorskip("django")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("-v", "-p", "no:randomly", "-p", "no:django")
    result.assert_outcomes(passed=18)
    text = result.stdout.str()
    names = (
        "django.conf.settings.PAGE",
        "django.conf.settings.NEST",
        "django.conf.settings.INSTALLED_APPS",
        "request_finished.receivers",
        "trans_real._active",
        "timezone._active",
    )
    assert [name for name in names if name not in text] == []
    strict = pytester.runpytest_subprocess("-k", "victim", "--isolation=strict", "-p", "no:randomly", "-p", "no:django")
    strict.assert_outcomes(passed=9, deselected=9)
