"""Return addresses: G18 against replies that nobody waits for, and against senders who try to abuse them."""

import secrets

import pytest

from unimsg import MemoryStore, RequestTimeout, Retry, Service
from unimsg.adapter import Address, Kind
from unimsg.keys import partition_of
from unimsg_contracts.asking import Hand, dropped
from unimsg_contracts.marks import guarantee
from unimsg_contracts.reading import eventually
from unimsg_contracts.stage import Stage

TEXT = {"content-type": "text/plain"}


@guarantee("G18")
async def test_late_and_repeated_replies_are_dropped(stage: Stage) -> None:
    """The first reply counts; a second one, and one after the deadline, are dropped and counted."""
    queue = stage.declare_queue(str, replies=str)
    hand = await Hand.of(stage, queue)
    async with stage.bus() as bus:
        asked = stage.begin(bus.request(queue, "once", timeout=stage.recovery))
        request = await hand.take()
        await hand.answer(request, b"first")
        await hand.answer(request, b"second")
        assert await stage.answer(asked) == "first"
        await dropped(stage, bus, duplicate=1, late=0, unknown=0)
        with pytest.raises(RequestTimeout):
            await bus.request(queue, "too long", timeout=1.0)
        await hand.answer(await hand.take(), b"late")
        await dropped(stage, bus, duplicate=1, late=1, unknown=0)
        asked = stage.begin(bus.request(queue, "again", timeout=stage.recovery))
        await hand.answer(await hand.take(), b"well")
        assert await stage.answer(asked) == "well"


@guarantee("G18")
async def test_forged_replies_are_dropped(stage: Stage) -> None:
    """Who does not know a request's id cannot answer it, and who knows it cannot do so in another inbox."""
    queue = stage.declare_queue(str, replies=str)
    hand = await Hand.of(stage, queue)
    async with stage.bus() as bus, stage.bus() as other:
        asked = stage.begin(bus.request(queue, "mine", timeout=stage.recovery))
        mine = await hand.take()
        others = stage.begin(other.request(queue, "theirs", timeout=stage.recovery))
        theirs = await hand.take()
        prefix = stage.adapter_type.attribute_prefix
        for id in (theirs.id, "", "x" * 1000, mine.id.upper(), f"{mine.id} "):
            await hand.answer(mine, b"forged", headers={f"{prefix}causationid": id})
        await dropped(stage, bus, unknown=5)
        await hand.answer(mine, b"forged", to=theirs.headers[f"{prefix}replyto"])
        await dropped(stage, other, unknown=1)
        assert not asked.done()
        assert not others.done()
        await hand.answer(theirs, b"true")
        await hand.answer(mine, b"true")
        assert [await stage.answer(asked), await stage.answer(others)] == ["true", "true"]


@guarantee("G18")
async def test_inboxes_are_private(stage: Stage) -> None:
    """What is sent to one inbox arrives there only, also where the broker keeps several in one place."""
    addresses = [stage.inbox_address()]
    while len(addresses) < 3:
        address = stage.inbox_address()
        if partition_of(address.channel, 32) == partition_of(addresses[0].channel, 32):
            addresses.append(address)
    adapters = [await stage.adapter() for _ in addresses]
    readers = [await stage.reader(adapter, to) for adapter, to in zip(adapters, addresses, strict=True)]
    sent = [stage.wires(5) for _ in addresses]
    for adapter, address, wires in zip(adapters, [*addresses[1:], addresses[0]], [*sent[1:], sent[0]], strict=True):
        await stage.send(adapter, address, wires)
    for address, wires, reader in zip(addresses, sent, readers, strict=True):
        await stage.exactly(adapters[0], address, wires, reader)


@guarantee("G18")
async def test_other_addresses_are_never_answered(stage: Stage) -> None:
    """A message that wants its reply anywhere but in an inbox or a reply queue is handled, and nothing is sent there,
    and nothing made."""
    queue, victim = stage.declare_queue(str, replies=str), stage.declare_queue(str)
    handled: list[str] = []
    service = Service("answering", grace=2.0)

    @service.handler(queue)
    async def handle(body: str) -> str:
        handled.append(body)
        return body

    adapter = await stage.adapter()
    to_victim = await stage.ensure(adapter, Address(victim.name, Kind.QUEUE))
    to_queue = await stage.ensure(adapter, Address(queue.name, Kind.QUEUE))
    reader = await stage.reader(adapter, to_victim)
    bits, new = secrets.token_hex(16), secrets.token_hex(8)
    addresses = [
        victim.name,
        queue.name,  # it would answer itself for ever
        f"{queue.name}..dead",
        f"unimsg.{new}",
        f"unimsg.inbox.{new}",
        f"unimsg.inbox.{bits.upper()}",
        f"unimsg.inbox.{bits}\n",
        f"ann.unimsg.inbox.{bits}",
        f"unimsg.reply.{new}..dead",
        f"unimsg.reply.x.{'y' * 200}",
        f"unimsg.reply.../{victim.name}",
        f"unimsg.reply.{new}/../{victim.name}",
        f" unimsg.reply.x{new}",
        "unimsg.reply.",
        "",
        "a" * 900,
    ]
    prefix = stage.adapter_type.attribute_prefix
    wires = [
        stage.wire(str(n).encode(), headers={**TEXT, f"{prefix}replyto": address})
        for n, address in enumerate(addresses)
    ]
    async with stage.bus(service) as bus:
        await stage.send(adapter, to_queue, wires)
        await eventually(
            lambda: len(handled) >= len(wires), stage.recovery, lambda: f"{len(handled)} of {len(wires)} were handled"
        )
        await stage.breathe(adapter)
        assert not [letter async for letter in bus.dead_letters(queue)]
    await stage.exactly(adapter, to_victim, [], reader)
    assert sorted(handled) == sorted(str(n) for n in range(len(wires)))
    for name in (f"unimsg.{new}", f"unimsg.inbox.{new}", f"unimsg.reply.{new}..dead"):
        assert await stage.is_missing(adapter, Address(name, Kind.QUEUE)), f"{name} was made"


@guarantee("G18")
async def test_a_reply_is_never_answered(stage: Stage) -> None:
    """Neither in a reply queue nor in an inbox, whatever return address it carries: else two could go on for ever."""
    queue, answers = stage.declare_queue(str, replies=str), stage.declare_reply_queue(str)
    other = stage.declare_reply_queue(str)
    got: list[object] = []
    service = Service("client", grace=2.0)

    @service.handler(answers)
    async def handle(body: object) -> None:
        got.append(body)

    adapter = await stage.adapter()
    hand = await Hand.of(stage, queue)
    reader = await stage.reader(adapter, await stage.ensure(adapter, stage.address_of(other)))
    back = {**TEXT, f"{adapter.attribute_prefix}replyto": f"unimsg.reply.{other.name}"}
    async with stage.bus(service) as bus:
        await stage.send(adapter, stage.address_of(answers), [stage.wire(b"in a reply queue", headers=back)])
        await eventually(lambda: got == ["in a reply queue"], stage.recovery, lambda: f"{got} came")
        asked = stage.begin(bus.request(queue, "hello", timeout=stage.recovery))
        await hand.answer(await hand.take(), b"in an inbox", headers=back)
        assert await stage.answer(asked) == "in an inbox"
    await stage.exactly(adapter, stage.address_of(other), [], reader)


@guarantee("G18")
async def test_a_requester_that_is_gone_holds_nothing(stage: Stage) -> None:
    """The reply, or the failure, to an inbox that is gone: the message is done, once, and others are handled."""
    queue = stage.declare_queue(str, replies=str)
    handled: list[str] = []
    service = Service("echo", grace=2.0, retry=Retry())

    @service.handler(queue, concurrency=2)
    async def handle(body: str) -> str:
        handled.append(body)
        if body == "fails":
            raise LookupError("on purpose")
        return body

    adapter = await stage.adapter()
    address = await stage.ensure(adapter, Address(queue.name, Kind.QUEUE))
    back = {**TEXT, f"{adapter.attribute_prefix}replyto": stage.inbox_address().channel}
    async with stage.bus(service) as bus:
        for body in (b"fails", b"works") * 3:
            await stage.send(adapter, address, [stage.wire(body, headers=back)])
        assert await stage.answer(bus.request(queue, "next", timeout=stage.recovery)) == "next"
        await eventually(lambda: len(handled) >= 7, stage.recovery, lambda: f"{handled} were handled")
        await stage.breathe(adapter)
        assert [letter async for letter in bus.dead_letters(queue)] == []
    assert sorted(handled) == ["fails"] * 3 + ["next"] + ["works"] * 3
    await stage.exactly(adapter, address, [], await stage.reader(adapter, address))


@guarantee("G12")
async def test_a_repeated_request_gets_the_stored_reply(stage: Stage) -> None:
    """With a store, a message that comes again is not handled again: its reply is sent again, the same."""
    queue = stage.declare_queue(str, replies=int)
    effects = 0
    service = Service("counting", grace=2.0)

    @service.handler(queue, store=MemoryStore())
    async def handle(body: str) -> int:
        nonlocal effects
        effects += 1
        return effects

    adapter = await stage.adapter()
    address, inbox = await stage.ensure(adapter, Address(queue.name, Kind.QUEUE)), stage.inbox_address()
    reader = await stage.reader(adapter, inbox)
    wire = stage.wire(b"x", headers={**TEXT, f"{adapter.attribute_prefix}replyto": inbox.channel})
    async with stage.bus(service):
        for number in (1, 2):
            await stage.send(adapter, address, [wire])
            await stage.count(number, reader)
    assert effects == 1
    first, second = (delivery.wire for delivery in reader.got)
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers[f"{adapter.attribute_prefix}causationid"] == wire.id
