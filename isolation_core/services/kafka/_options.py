"""What the clients' constructors take beside what has an effect here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = ["CONSUMER_OPTIONS", "PRODUCER_OPTIONS", "check_options"]

_COMMON: Final = frozenset(
    {
        "loop",
        "bootstrap_servers",
        "client_id",
        "metadata_max_age_ms",
        "request_timeout_ms",
        "api_version",
        "retry_backoff_ms",
        "security_protocol",
        "ssl_context",
        "connections_max_idle_ms",
        "sasl_mechanism",
        "sasl_plain_password",
        "sasl_plain_username",
        "sasl_kerberos_service_name",
        "sasl_kerberos_domain_name",
        "sasl_oauth_token_provider",
    }
)
PRODUCER_OPTIONS: Final = _COMMON | {"acks", "compression_type", "max_batch_size", "linger_ms", "enable_idempotence"}
CONSUMER_OPTIONS: Final = _COMMON | {
    "group_instance_id",
    "fetch_max_wait_ms",
    "fetch_max_bytes",
    "fetch_min_bytes",
    "max_partition_fetch_bytes",
    "check_crcs",
    "rebalance_timeout_ms",
    "session_timeout_ms",
    "heartbeat_interval_ms",
    "consumer_timeout_ms",
    "exclude_internal_topics",
    "client_rack",
}


def check_options(client: str, given: Iterable[str], known: frozenset[str]) -> None:
    """Raise TypeError, as the client does, for an option that it does not have."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{client}.__init__() got an unexpected keyword argument {name!r}{hint}")
