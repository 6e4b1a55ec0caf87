"""Profiles of structlog and loguru, against the libraries."""

from __future__ import annotations

import io

import pytest

from tests.contamination.libraries.conftest import Check


def test_structlog(check: Check) -> None:
    """The configuration, and the list of default processors that it shares."""
    structlog = pytest.importorskip("structlog")

    def drop(*_: object) -> None:
        raise structlog.DropEvent

    def logs() -> None:
        assert not structlog.is_configured()
        assert len(structlog.get_config()["processors"]) > 2

    def uses() -> None:
        structlog.get_logger("n").bind(a=1)

    check(lambda: structlog.configure(processors=[drop]), logs, uses, uses, named=r"structlog\._config\._CONFIG")
    check(structlog.get_config()["processors"].clear, logs, uses, named="default_processors")


def test_loguru(check: Check) -> None:
    """Handlers that a test removes take messages again, those it adds are stopped."""
    loguru = pytest.importorskip("loguru")
    logger = loguru.logger
    sink = io.StringIO()
    number = logger.add(sink, format="{level.name} {extra} {message}")
    others = [each for each in logger._core.handlers if each != number]

    def logs() -> None:
        start = len(sink.getvalue())
        logger.warning("hi")
        assert sink.getvalue()[start:] == "WARNING {} hi\n"
        assert set(logger._core.handlers) == {number, *others}

    def uses() -> None:
        logger.remove(logger.add(io.StringIO()))

    def pollute() -> None:
        logger.remove()
        logger.disable("")
        logger.configure(extra={"u": 1})
        logger.level(f"Z{id(object())}", no=33)
        logger.add(io.StringIO())

    try:
        check(pollute, logs, uses, logs, named=r"loguru\.logger\._core\.handlers")
    finally:
        logger.remove(number)
