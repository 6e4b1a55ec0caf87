"""Service doubles: behaviour and mock API in one object, a log, virtual time, faults on purpose."""

from __future__ import annotations

from isolation_core.services._clients import client_class
from isolation_core.services._clock import TimerHandle, VirtualClock
from isolation_core.services._context import MockContext, current_context
from isolation_core.services._double import ClientObject, ServiceDouble
from isolation_core.services._faults import FaultPlan
from isolation_core.services._interactions import Interaction, InteractionLog
from isolation_core.services._operations import Operable, Operation, OperationMock, operation
from isolation_core.services._registry import (
    ServiceSpec,
    known_services,
    register_service,
    service_spec,
    unregister_service,
)
from isolation_core.services._types import ServiceType

__all__ = [
    "ClientObject",
    "FaultPlan",
    "Interaction",
    "InteractionLog",
    "MockContext",
    "Operable",
    "Operation",
    "OperationMock",
    "ServiceDouble",
    "ServiceSpec",
    "ServiceType",
    "TimerHandle",
    "VirtualClock",
    "client_class",
    "current_context",
    "known_services",
    "operation",
    "register_service",
    "service_spec",
    "unregister_service",
]
