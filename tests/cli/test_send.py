"""`unimsg send`, on the broker in memory."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from shop import write
from waiting import until

import unimsg
from unimsg import Context, Queue, Reject, Retry, Service, Settings, Topic
from unimsg.cli.output import body_as_dict
from unimsg.cli.send import Order, ask, send
from unimsg.errors import ConfigurationError, EncodeError, RemoteError, RequestTimeout, TopologyError

SETTINGS = Settings(url="memory://", topology="off")
pytestmark = pytest.mark.usefixtures("elsewhere")


class Got(list[tuple[object, str | None, str, dict[str, str], str]]):
    """Body, key, type, headers and id of what a service handled."""

    def note(self, body: object, context: Context) -> None:
        message = context.message
        self.append((body, message.key, message.type, dict(message.headers), message.id))


@asynccontextmanager
async def handling(got: Got) -> AsyncIterator[None]:
    service = Service("shop")

    @service.handler(Queue("orders.place", dict[str, int]))
    async def place(body: dict[str, int], context: Context) -> None:
        got.note(body, context)

    @service.handler(Topic("orders.placed", str))
    async def placed(body: str, context: Context) -> None:
        got.note(body, context)

    @service.handler(Queue("orders.keyed", int, ordered=True))
    async def keyed(body: int, context: Context) -> None:
        got.note(body, context)

    async with unimsg.connect(service, url="memory://"):
        yield


async def test_json_is_sent_as_it_is() -> None:
    got = Got()
    async with handling(got):
        id = await send(SETTINGS, Order("orders.place", b'{"n": 1}\n', headers={"tenant": "acme"}))
        await until(lambda: got, "the message")
    assert got == [({"n": 1}, None, "orders.place", {"tenant": "acme"}, id)]


async def test_to_a_topic_as_text_with_type_and_id() -> None:
    got = Got()
    async with handling(got):
        order = Order("orders.placed", b"hello", is_topic=True, content_type="text/plain", type="com.acme.x", id="4711")
        assert await send(SETTINGS, order) == "4711"
        await until(lambda: got, "the message")
    assert got == [("hello", None, "com.acme.x", {}, "4711")]


async def test_an_ordered_channel_wants_a_key() -> None:
    got = Got()
    async with handling(got):
        with pytest.raises(EncodeError, match="key"):
            await send(SETTINGS, Order("orders.keyed", b"1"))
        await send(SETTINGS, Order("orders.keyed", b"2", key="k"))
        await until(lambda: got, "the message")
    assert [(body, key) for body, key, *_ in got] == [(2, "k")]


@pytest.mark.parametrize("body", [b"", b"hello\n", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(EncodeError, match="--content-type"):
        await send(SETTINGS, Order("orders.place", body))


async def test_what_does_not_exist_is_not_made() -> None:
    got = Got()
    async with handling(got):
        for _ in range(2):
            with pytest.raises(TopologyError, match=r"orders\.plaice does not exist"):
                await send(SETTINGS, Order("orders.plaice", b"{}"))
        with pytest.raises(TopologyError, match=r"orders.placed exists as a topic"):
            await send(SETTINGS, Order("orders.placed", b"{}"))


# -- checked against a declaration


async def test_an_application_checks_the_body(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(elsewhere)
    app = write(elsewhere, name="checking")
    got = Got()
    async with handling(got):
        with pytest.raises(EncodeError, match="does not fit"):
            await send(SETTINGS, Order("orders.place", json.dumps({"n": "many"}).encode(), apps=[app]))
        await send(SETTINGS, Order("orders.place", b'{"n": 2}', apps=[app]))
        await until(lambda: got, "the message")
        with pytest.raises(ConfigurationError, match=r"orders.plaice is no channel of .* did you mean orders.place"):
            await send(SETTINGS, Order("orders.plaice", b"{}", apps=[app]))
        with pytest.raises(ConfigurationError, match="is a queue"):
            await send(SETTINGS, Order("orders.place", b"{}", apps=[app], is_topic=True))
    assert [body for body, *_ in got] == [{"n": 2}]
    sys.modules.pop("checking")


# -- requests


async def test_a_request_shows_the_reply_or_why_there_is_none(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(elsewhere)
    text = 'import unimsg\ndouble = unimsg.Queue("orders.double", int, replies=dict[str, int])\n'
    app = write(elsewhere, f'{text}service = unimsg.Service("shop")', name="asking")
    service = Service("shop", retry=Retry())
    double = Queue("orders.double", int, replies=dict[str, int])

    @service.handler(double)
    async def handle(body: int) -> dict[str, int]:
        if body < 0:
            raise Reject("too small", code="negative")
        return {"twice": 2 * body}

    async with unimsg.connect(service, url="memory://"):
        for apps in ([], [app]):
            data, content_type = await ask(SETTINGS, Order("orders.double", b"21", apps=apps))
            assert json.loads(data) == {"twice": 42}
            with pytest.raises(RemoteError, match="negative: too small"):
                await ask(SETTINGS, Order("orders.double", b"-1", apps=apps))
        assert body_as_dict(data, content_type) == {"body": {"twice": 42}}
        with pytest.raises(ConfigurationError, match="--id"):
            await ask(SETTINGS, Order("orders.double", b"1", id="4711"))
    got = Got()
    async with handling(got):
        with pytest.raises(RequestTimeout):
            await ask(SETTINGS, Order("orders.keyed", b"1", key="k", timeout=0.3))
        with pytest.raises(ConfigurationError, match="is a topic"):
            await ask(SETTINGS, Order("orders.placed", b'"x"', is_topic=True))
    sys.modules.pop("asking")
