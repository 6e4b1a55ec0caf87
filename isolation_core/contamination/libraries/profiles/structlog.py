"""structlog: its configuration, with the default list of processors that it shares."""

from __future__ import annotations

from isolation_core.contamination.libraries._profile import Profile, Unit, attributes, content

PROFILE = Profile(
    "structlog",
    [
        Unit(
            "configuration",
            [
                # Attributes of the class are the defaults: what `configure` sets shadows them.
                attributes("structlog._config:_CONFIG"),
                content("structlog._config:_CONFIG.default_processors"),
            ],
        ),
    ],
    versions=("20", "27"),
    hint="Use structlog.testing.capture_logs(), or structlog.configure() in a fixture that takes it back.",
)
