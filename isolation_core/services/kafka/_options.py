"""Options of the clients' constructors that have no effect here."""

from __future__ import annotations

import re
import sys
from typing import Any, Final

from isolation_core.services._options import Options

__all__ = [
    "CONSUMER_OPTIONS",
    "PRODUCER_OPTIONS",
    "check_delivery",
    "check_limit",
    "check_subscription",
]

_COMMON: Final = (
    "loop bootstrap_servers client_id metadata_max_age_ms request_timeout_ms api_version retry_backoff_ms "
    "security_protocol ssl_context connections_max_idle_ms sasl_mechanism sasl_plain_password sasl_plain_username "
    "sasl_kerberos_service_name sasl_kerberos_domain_name sasl_oauth_token_provider "
)
PRODUCER_OPTIONS: Final = Options(
    "AIOKafkaProducer.__init__",
    modelled="key_serializer value_serializer acks compression_type enable_idempotence partitioner max_request_size "
    "transactional_id transaction_timeout_ms",
    harmless=_COMMON + "max_batch_size linger_ms",
)
CONSUMER_OPTIONS: Final = Options(
    "AIOKafkaConsumer.__init__",
    modelled="group_id key_deserializer value_deserializer auto_offset_reset enable_auto_commit "
    "auto_commit_interval_ms partition_assignment_strategy max_poll_interval_ms max_poll_records isolation_level",
    harmless=_COMMON
    + "fetch_max_wait_ms fetch_max_bytes fetch_min_bytes max_partition_fetch_bytes check_crcs rebalance_timeout_ms "
    "session_timeout_ms heartbeat_interval_ms consumer_timeout_ms exclude_internal_topics client_rack",
    refused={"group_instance_id": None},
)


def check_delivery(acks: int | str | None, compression: str | None, *, exactly_once: bool) -> None:
    """Raise ValueError, as the client does, for what a producer cannot be asked for."""
    if acks not in {None, 0, 1, -1, "all"}:
        raise ValueError("Invalid ACKS parameter")
    if compression not in {None, "gzip", "snappy", "lz4", "zstd"}:
        raise ValueError("Invalid compression type!")
    if exactly_once and acks not in {None, -1, "all"}:
        raise ValueError(f"acks={acks} not supported if enable_idempotence=True")


def check_limit(name: str, limit: Any, *, verb: str) -> None:
    """Raise ValueError, as the client does, for a limit of messages below one."""
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError(f"`{name}` {verb} positive Integer")


def check_subscription(topics: Any, pattern: Any, listener: Any) -> re.Pattern[str] | None:
    """Return the compiled pattern of a subscription.

    Raises:
        TypeError: as in the client, for none or both of topics and pattern, and for an invalid listener.
        ValueError: as in the client, for an invalid pattern.
    """
    if not (topics or pattern):
        raise TypeError("You should provide either `topics` or `pattern`")
    if topics and pattern:
        raise TypeError("You can't provide both `topics` and `pattern`")
    # If the client was not imported, no class can derive from its class.
    client = sys.modules.get("aiokafka.abc")
    if client is not None and listener is not None and not isinstance(listener, client.ConsumerRebalanceListener):
        raise TypeError("listener should be an instance of ConsumerRebalanceListener")
    if topics and not isinstance(topics, tuple | set | list):
        raise TypeError("Topics should be list of strings")
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a valid pattern: {error}") from error
