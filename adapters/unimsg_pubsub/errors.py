"""Google's errors as ours. Nothing else in this package looks at a status code."""

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core.exceptions import GoogleAPICallError

from unimsg.adapter import ChannelMissing
from unimsg.errors import (
    AuthenticationError,
    CapabilityError,
    ConnectError,
    ConnectReason,
    PermissionDenied,
    PublishError,
    PublishForbidden,
    PublishRejected,
    PublishUnconfirmed,
    Refused,
    UnimsgError,
    Unroutable,
)

Code = grpc.StatusCode

LOG_IN = "set credentials_file, or GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"

# How gRPC begins the text of a call that found no connection, so that nothing of it left this process.
NO_CONNECTION = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")

# Parts of those texts, and what they mean. The first that is found counts.
REASONS: tuple[tuple[str, ConnectReason], ...] = (
    ("lookup", "dns"),
    ("DNS", "dns"),
    ("Connection refused", "refused"),
    ("timed out", "timeout"),
    ("Endpoint closing", "timeout"),  # of a TLS handshake that got no answer
    ("handshake failed", "tls"),
    ("verification check failed", "tls"),
    ("Verification Check failed", "tls"),
    ("Handshake read failed", "tls"),
    ("Failed parsing HTTP/2", "protocol"),
)


class Unanswered(GoogleAPICallError):
    """A call that has no answer."""

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[no-untyped-call]  # google-api-core's


class NotReached(Unanswered):
    """There was no connection within the deadline: nothing of the call left this process."""

    grpc_status_code = Code.UNAVAILABLE


class Interrupted(Unanswered):
    """The call may have arrived, and its answer can no longer come."""


class AlreadyExists(UnimsgError):
    """Another process was faster. Never leaves this package."""


def code_of(error: GoogleAPICallError) -> grpc.StatusCode | None:
    return error.grpc_status_code


def never_left(error: GoogleAPICallError) -> bool:
    """Whether the request certainly did not reach the service."""
    return isinstance(error, NotReached) or (
        code_of(error) is Code.UNAVAILABLE and error.message.startswith(NO_CONNECTION)
    )


def certainly_not_stored(error: GoogleAPICallError) -> bool:
    """Whether sending the same again may help and can store nothing twice."""
    return never_left(error) or code_of(error) is Code.RESOURCE_EXHAUSTED


def passing(error: GoogleAPICallError) -> bool:
    """Whether an idempotent call that failed so is worth another try."""
    return code_of(error) in (Code.UNAVAILABLE, Code.ABORTED, Code.RESOURCE_EXHAUSTED)


def bad_request(error: GoogleAPICallError) -> bool:
    """Whether one bad part may have failed a whole request."""
    return code_of(error) is Code.INVALID_ARGUMENT


def missing(error: GoogleAPICallError) -> bool:
    return code_of(error) is Code.NOT_FOUND


def not_allowed(error: GoogleAPICallError) -> bool:
    return code_of(error) is Code.PERMISSION_DENIED


def bad_credentials(error: GoogleAPICallError) -> bool:
    # A token that cannot be had (revoked key, wrong clock) is no answer of the service but of the credentials' plugin.
    return code_of(error) is Code.UNAUTHENTICATED or "Getting metadata from plugin failed" in error.message


def why(error: GoogleAPICallError) -> str:
    """The cause in one line."""
    code = code_of(error)
    name = code.name if code is not None else type(error).__name__
    text = error.message if "metadata from plugin" not in error.message else "no access token"
    return f"{name}: {' '.join(text.split())}" if text else name


def connect_error(target: str, error: GoogleAPICallError, *, speaks_tls: bool = False) -> ConnectError:
    """`speaks_tls`: this side spoke plain text, and the other side would have spoken TLS."""
    if bad_credentials(error):
        return AuthenticationError(f"pubsub: {target} refused the credentials ({why(error)}): {LOG_IN}")
    if speaks_tls:
        text = f"pubsub: {target} speaks TLS, an emulator would speak plain text: set endpoint instead of emulator"
        return ConnectError(text, reason="plaintext")
    reason = connect_reason(error)
    return ConnectError(f"pubsub: no connection to {target} ({why(error)}): {ADVICE[reason]}", reason=reason)


def connect_reason(error: GoogleAPICallError) -> ConnectReason:
    if isinstance(error, NotReached) or code_of(error) is Code.DEADLINE_EXCEEDED:
        return "timeout"
    return next((reason for part, reason in REASONS if part in error.message), "protocol")


ADVICE: dict[ConnectReason, str] = {
    "dns": "check the host's name",
    "refused": "nobody listens there: check host and port, and that it runs",
    "tls": "check the certificate's authority and name (tls.ca_file), and that the port speaks TLS; "
    "an emulator does not: set emulator or PUBSUB_EMULATOR_HOST",
    "timeout": "no answer in time: check the network, or allow more time",
    "protocol": "the other side does not speak Pub/Sub over gRPC: check host and port",
}


def operation_error(error: GoogleAPICallError, target: str, permission: str, resource: str) -> UnimsgError:
    """What a call for `resource` that needs `permission` failed with. Publishing has its own, below."""
    if missing(error):
        return ChannelMissing(f"pubsub: {resource} does not exist ({why(error)})")
    if code_of(error) is Code.ALREADY_EXISTS:
        return AlreadyExists(f"pubsub: {resource} exists")
    if not_allowed(error):
        return PermissionDenied(f"pubsub: {permission} on {resource} is not allowed ({why(error)}): grant it")
    if bad_request(error) or code_of(error) is Code.FAILED_PRECONDITION:
        return CapabilityError(f"pubsub: Pub/Sub refuses {resource} as it is wanted ({why(error)})")
    if never_left(error) or bad_credentials(error):
        return connect_error(target, error)
    reason = connect_reason(error)
    return ConnectError(f"pubsub: no answer about {resource} from {target} ({why(error)})", reason=reason)


def publish_error(error: GoogleAPICallError, channel: str, message_id: str) -> PublishError:
    """The outcome of a message whose request failed for good."""
    kind: type[PublishError] = OUTCOMES.get(code_of(error), PublishUnconfirmed)
    if never_left(error) or bad_credentials(error):
        kind = PublishRejected
    text = f"pubsub: {channel}: {HINTS[kind]} ({why(error)})"
    return kind(text, channel=channel, message_id=message_id)


# Answers that say no. What is not here says nothing about whether the messages were stored.
OUTCOMES: dict[grpc.StatusCode | None, type[PublishError]] = {
    Code.NOT_FOUND: Unroutable,
    Code.PERMISSION_DENIED: PublishForbidden,
    Code.UNAUTHENTICATED: PublishRejected,
    Code.INVALID_ARGUMENT: Refused,
    Code.FAILED_PRECONDITION: Refused,
    Code.RESOURCE_EXHAUSTED: Refused,
    Code.OUT_OF_RANGE: Refused,
    Code.UNIMPLEMENTED: Refused,
}

HINTS: dict[type[PublishError], str] = {
    Unroutable: 'the topic does not exist: create it, or set topology = "create"',
    PublishForbidden: "publishing is not allowed: grant roles/pubsub.publisher",
    PublishRejected: "the message was not sent: sending it again is safe",
    Refused: "Pub/Sub refused the message",
    PublishUnconfirmed: "the message may be stored, no confirmation came: repeat it with the same id",
}


def failed_ids(error: GoogleAPICallError) -> dict[str, str]:
    """The ack ids that a subscription with exactly-once delivery says have failed, and why; the others counted."""
    if error.reason != "EXACTLY_ONCE_ACKID_FAILURE":
        return {}
    return dict(error.metadata or {})
