"""The connections to one project: two gRPC channels, and the generated clients on them.

Two, so that a large publish does not hold up the leases and acknowledgements of what is being handled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import Credentials
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from unimsg.backoff import Backoff
from unimsg_pubsub import errors
from unimsg_pubsub.channels import find_credentials, open_channel, speaks_tls
from unimsg_pubsub.options import PubSubBrokerOptions

Answer = TypeVar("Answer")
State = grpc.ChannelConnectivity


class Link:
    """The clients of one project. gRPC reconnects by itself, for ever; `call` waits for it."""

    def __init__(self, options: PubSubBrokerOptions, credentials: Credentials | None) -> None:
        self.target = options.target
        self._channels = [open_channel(options, credentials) for _ in range(2)]
        self.publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=self._channels[0]))
        self.subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=self._channels[1]))
        self.emulator = options.emulator is not None
        self._closed = False

    @classmethod
    async def open(cls, project: str, options: PubSubBrokerOptions, *, timeout: float) -> "Link":
        """Connects and authenticates.

        Raises:
            ConnectError, AuthenticationError: as `Adapter.connect`.
        """
        until = monotonic() + timeout
        try:
            async with asyncio.timeout(timeout):
                credentials = await find_credentials(options)
        except TimeoutError as error:
            raise errors.connect_error("Google Cloud's metadata server", errors.NotReached("no answer")) from error
        link = cls(options, credentials)
        try:
            await link._probe(project, until)
        except BaseException:  # a cancelled connect leaves no connection either
            await link.aclose()
            raise
        return link

    async def call(
        self,
        rpc: Callable[..., Awaitable[Answer]],
        request: object,
        *,
        until: float,
        again: Callable[[GoogleAPICallError], bool] = errors.passing,
    ) -> Answer:
        """The answer of `rpc`; what fails in a way that `again` knows is tried again until `until`, a `monotonic()`.

        Raises:
            GoogleAPICallError: the failure that counts.
        """
        channel = self._channels[0 if getattr(rpc, "__self__", None) is self.publisher else 1]
        backoff = Backoff()
        while True:
            await self._settled(channel, until)
            try:
                return await rpc(request=request, retry=None, timeout=max(until - monotonic(), 0.001))
            except asyncio.CancelledError:
                if this_task_is_cancelled():
                    raise
                raise errors.Interrupted("the connection was closed meanwhile") from None
            except GoogleAPICallError as error:
                wait = backoff.next()
                if not again(error) or monotonic() + wait >= until:
                    raise
            await asyncio.sleep(wait)

    @property
    def connected(self) -> bool:
        """Whether no connection is known to be lost; one that nothing needed yet is not."""
        lost = State.TRANSIENT_FAILURE
        return not self._closed and all(channel.get_state() is not lost for channel in self._channels)

    async def aclose(self) -> None:
        self._closed = True
        for channel in self._channels:
            await channel.close()

    async def _settled(self, channel: Any, until: float) -> None:
        """Waits while `channel` connects. A call would wait just so, but when its time was up nobody could tell
        whether it had left."""
        while not self._closed and (state := channel.get_state(try_to_connect=True)) in (State.IDLE, State.CONNECTING):
            try:
                async with asyncio.timeout(until - monotonic()):
                    await channel.wait_for_state_change(state)
            except TimeoutError as error:
                raise errors.NotReached(f"no connection to {self.target} in time") from error
        if self._closed:
            raise errors.NotReached("the connection is closed")

    async def _probe(self, project: str, until: float) -> None:
        """A cheap call: an answer about a topic, whichever, shows that the service is there and knows us."""
        request = {"topic": f"projects/{project}/topics/unimsg.replies"}
        try:
            await self.call(self.publisher.get_topic, request, until=until, again=lambda error: False)
        except GoogleAPICallError as error:
            if errors.missing(error) or errors.not_allowed(error):
                return
            # Plain text to a TLS port ends as it does with a server that speaks anything else.
            strange = self.emulator and errors.connect_reason(error) in ("protocol", "timeout")
            tls = strange and await speaks_tls(self.target, within=1.0)
            raise errors.connect_error(self.target, error, speaks_tls=tls) from error


def this_task_is_cancelled() -> bool:
    """Whether somebody cancels the running task. A call whose channel was closed, or that was cancelled itself, raises
    the same CancelledError in whoever waits for it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
