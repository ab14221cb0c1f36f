"""What went wrong, in unimsg's errors. All mapping of aiormq's, asyncio's and RabbitMQ's errors is here."""

import re
import socket
import ssl

import aiormq

from unimsg.adapter import Address, ChannelMissing, Kind
from unimsg.errors import (
    AuthenticationError,
    ConnectError,
    PermissionDenied,
    PublishError,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
    TopologyError,
    UnimsgError,
    Unroutable,
)

BROKEN = (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError, RuntimeError)
"""What aiormq raises when a call meets a closed channel or a lost connection, and when the broker says no. A plain
RuntimeError is its answer to a call on a connection that was closed."""

ACCESS_REFUSED, NOT_FOUND = 403, 404
TLS_ALERT = b"\x15"


class Ended(ConnectionError):
    """The adapter was closed."""


def connect_failure(
    error: BaseException, where: str, *, head: bytes, closed: tuple[int, str] | None, server_speaks_tls: bool
) -> ConnectError:
    """Why a connection to `where` was not made. `head`: the first bytes that came; `closed`: what the broker said."""
    if closed is not None:
        code, text = closed
        if code == ACCESS_REFUSED or "vhost" in text:
            what = "virtual host" if "vhost" in text else "user or password"
            return AuthenticationError(f"RabbitMQ at {where} refused the {what}: {text}")
        return ConnectError(f"RabbitMQ at {where} closed the connection: {text}", reason="protocol")
    match error:
        case aiormq.ProbableAuthenticationError() | aiormq.AuthenticationError():
            return AuthenticationError(f"RabbitMQ at {where} refused user or password: {error}")
        case socket.gaierror():
            return ConnectError(f"RabbitMQ host of {where} is unknown: {error.strerror}", reason="dns")
        case ssl.SSLCertVerificationError():
            other_name = "mismatch" in str(error)
            hint = "use a host name that it is made for" if other_name else "name its authority in tls.ca_file"
            return ConnectError(f"RabbitMQ at {where}: its certificate was refused: {error}; {hint}", reason="tls")
        case ssl.SSLError():
            text = f"RabbitMQ at {where}: no TLS was agreed on ({error})"
            return ConnectError(f"{text}; does this port speak plain text (amqp://)?", reason="tls")
        case TimeoutError():
            return ConnectError(f"RabbitMQ at {where} did not answer in time", reason="timeout")
    if server_speaks_tls or head[:1] == TLS_ALERT:
        return ConnectError(f"RabbitMQ at {where} speaks TLS only: write amqps://", reason="plaintext")
    if head and head[:1] not in b"\x01\x02\x03\x08":
        return ConnectError(f"{where} does not speak AMQP 0-9-1: is it RabbitMQ's port?", reason="protocol")
    if isinstance(error, OSError) and not isinstance(error, aiormq.AMQPError) and not head:
        text = f"RabbitMQ at {where} cannot be reached: {error.strerror or error}"
        return ConnectError(f"{text}; is the broker up, is the port right?", reason="refused")
    return ConnectError(f"RabbitMQ at {where} did not complete the handshake: {error}", reason="protocol")


def operation_failure(error: BaseException, operation: str, address: Address) -> UnimsgError:
    """What a failed declare, look-up or consume means."""
    name, text = address.name, _text(error)
    match error:
        case UnimsgError():
            return error
        case aiormq.ChannelAccessRefused():
            return PermissionDenied(f"RabbitMQ: {operation} {name} is not allowed: {text}")
        case aiormq.ChannelNotFoundEntity():
            return ChannelMissing(f"RabbitMQ: {name} does not exist: {text}")
        case aiormq.ChannelPreconditionFailed():
            partitions = "it has another number of partitions: " if "'alternate-exchange'" in text else ""
            return TopologyError(
                f"RabbitMQ: {name} exists and differs from what is declared: {partitions}{text}. RabbitMQ never "
                "changes arguments: declare it as it is, or drain it and delete it"
            )
        case ValueError() | TypeError():
            return TopologyError(f"RabbitMQ: {name} cannot be declared: {error}")
        case TimeoutError():
            return ConnectError(f"RabbitMQ: {operation} {name}: no answer in time", reason="timeout")
    return ConnectError(f"RabbitMQ: {operation} {name}: the connection was lost: {text}", reason="refused")


INEQUIVALENT = re.compile(r"inequivalent arg '([^']+)' for .*: received (.+?) but current is (.+)$")
QUOTED = re.compile(r"'([^']*)'")


def difference(error: aiormq.ChannelPreconditionFailed) -> tuple[str, str, str]:
    """The argument that a declare and the real thing differ in; wanted; found."""
    text = _text(error)
    match = INEQUIVALENT.search(text)
    if match is None:
        return "declaration", "as declared", text
    argument, wanted, found = match.groups()
    return argument, _value(wanted), _value(found)


def _value(text: str) -> str:
    """ "'6'" and "the value '6' of type 'byte'" are 6; "none" stays."""
    quoted = QUOTED.search(text)
    return quoted[1] if quoted else text


def is_absent(error: BaseException) -> bool:
    """Whether a 404 says that the queue does not exist, and not that it cannot be reached at present."""
    return isinstance(error, aiormq.ChannelNotFoundEntity) and "NOT_FOUND - no " in _text(error)


def unroutable(address: Address, id: str, text: str) -> Unroutable:
    text = f'RabbitMQ: {address.name} does not exist ({text}): create it, or set topology = "create"'
    return Unroutable(text, channel=address.name, message_id=id)


def nacked(address: Address, id: str) -> PublishError:
    """Of a topic's subscriptions one may have refused it while others stored it."""
    if address.kind is Kind.TOPIC and address.subscription is None:
        text = f"RabbitMQ: a subscription of {address.name} refused the message (full?); others may have stored it"
        return PublishUnconfirmed(text, channel=address.name, message_id=id)
    text = (
        f"RabbitMQ: {address.name} refused the message: it is full, or without a leader: make room, or raise max_length"
    )
    return Refused(text, channel=address.name, message_id=id)


def forbidden(address: Address, id: str, text: str) -> PublishForbidden:
    text = f"RabbitMQ: publishing to {address.name} is not allowed ({text}): grant write on the exchange"
    return PublishForbidden(text, channel=address.name, message_id=id)


def not_sent(address: Address, id: str, text: str) -> PublishRejected:
    text = f"RabbitMQ: the message to {address.name} was not sent: {text}"
    return PublishRejected(text, channel=address.name, message_id=id)


def unconfirmed(address: Address, id: str, text: str) -> PublishUnconfirmed:
    text = f"RabbitMQ: the message to {address.name} was sent and not confirmed: {text}"
    return PublishUnconfirmed(text, channel=address.name, message_id=id)


def _text(error: BaseException) -> str:
    """aiormq's errors carry the broker's text as their last argument."""
    words = [str(part) for part in error.args if isinstance(part, str)]
    return words[-1] if words else str(error) or type(error).__name__
