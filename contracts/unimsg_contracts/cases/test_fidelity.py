"""G13: what arrives is what was sent."""

import random

from unimsg.adapter import Wire
from unimsg_contracts.marks import guarantee
from unimsg_contracts.stage import Stage

TEXTS = ["x", "ä€", "日本語", "😀", "a b\tc", "'\"\\%{}", "é" * 512, "=?utf-8?q?=", "0", "true", " padded "]


async def unchanged(stage: Stage, wires: list[Wire]) -> None:
    """Over a queue, an ordered queue and a subscription."""
    adapter = await stage.adapter()
    topic, subscription = await stage.topic(adapter, "billing")
    queue = await stage.queue(adapter)
    ordered = await stage.queue(adapter, partitions=2)
    for target, source in ((queue, queue), (ordered, ordered), (topic, subscription)):
        await stage.send(adapter, target, wires)
        reader = await stage.reader(adapter, source)
        await stage.arrive(wires, reader)
        got = {delivery.wire.id: delivery.wire for delivery in reader.got}
        for wire in wires:
            arrived = got[wire.id]
            assert arrived.body == wire.body, f"{len(wire.body)} bytes arrived as {len(arrived.body)} others"
            assert dict(arrived.headers) == dict(wire.headers)
            assert arrived.key == wire.key


@guarantee("G13")
async def test_bodies_arrive_byte_by_byte(stage: Stage) -> None:
    """An empty body, all byte values, bytes that are no text, and the largest body that unimsg sends by default."""
    bodies = [b"", bytes(range(256)), b"\x00" * 100, b"\xff\xfe\x00", b"null", random.Random(7).randbytes(1_000_000)]
    types = ["application/octet-stream", "text/plain; charset=utf-8", "application/json"]
    await unchanged(
        stage,
        [stage.wire(body, key="k", headers={"content-type": types[n % 3]}) for n, body in enumerate(bodies)],
    )


@guarantee("G13")
async def test_headers_arrive_as_they_are(stage: Stage) -> None:
    """64 headers, the longest names, the longest values, and every kind of text in them."""
    many = {f"name-{n}": TEXTS[n % 6] for n in range(60)}
    long_name = "n" + "a.b_c-9" * 18
    values = {f"text-{n}": text for n, text in enumerate(TEXTS)}
    wires = [
        stage.wire(headers=many, key="k"),
        stage.wire(headers={long_name: "v" * 1024, "long": "w" * 1024}, key="k"),
        stage.wire(headers=values, key="k"),
    ]
    assert len(wires[0].headers) == 64
    await unchanged(stage, wires)


@guarantee("G13")
async def test_ids_and_keys_arrive_as_they_are(stage: Stage) -> None:
    """The shortest and longest id, every printable ASCII character in it, and keys of any text up to 255 bytes."""
    printable = "".join(chr(n) for n in range(0x21, 0x7F))
    name = stage.name()
    names = [f"{name}~", f"{name}{printable}"[:128], f"{printable[50:]}{name}", (name + "i" * 128)[:128]]
    keys = ["k", "ключ", "a b/c?d&e=f", "😀" * 63, "k" * 255]
    wires = [stage.wire(key=keys[n % len(keys)], id=id) for n, id in enumerate(names)]
    wires += [stage.wire(key=key) for key in keys]
    await unchanged(stage, wires)


@guarantee("G13")
async def test_a_key_is_not_needed(stage: Stage) -> None:
    """Messages without a key arrive without one."""
    await unchanged(stage, [stage.wire(body) for body in (b"1", b"", b"3")])
