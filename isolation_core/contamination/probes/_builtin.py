"""The list of built-in probes: a new kind is a file, a class and a line here."""

from __future__ import annotations

from isolation_core.contamination.probes._asyncio import EventLoopProbe
from isolation_core.contamination.probes._builtins import BuiltinsProbe
from isolation_core.contamination.probes._codecs import CodecsProbe
from isolation_core.contamination.probes._contextvars import ContextVarsProbe
from isolation_core.contamination.probes._environ import EnvironProbe
from isolation_core.contamination.probes._exit import AtExitProbe, FinalizersProbe
from isolation_core.contamination.probes._hooks import HooksProbe, MonitoringProbe, ThreadHooksProbe, TraceProbe
from isolation_core.contamination.probes._locale import LocaleProbe, TimeZoneProbe
from isolation_core.contamination.probes._logging import LoggingProbe
from isolation_core.contamination.probes._mimetypes import MimeTypesProbe
from isolation_core.contamination.probes._modules import ModulesProbe
from isolation_core.contamination.probes._numbers import DecimalProbe, DecimalTemplatesProbe, RandomProbe
from isolation_core.contamination.probes._patches import PatchesProbe
from isolation_core.contamination.probes._paths import ImporterCacheProbe, PathsProbe
from isolation_core.contamination.probes._probe import Probe
from isolation_core.contamination.probes._process import CwdProbe, UmaskProbe
from isolation_core.contamination.probes._registries import RegistriesProbe
from isolation_core.contamination.probes._signals import SignalMaskProbe, SignalsProbe, TimersProbe
from isolation_core.contamination.probes._streams import StreamSettingsProbe, StreamsProbe
from isolation_core.contamination.probes._switches import CollectorProbe, FlagsProbe, SwitchesProbe
from isolation_core.contamination.probes._warnings import WarningsProbe

__all__ = ["builtin_probes"]

_PROBES: tuple[type[Probe], ...] = (
    PatchesProbe,
    EnvironProbe,
    CwdProbe,
    UmaskProbe,
    FlagsProbe,
    StreamsProbe,
    StreamSettingsProbe,
    HooksProbe,
    ThreadHooksProbe,
    TraceProbe,
    MonitoringProbe,
    PathsProbe,
    ImporterCacheProbe,
    ModulesProbe,
    BuiltinsProbe,
    SwitchesProbe,
    CollectorProbe,
    WarningsProbe,
    LoggingProbe,
    LocaleProbe,
    TimeZoneProbe,
    DecimalProbe,
    DecimalTemplatesProbe,
    RandomProbe,
    SignalsProbe,
    TimersProbe,
    SignalMaskProbe,
    ContextVarsProbe,
    EventLoopProbe,
    CodecsProbe,
    RegistriesProbe,
    MimeTypesProbe,
    AtExitProbe,
    FinalizersProbe,
)


def builtin_probes() -> tuple[Probe, ...]:
    """Return new instances of every built-in probe."""
    return tuple(kind() for kind in _PROBES)
