"""One message at a time, where the last owners of partitions may have died of one: see `deaths`."""

from collections.abc import Mapping

from aiokafka import (  # type: ignore[import-untyped]  # aiokafka has no py.typed
    AIOKafkaConsumer,
    TopicPartition,
)

from unimsg_kafka.assignment import Assignment
from unimsg_kafka.deaths import Deaths, deaths_in, found
from unimsg_kafka.positions import Position
from unimsg_kafka.topics import Topic, Topics


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


def clear_what_is_empty(consumer: AIOKafkaConsumer, assignment: Assignment | None) -> None:
    """To be called when nothing came for a while: the last offsets of a doubtful partition may be no messages, as the
    marks of transactions are none."""
    if assignment is None or assignment.open or assignment.epoch.draining:
        return
    for place in assignment.doubtful:
        if place in consumer.assignment() and consumer.highwater(place) is not None:  # the broker has answered
            assignment.clear(place)
