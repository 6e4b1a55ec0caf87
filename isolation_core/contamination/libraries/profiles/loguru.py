"""loguru: the handlers and options of its one core."""

from __future__ import annotations

from typing import Any

from isolation_core.contamination.libraries._profile import Changes, Profile, Unit, attributes, resolve


def _revive(_: Any, changes: Changes) -> None:
    """Stop the handlers that were added; have those that were removed take messages again."""
    core = resolve("loguru:logger._core")
    if any(key[0] in ("activation_list", "activation_none") for _, key in changes):
        # Worked out from both, once for each name that logs.
        core.enabled = {}
    for (_, key), (before, after) in changes.items():
        if key[0] != "handlers" or len(key) != 2:
            continue
        if type(after).__name__ == "Handler" and not after._stopped:
            after.stop()
        if type(before).__name__ == "Handler" and before._stopped:
            if before._enqueue:
                raise RuntimeError("the thread of a handler with enqueue=True has ended")
            before._stopped = False


PROFILE = Profile(
    "loguru",
    [
        Unit(
            "core",
            # Ids of handlers that are given twice let a late clean-up remove the handler of another test.
            [
                attributes(
                    "loguru:logger._core", skip=("lock", "thread_locals", "handlers_count", "enabled"), copies=True
                )
            ],
            then=_revive,
        ),
    ],
    versions=("0.6", "0.8"),
    hint="Give logger.add() in a fixture, and logger.remove() its number after yield.",
)
