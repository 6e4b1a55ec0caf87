"""Django: settings with what is derived from them, signals, active language and time zone, caches, connections."""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from isolation_core.contamination._difference import MISSING
from isolation_core.contamination.libraries._parts import WHOLE, Content, Key, Part
from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content, custom, resolve, value
from isolation_core.contamination.probes._probe import Guard

_DEPTH: Final = 4


class Settings(Part):
    """The settings that are in force, through all `override_settings` on top of each other."""

    def __init__(self, label: str, find: Callable[[], Any]) -> None:
        super().__init__(label)
        self._find = find

    def _layers(self) -> list[Any]:
        """Return the holders of settings, the one on top first; nothing if they are not configured."""
        layers: list[Any] = []
        current = vars(self._find()).get("_wrapped")
        while type(current).__name__ in ("UserSettingsHolder", "Settings") and current not in layers:
            layers.append(current)
            current = vars(current).get("default_settings")
        return layers

    def read(self) -> dict[Key, Any]:
        layers = self._layers()
        if not layers:
            return {}
        # What was never set has the value of Django's own defaults.
        defaults = vars(layers[-1]).get("default_settings")
        names = {} if defaults is None else {key: each for key, each in vars(defaults).items() if key.isupper()}
        for layer in reversed(layers):
            space = vars(layer)
            names.update((name, each) for name, each in space.items() if name.isupper())
            for name in space.get("_deleted", ()):
                names.pop(name, None)
        found = Content("", lambda: names, _DEPTH).read()
        found["_wrapped", WHOLE] = layers[0]
        found["apps", WHOLE] = len(resolve("django.apps:apps").stored_app_configs)
        return found

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        # They are configured when they are read for the first time.
        return older or newer

    def put(self, values: Mapping[Key, Any]) -> None:
        settings = self._find()
        # Its receivers drop what was derived from a setting.
        signals = importlib.import_module("django.test.signals")
        apps = resolve("django.apps:apps")
        depth = values.get(("apps", WHOLE), MISSING)
        while depth is not MISSING and len(apps.stored_app_configs) > depth:
            apps.unset_installed_apps()
        wrapped = values.get(("_wrapped", WHOLE), MISSING)
        if wrapped is not MISSING:
            settings._wrapped = wrapped
        layers = self._layers()
        names = []
        for key in sorted(values, key=len):
            if key[-1] is WHOLE and key[0] in ("_wrapped", "apps"):
                continue
            name = str(key[0])
            names.append(name)
            if len(key) == 1:
                self._set(layers, name, values[key])
            else:
                table = {name: getattr(settings, name, MISSING)}
                Content("", lambda table=table: table, _DEPTH).put({key: values[key]})  # type: ignore[misc]
            vars(settings).pop(name, None)
        for name in dict.fromkeys(names):
            signals.setting_changed.send(
                sender=type(layers[0]), setting=name, value=getattr(settings, name, None), enter=False
            )

    def _set(self, layers: list[Any], name: str, wanted: Any) -> None:
        top = vars(layers[0])
        deleted = top.get("_deleted")
        if wanted is MISSING:
            top.pop(name, None)
            if any(name in vars(layer) for layer in layers[1:]) and deleted is not None:
                deleted.add(name)
            return
        if deleted is not None:
            deleted.discard(name)
        below = next((vars(layer)[name] for layer in layers[1:] if name in vars(layer)), MISSING)
        if below is MISSING:
            below = getattr(vars(layers[-1]).get("default_settings"), name, MISSING)
        if below is wanted:
            top.pop(name, None)
        elif top.get(name, MISSING) is not wanted:
            top[name] = wanted

    def guard(self) -> Guard | None:
        layers = self._layers()
        if not layers:
            return Guard(attributes=((vars(self._find()), ("_wrapped",)),))
        spaces = [(vars(layer), tuple(vars(layer))) for layer in layers]
        names = {name: each for space, _ in reversed(spaces) for name, each in space.items() if name.isupper()}
        inner = Content("", lambda: names, _DEPTH).guard()
        assert inner is not None
        return Guard(
            objects=(lambda: [len(vars(layer)) for layer in layers],),
            attributes=((vars(self._find()), ("_wrapped",)), *spaces),
            dicts=tuple(each for each in inner.dicts if each is not names),
            lists=(*inner.lists, resolve("django.apps:apps").stored_app_configs),
        )

    def text(self, key: Key) -> str:
        if key[-1] is WHOLE and key[0] in ("_wrapped", "apps"):
            return f"{self.label}._wrapped" if key[0] == "_wrapped" else "django.apps.apps.stored_app_configs"
        return f"{self.label}.{key[0]}" + "".join(f"[{step!r}]" for step in key[1:] if step is not WHOLE)


def _is_alive(entry: Any) -> bool:
    """Return whether a receiver still exists; Django takes the others out by and by."""
    receiver = entry[1]
    return not isinstance(receiver, weakref.ReferenceType) or receiver() is not None


def _is_djangos(entry: Any) -> bool:
    receiver = entry[1]() if isinstance(entry[1], weakref.ReferenceType) else entry[1]
    return str(getattr(receiver, "__module__", "")).partition(".")[0] == "django"


class Signals(Part):
    """The receivers of signals, each signal by name."""

    def __init__(self, label: str, signals: Callable[[], dict[str, Any]]) -> None:
        super().__init__(label)
        self._signals = signals

    def read(self) -> dict[Key, Any]:
        return {
            # Django connects receivers of its own whenever applications are set up.
            (name, WHOLE): tuple(each for each in signal.receivers if _is_alive(each) and not _is_djangos(each))
            for name, signal in self._signals().items()
        }

    def earlier(self, older: dict[Key, Any], newer: dict[Key, Any]) -> dict[Key, Any]:
        return {key: tuple(filter(_is_alive, entries)) for key, entries in (*newer.items(), *older.items())}

    def put(self, values: Mapping[Key, Any]) -> None:
        signals = self._signals()
        for (name, _), entries in values.items():
            signal = signals[str(name)]
            with signal.lock:
                signal.receivers[:] = (*filter(_is_djangos, signal.receivers), *entries)
                signal.sender_receivers_cache.clear()

    def guard(self) -> Guard | None:
        signals = self._signals().values()
        return Guard(
            lists=tuple(signal.receivers for signal in signals),
            attributes=tuple((vars(signal), ("receivers",)) for signal in signals),
        )

    def text(self, key: Key) -> str:
        return f"{self.label}{key[0]}.receivers"


def _of_an_own_signal(label: str, find: Callable[[], Any]) -> Part:
    if any(each is find() for each in _Known()().values()):
        raise LookupError("Django's own, and watched under its own name")
    return Signals(label, lambda: {"": find()})


_SIGNALS: Final = (
    "django.core.signals",
    "django.db.models.signals",
    "django.db.backends.signals",
    "django.contrib.auth.signals",
    "django.test.signals",
)


class _Known:
    """The signals of Django itself, found again when one more of their modules is there."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}
        self._modules: tuple[Any, ...] = ()

    def __call__(self) -> dict[str, Any]:
        modules = tuple(map(sys.modules.get, _SIGNALS))
        if modules != self._modules:
            self._modules = modules
            self._found = {
                f"{name}.{attribute}": each
                for name, module in zip(_SIGNALS, modules, strict=True)
                for attribute, each in (vars(module) if module is not None else {}).items()
                if hasattr(each, "sender_receivers_cache")
            }
        return self._found


def _get_local(local: Any) -> Any:
    return getattr(local, "value", MISSING)


def _set_local(local: Any, wanted: Any) -> None:
    if wanted is not MISSING:
        local.value = wanted
    elif hasattr(local, "value"):
        del local.value


def _same_language(one: Any, other: Any) -> bool:
    """Return whether two languages are the same; none is that of the settings, to which `override` goes back."""
    usual = resolve("django.conf:settings").LANGUAGE_CODE
    return bool(_language_of(one, usual) == _language_of(other, usual))


def _language_of(translation: Any, usual: str) -> Any:
    return usual if translation is MISSING else getattr(translation, "_DjangoTranslation__language", translation)


def _all_signals(_: str, __: Callable[[], Any]) -> Part:
    return Signals("", _Known())


_LANGUAGE: Final = "django.utils.translation.trans_real:_active"

PROFILE = Profile(
    "django",
    [
        Unit("settings", [custom("django.conf:settings", Settings)]),
        Unit("signals", [custom("django.dispatch:", _all_signals)]),
        Unit("language", [value(_LANGUAGE, ".value", _get_local, _set_local, _same_language)]),
        Unit("timezone", [value("django.utils.timezone:_active", ".value", _get_local, _set_local)]),
        Unit(
            "urls",
            [
                value("django.urls.base:_urlconfs", ".value", _get_local, _set_local),
                value("django.urls.base:_prefixes", ".value", _get_local, _set_local),
            ],
        ),
        Unit(
            "templates",
            [
                content("django.template.defaultfilters:register.filters"),
                content("django.template.defaulttags:register.tags"),
            ],
        ),
    ],
    objects=[
        Unit("Signal", [custom("", _of_an_own_signal)]),
        Unit("AdminSite", [attributes("", "_registry", "_actions", "_global_actions")]),
        Unit("Library", [content(".filters"), content(".tags")]),
    ],
    # They are read through caches and proxies, and written when they are read.
    leaves=frozenset({"LazySettings", "UserSettingsHolder", "Settings", "LazyObject", "SimpleLazyObject", "Apps"}),
    versions=("4.2", "7"),
    distribution="Django",
    hint="Use override_settings() as a decorator or in a with block.",
)
