"""The group coordinator: members, generations, assignments, committed offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolation_core.services.kafka._assignors import assign
from isolation_core.services.kafka._errors import kafka_error
from isolation_core.services.kafka._structs import OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    from isolation_core.services.kafka._cluster import Cluster
    from isolation_core.services.kafka._consumer import KafkaConsumer

__all__ = ["Group"]


class Group:
    """One consumer group.

    A rebalance is carried out by the first call that detects that one is due: in the
    client a background task does it, here no task outlives a call.

    Attributes:
        name: its id.
        generation: counts the rebalances.
        members: by member id.
        offsets: what was committed.
    """

    def __init__(self, name: str, cluster: Cluster) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, KafkaConsumer] = {}
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self._cluster = cluster
        self._joined = 0
        self._due = False
        self._running = False

    def join(self, consumer: KafkaConsumer) -> str:
        """Take *consumer* in; it gets its share in the rebalance that is due now."""
        self._joined += 1
        member = f"{self.name}-{self._joined:04}"
        self.members[member] = consumer
        self.topics_changed()
        return member

    def leave(self, member: str | None) -> None:
        """Let *member* go; unknown ones are ignored."""
        if member is not None and self.members.pop(member, None) is not None:
            self.topics_changed()

    def topics_changed(self) -> None:
        """Topics or subscriptions are others now: a rebalance is due."""
        self._due = True
        self._cluster.clock.notify()

    @property
    def unsettled(self) -> bool:
        """Whether a rebalance is due or going on."""
        return self._due or self._running

    def catch_up(self) -> None:
        """Do what was due by now: automatic commits, and the end of those that have not polled for too long."""
        now = self._cluster.clock.now()
        for member, consumer in tuple(self.members.items()):
            consumer._commit_if_due(now)
            if consumer._overdue(now):
                self.leave(member)

    async def settle(self) -> None:
        """Return when no rebalance is due: carries it out, or waits for the call that does."""
        self.catch_up()
        while self.unsettled:
            if self._running:
                await self._cluster.clock.wait(lambda: None if self._running else True)
                continue
            self._running, self._due = True, False
            try:
                await self._rebalance()
            except BaseException:
                # Cancelled half-way: the next one does all of it again.
                self._due = True
                raise
            finally:
                self._running = False
                self._cluster.clock.notify()

    async def _rebalance(self) -> None:
        for consumer in tuple(self.members.values()):
            await consumer._revoke()
        wanted = {member: consumer._wanted_topics() for member, consumer in self.members.items()}
        counts = {topic: len(logs) for topic, logs in self._cluster.topics.items()}
        first = next(iter(self.members.values()), None)
        self.generation += 1
        if first is None:
            return
        shares = assign(first._assignor, wanted, counts)
        for member, consumer in tuple(self.members.items()):
            await consumer._receive(shares[member], self.generation)

    def commit(self, member: str | None, generation: int, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        """Commit for *member*, or without a member if the group has none.

        Raises:
            CommitFailedError: the client's, if the member is not of this generation any more.
        """
        if member is None and not self.members:
            self.offsets.update(offsets)
            return
        if member not in self.members or (generation != self.generation):
            raise kafka_error(
                "CommitFailedError",
                f"Commit cannot be completed since the group {self.name!r} has already rebalanced "
                "and assigned the partitions to another member",
            )
        self.offsets.update(offsets)
