"""One message at a time, where the last owners of partitions may have died of one: see `deaths`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
)

from unimsg_kafka.assignment import Assignment
from unimsg_kafka.deaths import ALONE_FROM, Deaths, deaths_in, found
from unimsg_kafka.positions import Position
from unimsg_kafka.topics import Topic, Topics

_ALONE_FOR = 30.0


async def look(
    topics: Topics, topic: Topic, known: Mapping[TopicPartition, Position], window: int
) -> dict[TopicPartition, Deaths]:
    """Of what the last owners may have died. `window`: so many messages each of them had at most."""
    if not any(deaths_in(at.metadata) for at in known.values()):
        return {}
    ends = await topics.ends(topic)
    return {place: found(at.offset, at.metadata, window=window, end=ends[place]) for place, at in known.items()}


def is_careful(consumer: AIOKafkaConsumer | None, assignment: Assignment | None) -> bool:
    """Whether messages are handed out one at a time, for now. Those of doubtful partitions come before all others."""
    if consumer is None or assignment is None or not assignment.doubtful or assignment.epoch.draining:
        return False
    if cleared := assignment.cleared():
        assigned = consumer.assignment()
        if assignment.doubtful:  # the others come first, or they would have to wait for all that it has
            consumer.pause(*(place for place in cleared if place in assigned))
        else:
            consumer.resume(*(place for place in assignment.places if place in assigned))
    return bool(assignment.doubtful)


def first_alone(
    consumer: AIOKafkaConsumer, place: TopicPartition, batch: Sequence[ConsumerRecord], held: int
) -> Sequence[ConsumerRecord]:
    """The first record if nothing is held; the client reads the others once more."""
    fitting = batch[: max(0, 1 - held)]
    if len(fitting) < len(batch):
        consumer.seek(place, batch[len(fitting)].offset)
    return fitting


def lose_patience(assignment: Assignment) -> bool:
    """To be called now and then on an ordered channel, where a failed message waits in its place for its next try: all
    others would wait with it. Its own deaths are forgotten, for it will not be alone. Whether it was for too long."""
    if not (assignment.doubtful and assignment.open and monotonic() - assignment.taken > _ALONE_FOR):
        return False
    for partition in assignment.doubtful.values():
        partition.deaths = replace(partition.deaths, count=ALONE_FROM - 1)
    return True


def clear_what_is_empty(consumer: AIOKafkaConsumer, assignment: Assignment | None) -> None:
    """To be called when nothing came for a while: the last offsets of a doubtful partition may be no messages, as the
    marks of transactions are none."""
    if assignment is None or assignment.open or assignment.epoch.draining:
        return
    for place in assignment.doubtful:
        if place in consumer.assignment() and consumer.highwater(place) is not None:  # the broker has answered
            assignment.clear(place)
