"""Service doubles: behaviour and mock API in one object, a log, virtual time, faults on purpose."""

from __future__ import annotations

from isolation_core._backends import BackendChoice, choose_backend
from isolation_core.services._clients import client_class
from isolation_core.services._clock import Clock, TimerHandle, VirtualClock
from isolation_core.services._context import MockContext, current_context
from isolation_core.services._debugging import debug_cross_service_interactions
from isolation_core.services._double import ClientObject, ServiceDouble
from isolation_core.services._fault_actions import (
    FaultAction,
    answer,
    cancel,
    delay,
    disconnect,
    duplicate,
    fail,
    hang,
    lose_reply,
)
from isolation_core.services._fault_matrix import FaultCase, FaultMatrix, fault_matrix
from isolation_core.services._faults import FaultPlan, FaultRule
from isolation_core.services._install import Installation
from isolation_core.services._interactions import Interaction, InteractionLog
from isolation_core.services._operations import Operable, Operation, OperationMock, operation
from isolation_core.services._orchestration import (
    Orchestration,
    ServiceMocks,
    complex_service_interaction_mock,
    cross_service_mock_orchestration,
)
from isolation_core.services._registry import (
    ServiceSpec,
    known_services,
    register_service,
    service_spec,
    unregister_service,
)
from isolation_core.services._resources import Folder, Resource, namespace_name, register_resource, unregister_resource
from isolation_core.services._rules import (
    ServiceRule,
    commit_before_publish,
    no_publish_on_rollback,
    one_reply_per_request,
)
from isolation_core.services._selectors import Selector, select
from isolation_core.services._types import ServiceType

__all__ = [
    "BackendChoice",
    "ClientObject",
    "Clock",
    "FaultAction",
    "FaultCase",
    "FaultMatrix",
    "FaultPlan",
    "FaultRule",
    "Folder",
    "Installation",
    "Interaction",
    "InteractionLog",
    "MockContext",
    "Operable",
    "Operation",
    "OperationMock",
    "Orchestration",
    "Resource",
    "Selector",
    "ServiceDouble",
    "ServiceMocks",
    "ServiceRule",
    "ServiceSpec",
    "ServiceType",
    "TimerHandle",
    "VirtualClock",
    "answer",
    "cancel",
    "choose_backend",
    "client_class",
    "commit_before_publish",
    "complex_service_interaction_mock",
    "cross_service_mock_orchestration",
    "current_context",
    "debug_cross_service_interactions",
    "delay",
    "disconnect",
    "duplicate",
    "fail",
    "fault_matrix",
    "hang",
    "known_services",
    "lose_reply",
    "namespace_name",
    "no_publish_on_rollback",
    "one_reply_per_request",
    "operation",
    "register_resource",
    "register_service",
    "select",
    "service_spec",
    "unregister_resource",
    "unregister_service",
]
