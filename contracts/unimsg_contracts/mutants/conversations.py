"""Mutants of requests, surveys and reply queues."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from unimsg import _answers, store
from unimsg._answers import Answers, FailureTold
from unimsg._bodies import ReplyBodies
from unimsg._copies import Copy
from unimsg._failing import Failing
from unimsg._inbox import Inbox
from unimsg._requests import Requests, _Question
from unimsg._return import address_of
from unimsg._routes import Route
from unimsg._survey import Survey
from unimsg._workers import Workers
from unimsg.adapter import Address, Kind, Receiver, Wire
from unimsg.channel import ReplyQueue
from unimsg.context import Context
from unimsg.dead_letters import text_of
from unimsg.errors import PublishError, RemoteError, UnimsgError
from unimsg.store import Said
from unimsg_contracts.mutants.broken import Broken
from unimsg_contracts.mutants.planted import instead

# ---- who asks

_request, _forget = Requests.request, Inbox.forget


def _to_the_first(inbox: Inbox, reply: Wire) -> None:
    for asked in list(inbox._asked.values()):
        if asked.take(reply):
            break


def _no_deadline(requests: Requests, route: Route, make: Any, timeout: float) -> Any:
    return _request(requests, route, make, timeout + 3600)


def _forgotten(inbox: Inbox, id: str, *, answered: bool) -> None:
    inbox._asked.pop(id, None)


def _first_kind(bodies: ReplyBodies, type: str | None, content_type: str | None, data: bytes) -> Any:
    return bodies._decoded(bodies.kinds[0].codecs, content_type, data)


async def _without_context(context: Context[Any], channel: Any, body: object, **how: Any) -> object:
    return await context.bus.request(channel, body, **how)


gives_replies_in_turn = instead(Inbox, "_take", _to_the_first, "gives replies in turn")
waits_beyond_the_deadline = instead(Requests, "request", _no_deadline, "waits beyond the deadline")
waits_for_what_was_not_sent = instead(_Question, "set_result", lambda *_: None, "waits for what was not sent")
leaves_requests_waiting = instead(_Question, "close", lambda _: None, "leaves requests waiting")
forgets_who_asked = instead(Inbox, "forget", _forgotten, "forgets who asked")
reads_the_first_type = instead(ReplyBodies, "decode", _first_kind, "reads the first type")
takes_any_reply = instead(ReplyBodies, "decode", lambda *said: said[-1].decode(), "takes any reply")
asks_out_of_context = instead(Context, "request", _without_context, "asks out of context")


# ---- who answers

_finish, _send_held, _init = Workers.finish, Context._send_held, ReplyQueue.__init__


def _at_once(workers: Workers, grace: float) -> Any:
    return _finish(workers, 0.0)


async def _whatever_happens(context: Context[Any]) -> None:
    with suppress(PublishError):
        await _send_held(context)


def _with_its_text(answers: Answers, error: BaseException, reason: str) -> RemoteError:
    return RemoteError("internal", text_of(error))


def _anything(answers: Answers, wire: Wire, result: object) -> Said:
    return Said("reply", "text/plain", str(result).encode())


def _anywhere(return_address: str, prefix: str) -> Address:
    return address_of(return_address, prefix) or Address(return_address, Kind.QUEUE)


def _unprefixed(return_address: str, prefix: str) -> Address | None:
    return address_of(return_address, "")


def _answerable(queue: ReplyQueue[Any], name: str, reply: Any, **how: Any) -> None:
    _init(queue, name, reply, **how)
    queue.replies = ReplyBodies(name, None, type="reply")


async def _until_it_is_told(told: FailureTold) -> UnimsgError | None:
    return await Copy.send(told)


async def _not_made(route: Route, message_id: str, timeout: float) -> None: ...


stops_without_grace = instead(Workers, "finish", _at_once, "stops without grace")
replies_whatever_happens = instead(Context, "_send_held", _whatever_happens, "replies whatever happens")
tells_every_text = instead(Answers, "_told", _with_its_text, "tells every text")
tells_nobody = instead(Answers, "failure", lambda *_: None, "tells nobody")
says_anything = instead(Answers, "reply", _anything, "says anything")
buries_requests = instead(FailureTold, "is_request", False, "buries requests")
buries_nothing = instead(FailureTold, "is_request", True, "buries nothing")
holds_what_cannot_be_told = instead(FailureTold, "send", _until_it_is_told, "holds what cannot be told")
retries_beyond_the_deadline = instead(Failing, "_is_awaited_no_longer", lambda *_: False, "retries beyond the deadline")
retries_no_request = instead(Failing, "_is_awaited_no_longer", lambda *_: True, "retries no request")
answers_any_address = instead(_answers, "address_of", _anywhere, "answers any address")
answers_without_prefix = instead(_answers, "address_of", _unprefixed, "answers without prefix")
answers_replies = instead(ReplyQueue, "__init__", _answerable, "answers replies")
forgets_the_cause = instead(_answers, "following", lambda *_: {}, "forgets the cause")
forgets_the_reply = instead(store._Handling, "reply", None, "forgets the reply")
makes_no_reply_queue = instead(Route, "made", _not_made, "makes no reply queue")


# ---- surveys

_survey, _take, _exit = Survey.__init__, Survey.take, Survey.__aexit__
_tasks: set[asyncio.Task[None]] = set()


def _without_count(survey: Survey[Any], requests: Any, route: Any, make: Any, timeout: float, at_most: Any) -> None:
    _survey(survey, requests, route, make, timeout, None)


async def _after_all(survey: Survey[Any]) -> Any:
    while survey._inbox is not None:  # noqa: ASYNC110  # a mutant need not be good
        await asyncio.sleep(0.01)
    if not survey._waiting:
        raise StopAsyncIteration
    return survey._waiting.popleft()


def _again(survey: Survey[Any], reply: Wire) -> bool:
    survey._seen.clear()
    return _take(survey, reply)


async def _leaking(survey: Survey[Any], *error: Any) -> None:
    _tasks.add(asyncio.create_task(asyncio.sleep(3600)))
    await _exit(survey, *error)


never_has_enough = instead(Survey, "__init__", _without_count, "never has enough")
waits_for_all_replies = instead(Survey, "__anext__", _after_all, "waits for all replies")
takes_repeated_replies = instead(Survey, "take", _again, "takes repeated replies")
goes_on_collecting = instead(Survey, "_stop", lambda _: None, "goes on collecting")
leaks_a_task = instead(Survey, "__aexit__", _leaking, "leaks a task")


class TellsAllInboxes(Broken):
    """What is sent to one inbox comes to all."""

    inboxes: ClassVar[set[Address]] = set()

    async def receiver(self, address: Address, *, prefetch: int, timeout: float, grace: float = 25.0) -> Receiver:
        self.inboxes.add(address)
        return await super().receiver(address, prefetch=prefetch, timeout=timeout, grace=grace)

    async def send(
        self, address: Address, messages: Sequence[Wire], *, timeout: float, delay: float = 0.0
    ) -> Sequence[PublishError | None]:
        for other in self.inboxes - {address}:
            await super().send(other, messages, timeout=timeout)
        return await super().send(address, messages, timeout=timeout, delay=delay)
