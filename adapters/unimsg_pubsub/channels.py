"""gRPC channels: where to, with which credentials and which settings."""

import asyncio
import warnings
from pathlib import Path
from typing import Any

import google.auth
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core import grpc_helpers_async
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError

from unimsg import network
from unimsg.errors import AuthenticationError
from unimsg_pubsub.errors import LOG_IN
from unimsg_pubsub.options import PubSubBrokerOptions

SCOPES = ("https://www.googleapis.com/auth/pubsub",)

_COMMON = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Connections of its own, not shared with every other channel of the process to the same place.
    ("grpc.use_local_subchannel_pool", 1),
    # By default gRPC waits 1 s, later up to 2 min, between two tries of a lost connection, and 20 s for one try.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
SERVICE = (*_COMMON, ("grpc.keepalive_time_ms", 30_000))
# The emulator ends a connection that is probed more often than every 5 minutes ("too_many_pings").
EMULATOR = (*_COMMON, ("grpc.keepalive_time_ms", 320_000))


def open_channel(options: PubSubBrokerOptions, credentials: Credentials | None) -> Any:
    """A `grpc.aio.Channel`; it connects when it is first used."""
    if options.emulator:
        return grpc.aio.insecure_channel(options.emulator, options=EMULATOR)
    return grpc_helpers_async.create_channel(
        options.endpoint, credentials=credentials, scopes=SCOPES, ssl_credentials=_tls(options), options=SERVICE
    )


async def find_credentials(options: PubSubBrokerOptions) -> Credentials | None:
    """Those of `credentials_file`, else the Application Default Credentials; none for an emulator.

    Raises:
        AuthenticationError: there are none, or they cannot be read.
    """
    if options.emulator:
        return None
    try:
        return await asyncio.to_thread(_load, options.credentials_file)  # may ask Google Cloud's metadata server
    except (GoogleAuthError, OSError, ValueError) as error:
        raise AuthenticationError(f"pubsub: no credentials ({error}): {LOG_IN}") from error


def _load(file: str | None) -> Credentials:
    found: Credentials
    if file is None:
        found, _project = google.auth.default(scopes=SCOPES)
        return found
    with warnings.catch_warnings():
        # Warns against files of strangers; this one is named in the program's own configuration.
        warnings.simplefilter("ignore", DeprecationWarning)
        found, _project = google.auth.load_credentials_from_file(file, scopes=SCOPES)  # type: ignore[no-untyped-call]
    return found


def _tls(options: PubSubBrokerOptions) -> Any:
    """gRPC's TLS settings; None: its defaults.

    Raises:
        ConfigurationError: a file cannot be used.
    """
    if (tls := options.tls) is None:
        return None
    network.tls_context("pubsub://", tls)  # gRPC takes any bytes, and does not say later what was wrong with them
    authorities, key, certificate = (
        Path(file).read_bytes() if file else None
        for file in (tls.ca_file, tls.key_file or tls.cert_file, tls.cert_file)
    )
    return grpc.ssl_channel_credentials(authorities, key, certificate)


async def speaks_tls(target: str, within: float) -> bool:
    """Whether a server that did not understand plain text answers a TLS greeting."""
    host, port = network.host_and_port("pubsub://", target, 443)
    return await network.speaks_tls(host, port, within=within)
