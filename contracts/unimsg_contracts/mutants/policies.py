"""Mutants of the core's policies: retry, waiting, dead letters, redrive, expiry."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from unimsg import (
    MemoryStore,
    RetryAfter,
    _avro_walk,
    _bodies,
    _copies,
    _failing,
    _graveyard,
    _redriving,
    _replay,
    _routes,
    _xml,
    context,
)
from unimsg._batches import BatchConsumer
from unimsg._bodies import Bodies
from unimsg._copies import Copies, Copy
from unimsg._delays import Delays
from unimsg._graveyard import Graveyard
from unimsg._handling import Attempt
from unimsg._held import Held
from unimsg._publisher import Publisher
from unimsg._redriving import Dropping, Redriving
from unimsg._routes import Route
from unimsg._settlements import Settlements
from unimsg._targets import publisher_to
from unimsg._tries import Tries
from unimsg.adapter import Address, Delivery, Kind, Receiver, Wire
from unimsg.dead_letters import ATTEMPT
from unimsg.errors import UnimsgError
from unimsg.retry import Again, Dead, Reject, Retry, decide
from unimsg_contracts.killer import Killer
from unimsg_contracts.mutants.broken import BrokenReceiver
from unimsg_contracts.mutants.planted import instead as _instead
from unimsg_contracts.stage import Stage

Lane = Any  # of the core's works


_again, _dead, _send = Copies.again, Copies.dead, Copy.send


def _all_headers(_names: Sequence[str], wire: Wire, *_others: Wire) -> Mapping[str, str]:
    return {name: value for name, value in wire.headers.items() if name in ("tenant", "step", "private")}


def _same_attempt(copies: Copies, wire: Wire, delay: float, attempt: int, first_failed: str) -> Copy:
    return _again(copies, wire, delay, 1, first_failed)


def _whole_topic(copies: Copies, wire: Wire, delay: float, attempt: int, first_failed: str) -> Copy:
    copies._address = replace(copies._address, subscription=None)
    return _again(copies, wire, delay, attempt, first_failed)


async def _never_sent(copy: Copy) -> UnimsgError | None:
    return None


async def _never_done(copy: Copy) -> UnimsgError | None:
    await asyncio.sleep(3600)
    return None


async def _refusal_swallowed(copy: Copy) -> UnimsgError | None:
    await _send(copy)
    return None


async def _not_now(settlements: Settlements) -> None: ...


def _cancellation_fails(tries: Tries, lane: Lane) -> None:
    tries._failed(lane, RuntimeError("cancelled"))


def _without_key(held: Held, delivery: Delivery, receiver: Receiver) -> None:
    held.lanes.put(delivery, (delivery, receiver))


def _rejected_again(policy: Retry, error: BaseException, attempt: int) -> Again | Dead:
    return decide(policy, RetryAfter(0) if isinstance(error, Reject | LookupError) else error, attempt)


def _nothing_recorded(**record: str) -> Mapping[str, str]:
    return {}


def _one_for_all(address: Address) -> Address:
    return Address(f"{address.channel}..dead", Kind.QUEUE)


def _everything(graveyard: Graveyard, where: object, limit: int | None, rate: float | None) -> Any:
    return _redrive(graveyard, lambda _: True, limit, rate)


def _all_dropped(graveyard: Graveyard, where: object, limit: int | None) -> Any:
    return _drop(graveyard, lambda _: True, limit)


async def _none_dropped(dropping: Dropping, receiver: Receiver, target: object, deliveries: Sequence[Delivery]) -> int:
    return len(deliveries)


def _record_kept(wire: Wire) -> Wire:
    return Wire(wire.id, wire.body, {**wire.headers, ATTEMPT: "7"}, wire.key)


async def _removed_first(
    redriving: Redriving, receiver: Receiver, target: Publisher, deliveries: Sequence[Delivery]
) -> int:
    await receiver.ack(deliveries)
    await asyncio.sleep(0.2)
    return await _put_back(redriving, receiver, target, deliveries)


_redrive, _drop, _put_back = Graveyard.redrive, Graveyard.drop, Redriving._put_back


async def _held_for_good(others: Any, deliveries: Sequence[Delivery]) -> None:
    others.passed += len(deliveries)


async def _thrown_away(others: Any, deliveries: Sequence[Delivery]) -> None:
    await others._receiver.ack(deliveries)


def _to_all(route: Route, source: Address) -> Publisher:
    return publisher_to(route, replace(source, subscription=None))


propagates_nothing = _instead(context, "propagated", lambda *_: {}, "propagates nothing")
propagates_all = _instead(context, "propagated", _all_headers, "propagates all")
counts_no_attempts = _instead(Copies, "again", _same_attempt, "counts no attempts")
retries_the_whole_topic = _instead(Copies, "again", _whole_topic, "retries the whole topic")
waits_with_its_slot = _instead(Copy, "send", _never_done, "waits with its slot")
acknowledges_without_a_copy = _instead(Copy, "send", _never_sent, "acknowledges without a copy")
swallows_refused_copies = _instead(Copy, "send", _refusal_swallowed, "swallows refused copies")
settles_at_the_end = _instead(Settlements, "drain", _not_now, "settles at the end")
hammers = _instead(Copy, "next_wait", lambda _: 0.0, "hammers")
holds_without_a_word = _instead(_failing.Failing, "stays", lambda *_: None, "holds without a word")
never_tries_again = _instead(Copy, "next_wait", lambda _: 3600.0, "never tries again")
counts_cancellation = _instead(Tries, "_give_back", _cancellation_fails, "counts cancellation")
forgets_keys = _instead(Held, "put", _without_key, "forgets keys")
retries_what_is_final = _instead(_failing, "decide", _rejected_again, "retries what is final")
records_nothing = _instead(_failing, "record", _nothing_recorded, "records nothing")
drops_everything = _instead(Graveyard, "drop", _all_dropped, "drops everything")
drops_nothing = _instead(Dropping, "_put_back", _none_dropped, "drops nothing")
redrives_everything = _instead(Graveyard, "redrive", _everything, "redrives everything")
redrives_as_the_seventh_attempt = _instead(
    _redriving, "without_record", _record_kept, "redrives as the seventh attempt"
)
holds_what_is_not_wanted = _instead(_redriving._Others, "add", _held_for_good, "holds what is not wanted")
removes_what_is_not_wanted = _instead(_redriving._Others, "add", _thrown_away, "removes what is not wanted")
removes_before_it_puts_back = _instead(Redriving, "_put_back", _removed_first, "removes before it puts back")
redrives_to_all_subscriptions = _instead(_redriving, "publisher_to", _to_all, "redrives to all subscriptions")
delays_whatever_is_asked = _instead(Delays, "check", lambda *_: None, "delays whatever is asked")
replays_to_all_subscriptions = _instead(_replay, "publisher_to", _to_all, "replays to all subscriptions")
replays_as_any_message = _instead(_replay, "_marked", lambda wire: wire, "replays as any message")
promises_any_history = _instead(_routes, "_check_history", lambda *_: None, "promises any history")
handles_the_expired = _instead(Attempt, "is_too_late", lambda *_: False, "handles the expired")


_begin, _decode = MemoryStore.begin, Bodies.decode


def _marked_whatever_happens(store: MemoryStore, message_id: str, handler: str) -> Any:
    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        async with _begin(store, message_id, handler) as handling:
            known = handling.is_duplicate
            await handling.complete(None)
            yield SimpleNamespace(is_duplicate=known, session=None, reply=None, complete=handling.complete)

    return begin()


def _never_a_duplicate(store: MemoryStore, message_id: str, handler: str) -> Any:
    return _begin(store, f"{message_id}-{next(_numbers)}", handler)


def _one_mark(store: MemoryStore, message_id: str, handler: str) -> Any:
    return _begin(store, message_id, "all")


def _no_upgrades(bodies: Any, type: str | None, content_type: str | None, data: bytes) -> Any:
    bodies._old = {}
    return _decode(bodies, type, content_type, data)


def _any_type(bodies: Any, type: str | None, content_type: str | None, data: bytes) -> Any:
    bodies._any_type = True
    return _decode(bodies, type, content_type, data)


def _apart(consumer: Any, lanes: Sequence[Lane], deliveries: Sequence[Delivery], *, stopped: bool) -> None:
    for lane in lanes:
        for _ in range(lane.running):
            consumer._held.settle(lane, "ack")


_killer = Killer.__init__


def _without_channels(killer: Killer, settings: Mapping[str, object], queue: str, *, ordered: bool = False) -> None:
    _killer(killer, {**settings, "channels": {}}, queue, ordered=ordered)


_numbers = itertools.count()
marks_before_it_handles = _instead(MemoryStore, "begin", _marked_whatever_happens, "marks before it handles")
never_marks = _instead(MemoryStore, "begin", _never_a_duplicate, "never marks")
marks_for_all_handlers = _instead(MemoryStore, "begin", _one_mark, "marks for all handlers")
forgets_upgrades = _instead(Bodies, "decode", _no_upgrades, "forgets upgrades")
takes_any_type = _instead(Bodies, "decode", _any_type, "takes any type")
reads_dtds = _instead(_xml, "_PROLOG", re.compile(b""), "reads DTDs")
reads_avro_of_any_depth = _instead(_avro_walk.Walk, "whole", lambda *_: None, "reads Avro of any depth")
reads_with_the_first_codec = _instead(_bodies, "_choose", lambda codecs, _: codecs[0], "reads with the first codec")


buries_the_whole_batch = _instead(BatchConsumer, "_apart", _apart, "buries the whole batch")


@contextmanager
def no_backstop() -> Iterator[None]:
    """The limit never reaches the broker."""
    given = Stage.bus

    def bus(stage: Stage, *services: Any, channels: object = None, **how: Any) -> Any:
        return given(stage, *services, **how)

    with patch.object(Stage, "bus", bus), patch.object(Killer, "__init__", _without_channels):
        yield


@contextmanager
def one_dead_letter_queue_for_all() -> Iterator[None]:
    """All subscriptions of a topic share one."""
    with patch.object(_copies, "dead_address", _one_for_all), patch.object(_graveyard, "dead_address", _one_for_all):
        yield


class CountsRedeliveries(BrokenReceiver):
    """Takes the broker's count for the attempt number."""

    async def receive(self) -> Sequence[Delivery]:
        deliveries = await super().receive()
        for delivery in deliveries:
            wire, count = delivery.wire, delivery.redelivered or 0
            if count:
                delivery.wire = replace(wire, headers={**wire.headers, ATTEMPT: str(count + 1)})
        return deliveries
