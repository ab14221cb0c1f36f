"""`Wire` to and from a Kafka record: CloudEvents 1.0 in the binary mode of its Kafka binding.

The id travels as `ce_id`; the key as the record's key and as `ce_partitionkey`. A message to an inbox has the inbox's
name as record key, which chooses its partition, and in a header, by which the receiver tells it from its neighbours.
"""

from typing import Any

from unimsg.adapter import Address, Kind, Wire

ID, KEY, INBOX = "ce_id", "ce_partitionkey", "unimsg-inbox"
REPLIES = "unimsg.replies"
_INBOX_NAMES = "unimsg.inbox."

Record = tuple[bytes | None, bytes, list[tuple[str, bytes]]]
"""Key, value and headers, as aiokafka takes them."""


def topic_of(address: Address) -> str:
    """The topic that messages to this address go to."""
    if address.kind is Kind.INBOX:
        prefix, found, _ = address.channel.partition(_INBOX_NAMES)
        return f"{prefix if found else ''}{REPLIES}"
    return f"{address.name}..retry" if address.subscription else address.channel


def encode(wire: Wire, inbox: str | None = None) -> Record:
    """`inbox`: the name of the inbox that it goes to.

    Raises:
        UnicodeEncodeError: a text that UTF-8 cannot hold.
    """
    headers = [(name, value.encode()) for name, value in wire.headers.items()]
    headers.append((ID, wire.id.encode()))
    key = None
    if wire.key is not None:
        key = wire.key.encode()
        headers.append((KEY, key))
    if inbox is not None:
        key = inbox.encode()
        headers.append((INBOX, key))
    return key, wire.body, headers


# Any: aiokafka's ConsumerRecord; the package is untyped.
def decode(record: Any) -> Wire:
    """The message in a record, whoever wrote it. Never raises.

    Of headers with one name the last counts; a header whose value is missing or no UTF-8 is dropped. A key that is no
    UTF-8 has each foreign byte as `\\xff` in its text. A tombstone has an empty body. Without an id it gets
    "topic/partition/offset".
    """
    headers: dict[str, str] = {}
    for name, value in record.headers:
        try:
            headers[name] = value.decode()
        except (UnicodeDecodeError, AttributeError):  # AttributeError: a header without a value
            headers.pop(name, None)
    message_id = headers.pop(ID, "") or f"{record.topic}/{record.partition}/{record.offset}"
    key = headers.pop(KEY, None)
    inbox = headers.pop(INBOX, None)
    if key is None and record.key is not None and inbox is None:
        key = record.key.decode("utf-8", "backslashreplace")
    return Wire(message_id, record.value or b"", headers, key)


def inbox_of(record: Any) -> bytes | None:
    """The name of the inbox that a record of the shared reply topic is for."""
    for name, value in record.headers:
        if name == INBOX:
            return value  # type: ignore[no-any-return]  # aiokafka is untyped; header values are bytes
    return None
