"""How the partitions of a group are shared out, as the clients' assignors of the same names do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle

from isolation_core.errors import ConfigurationError
from isolation_core.services.kafka._structs import TopicPartition

__all__ = ["assign", "assignor_name"]


def assignor_name(strategy: object) -> str:
    """Return the name of an assignor: ``"range"``, ``"roundrobin"``, or a class of the client that has one.

    Raises:
        ConfigurationError: for one the double does not have.
    """
    name = strategy if isinstance(strategy, str) else getattr(strategy, "name", None)
    if name not in {"range", "roundrobin"}:
        raise ConfigurationError(
            f"the Kafka double has the assignors 'range' and 'roundrobin', not {strategy!r}",
            name="partition_assignment_strategy",
            value=strategy,
        )
    return str(name)


def assign(
    name: str, members: Mapping[str, Iterable[str]], partitions: Mapping[str, int]
) -> dict[str, set[TopicPartition]]:
    """Share out.

    Args:
        name: the assignor.
        members: the topics each member wants.
        partitions: how many partitions each topic has.
    """
    wanted = {member: {topic for topic in topics if topic in partitions} for member, topics in sorted(members.items())}
    shares: dict[str, set[TopicPartition]] = {member: set() for member in wanted}
    topics = sorted(set().union(*wanted.values())) if wanted else []
    if name == "range":
        for topic in topics:
            interested = [member for member in wanted if topic in wanted[member]]
            each, extra = divmod(partitions[topic], len(interested))
            first = 0
            for index, member in enumerate(interested):
                size = each + (index < extra)
                shares[member].update(TopicPartition(topic, number) for number in range(first, first + size))
                first += size
        return shares
    turn = cycle(wanted)
    for topic in topics:
        for number in range(partitions[topic]):
            member = next(each for each in turn if topic in wanted[each])
            shares[member].add(TopicPartition(topic, number))
    return shares
