"""The services that have a double of their own."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ServiceType"]


class ServiceType(StrEnum):
    """A service with a built-in double; a member equals its string, and either can be used as a key."""

    KAFKA = "kafka"
    POSTGRES = "postgres"
    REDIS = "redis"
    RABBITMQ = "rabbitmq"
    NATS = "nats"
    HTTP = "http"
    WORKFLOW_COORDINATOR = "workflow_coordinator"
