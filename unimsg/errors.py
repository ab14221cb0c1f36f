"""Every error that unimsg raises.

UnimsgError
├─ ConfigurationError        bad URL, key, value, name, duplicate handler: before any network
│  ├─ CapabilityError        a declared need that the chosen broker does not have
│  └─ TopologyError          a channel is missing or different from its declaration
├─ ConnectError              not reachable within the deadline; `.reason` tells why
│  └─ AuthenticationError    user, password, token or virtual host refused
├─ PermissionDenied          connected, but an operation on a channel is not allowed
├─ EncodeError (ValueError)  body, key, header or size invalid: before sending
├─ DecodeError (ValueError)  a received body does not fit
├─ PublishError              `.channel`, `.message_id`
│  ├─ PublishRejected        certainly not stored
│  │  ├─ Unroutable    ├─ Refused    ├─ MessageTooLarge    └─ PublishForbidden (PermissionDenied)
│  └─ PublishUnconfirmed (TimeoutError)   may be stored; repeat with `id=error.message_id`
├─ RequestTimeout (TimeoutError)          no reply in time
├─ RemoteError               `.code`, `.text`: the other side failed
└─ BusClosed                 used after its block ended
"""

from typing import Literal

__all__ = [
    "AuthenticationError",
    "BusClosed",
    "CapabilityError",
    "ConfigurationError",
    "ConnectError",
    "DecodeError",
    "EncodeError",
    "MessageTooLarge",
    "PermissionDenied",
    "PublishError",
    "PublishForbidden",
    "PublishRejected",
    "PublishUnconfirmed",
    "Refused",
    "RemoteError",
    "RequestTimeout",
    "TopologyError",
    "UnimsgError",
    "Unroutable",
]

ConnectReason = Literal["dns", "refused", "tls", "plaintext", "timeout", "authentication", "protocol"]
"""Why a connection failed: the name does not resolve; nobody listens; TLS failed (certificate, or the
server speaks plain text); plain text was spoken to a TLS port; no answer in time; credentials or virtual
host refused; the server does not speak this broker's protocol."""


class UnimsgError(Exception):
    """The root of all errors of this library."""


class ConfigurationError(UnimsgError):
    """A declaration, a setting or a URL is wrong. Raised before anything is sent."""


class CapabilityError(ConfigurationError):
    """A channel or a call needs what the chosen broker cannot do. Raised at start-up, or at the call."""


class TopologyError(ConfigurationError):
    """A channel on the broker is missing, or differs from its declaration in a way that cannot be changed."""


class ConnectError(UnimsgError):
    """The broker could not be reached within the deadline."""

    def __init__(self, text: str, *, reason: ConnectReason) -> None:
        super().__init__(text)
        self.reason = reason


class AuthenticationError(ConnectError):
    """The broker was reached and refused user, password, token or virtual host."""

    def __init__(self, text: str) -> None:
        super().__init__(text, reason="authentication")


class PermissionDenied(UnimsgError):
    """Connected, but the user may not do a named operation on a named channel."""


class EncodeError(UnimsgError, ValueError):
    """The body, key, header or size of a message is invalid. Nothing was sent."""


class DecodeError(UnimsgError, ValueError):
    """A received body does not fit the channel's body type."""


class PublishError(UnimsgError):
    """A message was not confirmed by the broker. See the two kinds below it."""

    def __init__(self, text: str, *, channel: str, message_id: str) -> None:
        super().__init__(text)
        self.channel = channel
        self.message_id = message_id


class PublishRejected(PublishError):
    """Certainly not stored: it will never show up anywhere. Sending it again is safe."""


class Unroutable(PublishRejected):
    """The channel does not exist on the broker."""


class Refused(PublishRejected):
    """The broker refused the message: queue full, policy, invalid to it."""


class MessageTooLarge(PublishRejected):
    """The broker takes no message of this size on this channel."""


class PublishForbidden(PublishRejected, PermissionDenied):
    """The user may not write to this channel."""


class PublishUnconfirmed(PublishError, TimeoutError):
    """May be stored: no confirmation came within the deadline, or the connection was lost before it came.

    To repeat it without a second effect, send again with `id=error.message_id`.
    """


class RequestTimeout(UnimsgError, TimeoutError):
    """No reply came within the deadline."""


class RemoteError(UnimsgError):
    """The other side failed to handle a request."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.text = text


class BusClosed(UnimsgError):
    """The bus was used after its block ended."""
