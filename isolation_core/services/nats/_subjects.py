"""Subjects: which are valid, and which patterns they fit."""

from __future__ import annotations

from isolation_core.services.nats._errors import nats_error

__all__ = ["check_publish", "check_subscribe", "fits", "overlap"]


def check_publish(subject: str) -> None:
    """Raise ``BadSubjectError`` for what the client does not send."""
    if not subject or any(each.isspace() for each in subject):
        raise nats_error("BadSubjectError")


def check_subscribe(subject: str, queue: str = "") -> None:
    """Raise ``BadSubjectError`` for what cannot be subscribed to."""
    check_publish(subject)
    tokens = subject.split(".")
    if "" in tokens or ">" in tokens[:-1] or any(each.isspace() for each in queue):
        raise nats_error("BadSubjectError")


def fits(pattern: str, subject: str) -> bool:
    """Return whether *subject* matches *pattern*."""
    if pattern == subject:
        return True
    if "*" not in pattern and ">" not in pattern:
        return False
    wanted, tokens = pattern.split("."), subject.split(".")
    for index, each in enumerate(wanted):
        if each == ">" and index == len(wanted) - 1:
            return len(tokens) > index
        if index >= len(tokens) or each not in {"*", tokens[index]}:
            return False
    return len(wanted) == len(tokens)


def overlap(one: str, other: str) -> bool:
    """Return whether some subject matches both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in {a, b}:
            return True
        if a != b and "*" not in {a, b}:
            return False
    return len(left) == len(right)
