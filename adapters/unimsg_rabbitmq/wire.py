"""Wire ↔ AMQP: properties and headers as the CloudEvents binding for AMQP has them, in binary mode."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from uuid import uuid4

from pamqp.commands import Basic
from pamqp.common import FieldTable, FieldValue

from unimsg.adapter import Wire

PREFIX = "cloudEvents:"
OTHER_PREFIX = "cloudEvents_"
"""The binding allows both; receivers take both."""
ID, KEY, TYPE, TIME, CAUSE = (PREFIX + name for name in ("id", "partitionkey", "type", "time", "causationid"))
CONTENT_TYPE = "content-type"
PERSISTENT = 2
DEAD_PREFIX = "unimsg-dead-"
"""Before the names of the headers that say why a message is a dead letter."""
PARTITION = re.compile(r"\.\.p\d+$")
MAX_NAME = 128
"""Bytes of a header's name. pamqp cuts longer ones off without an error."""
MAX_SHORT = 255
"""Bytes of a property that is a short string."""


def properties_of(wire: Wire) -> Basic.Properties:
    """Raises:
    ValueError: AMQP cannot carry it.
    """
    headers: FieldTable = {ID: wire.id}
    if wire.key is not None:
        headers[KEY] = wire.key
    given = wire.headers
    for name, value in given.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"header name of more than {MAX_NAME} bytes")
        if name != CONTENT_TYPE:
            headers[name] = value
    return Basic.Properties(
        content_type=given.get(CONTENT_TYPE),
        headers=headers,
        delivery_mode=PERSISTENT,
        correlation_id=_short(given.get(CAUSE)),
        message_id=_short(wire.id),
        timestamp=_moment(given.get(TIME)),
        message_type=_short(given.get(TYPE)),
    )


def wire_of(properties: Basic.Properties, body: bytes) -> Wire:
    """Any message, also one that another program wrote.

    Without an id it gets a random one: RabbitMQ has nothing that stays the same for each redelivery, and one made from
    the content would make two equal messages one. Only a message that RabbitMQ gave up has one made from its content
    and its end: who chose it among the dead letters must find it again.
    """
    headers: dict[str, str] = {}
    for name, value in (properties.headers or {}).items():
        if name[:2] not in ("x-", "X-") and (text := _text(value)) is not None:
            headers[PREFIX + name[len(OTHER_PREFIX) :] if name.startswith(OTHER_PREFIX) else name] = text
    id = headers.pop(ID, None) or properties.message_id
    if (death := _given_up(properties.headers)) is not None:
        id = id or blake2b(body + f"{death}{headers}".encode(errors="replace"), digest_size=16).hexdigest()
        headers = {**_record(death), **headers}
    id = id or str(uuid4())
    key = headers.pop(KEY, None)
    if properties.content_type:
        headers[CONTENT_TYPE] = properties.content_type
    if properties.content_encoding:
        headers.setdefault("content-encoding", properties.content_encoding)
    return Wire(id, body, headers, key)


def _given_up(headers: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """RabbitMQ's record of a message that reached its delivery limit, and did nothing else since."""
    deaths = (headers or {}).get("x-death")
    newest = deaths[0] if isinstance(deaths, list) and deaths else None
    return newest if isinstance(newest, dict) and newest.get("reason") == "delivery_limit" else None


def _record(death: Mapping[str, object]) -> Mapping[str, str]:
    """A dead letter's, as far as RabbitMQ knows it."""
    queue, time = str(death.get("queue", "")), death.get("time")
    record = {
        f"{DEAD_PREFIX}reason": "delivery-limit",
        f"{DEAD_PREFIX}attempts": "0",
        f"{DEAD_PREFIX}origin": PARTITION.sub("", queue).replace("..", "/"),
    }
    if isinstance(time, datetime):
        record[f"{DEAD_PREFIX}last-failed"] = time.isoformat()
    return record


def written(properties: Basic.Properties) -> datetime | None:
    """When it was sent, by its sender's clock; if it was delayed, when it was due. RabbitMQ's own times are whole
    seconds: rounded up. None: it does not say."""
    headers = properties.headers or {}
    deaths = headers.get("x-death")
    due = deaths[0].get("time") if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    own = headers.get(TIME) or headers.get(f"{OTHER_PREFIX}time")
    if not isinstance(due, datetime) and isinstance(own, str):
        try:
            moment = datetime.fromisoformat(own)
        except ValueError:
            pass
        else:
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    whole = due if isinstance(due, datetime) else properties.timestamp
    return whole + timedelta(seconds=1) if whole is not None else None


def deliveries_before(headers: Mapping[str, object] | None, redelivered: bool) -> int:
    """RabbitMQ's count; classic queues only tell whether there was one."""
    count = (headers or {}).get("x-delivery-count")
    return count if isinstance(count, int) else int(redelivered)


def _short(text: str | None) -> str | None:
    return text if text and len(text.encode()) <= MAX_SHORT else None


def _moment(text: str | None) -> datetime:
    if text:
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    return datetime.now(UTC)


def _text(value: FieldValue) -> str | None:
    """A header value as text; None for what has no sensible text."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float() | Decimal():
            return str(value)
        case date():
            return value.isoformat()
        case bytes() | bytearray():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
        case dict() | list():
            try:
                return json.dumps(value, default=_text)
            except (TypeError, ValueError, RecursionError):
                return None
        case _:
            return None
