"""aiokafka's errors as unimsg's. The only place that maps them.

| what the client or the broker says | it becomes |
| --- | --- |
| cannot connect | ConnectError with the reason, or AuthenticationError |
| 29, 30, 31, 53: not authorised | PermissionDenied; for a send PublishForbidden |
| 3: no such topic | ChannelMissing, TopologyError; for a send Unroutable |
| 10, 18: too large | MessageTooLarge |
| any other answer that is final | Refused; for an operation TopologyError |
| a final deadline, a closed connection, an unknown outcome | ConnectError; for a send PublishUnconfirmed |
"""

import logging
import socket
import ssl

from aiokafka import errors as kafka  # type: ignore[import-untyped]  # aiokafka has no py.typed

from unimsg.adapter import ChannelMissing
from unimsg.errors import (
    AuthenticationError,
    ConnectError,
    ConnectReason,
    MessageTooLarge,
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
from unimsg.surprises import Surprises

log = logging.getLogger("unimsg.kafka")

FORBIDDEN = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
MISSING = (kafka.UnknownTopicOrPartitionError,)
FINAL = (*FORBIDDEN, *MISSING, kafka.InvalidTopicError)
"""What holds for every message of a channel, whatever is in it."""
STALE_PRODUCER = (
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownProducerId,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.ProducerFenced,
)
"""The broker stored nothing, because it no longer accepts this producer's sequence of batches. A new producer may send
them again: with one batch in flight per partition, nothing that is stored can be among them."""
UNREACHABLE = (kafka.KafkaError, OSError, TimeoutError)
"""What any exchange with a broker may raise while it is away."""
_LOGIN = (
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
)
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)


class InvalidRecord(kafka.BrokerResponseError):  # type: ignore[misc]  # aiokafka is untyped
    """A record that the topic does not take, as one without key where it is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "the broker's validation failed"


# aiokafka 0.14 does not know this code and makes it UnknownError, which is also what a broker answers when it does not
# know itself what became of a batch.
kafka.kafka_errors.setdefault(InvalidRecord.errno, InvalidRecord)


def is_refusal(error: BaseException) -> bool:
    """Whether the broker itself answered that it stores nothing of the batch."""
    return (
        isinstance(error, kafka.BrokerResponseError)
        and not error.retriable
        and not isinstance(error, (*STALE_PRODUCER, kafka.UnknownError))
    )


def publish_error(error: BaseException, channel: str, message_id: str) -> PublishError:
    """The outcome of one message, of what ended its batch."""
    kind: type[PublishError] = PublishUnconfirmed
    text = f"kafka: {channel}: no confirmation: {describe(error)}; the message may be stored"
    if isinstance(error, FORBIDDEN):
        kind, text = PublishForbidden, f"kafka: not allowed to write to {channel}: grant Write on the topic"
    elif isinstance(error, (*MISSING, kafka.InvalidTopicError)):
        kind, text = Unroutable, f'kafka: topic {channel} does not exist: create it, or set topology = "create"'
    elif isinstance(error, _TOO_LARGE):
        kind = MessageTooLarge
        text = f"kafka: {channel}: the message is larger than the topic's max.message.bytes: raise it"
    elif is_refusal(error) or isinstance(error, UnicodeEncodeError):
        kind, text = Refused, f"kafka: {channel} refused the message: {describe(error)}"
    outcome = kind(text, channel=channel, message_id=message_id)
    outcome.__cause__ = error
    return outcome


def never_left(why: str, channel: str, message_id: str) -> PublishRejected:
    """The outcome of a message that was not given to the client within its deadline."""
    text = f"kafka: {channel}: not sent within the deadline: {why}"
    return PublishRejected(text, channel=channel, message_id=message_id)


def unanswered(channel: str, message_id: str) -> PublishUnconfirmed:
    text = f"kafka: {channel}: no confirmation within the deadline; the message may be stored"
    return PublishUnconfirmed(text, channel=channel, message_id=message_id)


def operation_error(error: BaseException, operation: str, channel: str) -> UnimsgError:
    """What stands in the way of an operation on a channel. To be raised `from error`."""
    if isinstance(error, UnimsgError):
        return error
    if isinstance(error, FORBIDDEN):
        return PermissionDenied(f"kafka: not allowed to {operation} {channel}: {describe(error)}")
    if isinstance(error, MISSING):
        return ChannelMissing(f"kafka: topic {channel} does not exist")
    if isinstance(error, kafka.BrokerResponseError) and not error.retriable:
        return TopologyError(f"kafka: cannot {operation} {channel}: {describe(error)}")
    return ConnectError(f"kafka: cannot {operation} {channel}: {describe(error)}", reason=_reason(error))


def connect_error(
    error: BaseException, server: str, *, sasl: str | None, tls: bool, tls_behind: bool, greeted: bool
) -> ConnectError:
    """Why a server could not be used. `tls`: TLS was spoken to it. `tls_behind`: plain text was, and it answers TLS.
    `greeted`: it answered the first request as a broker and then closed the connection."""
    at = f"kafka: {server}"
    if isinstance(error, _LOGIN):
        return AuthenticationError(
            f"{at} refused the {sasl} login: check user, password and mechanism, and that this listener takes logins"
        )
    if greeted and sasl is None and not isinstance(error, TimeoutError):
        return AuthenticationError(f"{at} closes the connection without a login: set sasl, user and password")
    reason = "plaintext" if tls_behind else _reason(error)
    if tls and reason == "protocol":  # a broker takes the TLS greeting for a request of absurd size, and hangs up
        reason = "tls"
    advice = {
        "dns": "the name does not resolve",
        "refused": "nobody listens there: is the broker up, is the port right?",
        "tls": f"TLS failed: {describe(error)}: is it a TLS listener, is tls.ca_file right, and the name?",
        "plaintext": "it speaks TLS: use kafkas://",
        "timeout": "no answer in time",
        "protocol": f"it does not answer as a Kafka broker: {describe(error)}",
    }
    return ConnectError(f"{at}: {advice.get(reason, describe(error))}", reason=reason)


def describe(error: BaseException) -> str:
    """A client's error in one line; it may hold the broker's own text, never a credential."""
    text, name = " ".join(str(error).split()), type(error).__name__
    return text if name in text else f"{name}: {text}".rstrip(": ")


def problem(surprises: Surprises, channel: str, what: str, error: Exception) -> str:
    """What to say of a failure in a loop that goes on, whatever it is. One that no broker makes is a surprise."""
    if not isinstance(error, UNREACHABLE):
        surprises.tell(f"kafka: {channel}: {what}", error)
    return f"{what}: {describe(error)}"


def _reason(error: BaseException) -> ConnectReason:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "dns"
        if isinstance(cause, ssl.SSLError):
            return "tls"
        if isinstance(cause, (ConnectionRefusedError, kafka.NodeNotReadyError)):
            return "refused"
        if isinstance(cause, (TimeoutError, kafka.RequestTimedOutError, kafka.KafkaTimeoutError)):
            return "timeout"
        cause = cause.__cause__ or cause.__context__
    return "protocol"
