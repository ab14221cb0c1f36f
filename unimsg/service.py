"""Services and their handlers: declarations, made without a connection."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, overload

from typing_extensions import TypeVar

from unimsg._propagation import check_propagated
from unimsg.channel import Channel, Queue, Topic, check_short_name
from unimsg.context import Context
from unimsg.errors import ConfigurationError
from unimsg.retry import Retry
from unimsg.store import Store

if TYPE_CHECKING:
    from unimsg.bus import Bus

__all__ = ["Around", "Handler", "Service"]

Body = TypeVar("Body")
Reply = TypeVar("Reply", default=None)
State = TypeVar("State", default=None)

DEFAULT_RETRY = Retry(1, 10, 60)
MAX_WITHIN = 3600.0

Around = Callable[[Context[Any], Callable[[], Coroutine[Any, Any, None]]], Coroutine[Any, Any, None]]
"""`async def around(context, handle)`: wraps every attempt of every handler; awaits `handle()` once."""


class _Decorator(Protocol[Body, Reply, State]):
    @overload
    def __call__(
        self, f: Callable[[Body], Coroutine[Any, Any, Reply]], /
    ) -> Callable[[Body], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(
        self, f: Callable[[Body, Context[State]], Coroutine[Any, Any, Reply]], /
    ) -> Callable[[Body, Context[State]], Coroutine[Any, Any, Reply]]: ...
    @overload
    def __call__(self, f: Callable[[Body], Reply], /) -> Callable[[Body], Reply]: ...


class _BatchDecorator(Protocol[Body, State]):
    @overload
    def __call__(
        self, f: Callable[[Sequence[Body]], Coroutine[Any, Any, None]], /
    ) -> Callable[[Sequence[Body]], Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(
        self, f: Callable[[Sequence[Body], Context[State]], Coroutine[Any, Any, None]], /
    ) -> Callable[[Sequence[Body], Context[State]], Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(self, f: Callable[[Sequence[Body]], None], /) -> Callable[[Sequence[Body]], None]: ...


@dataclass(frozen=True, slots=True)
class Batching:
    """How a handler of batches gets them."""

    size: int
    within: float


@dataclass(frozen=True, slots=True)
class Handler:
    """One declared handler."""

    service: str
    function: Callable[..., Any]
    channel: Channel[Any, Any]
    subscription: str | None
    concurrency: int
    timeout: float
    retry: Retry | None
    replay: timedelta | None
    store: Store[Any] | None
    takes_context: bool
    is_async: bool
    batching: Batching | None = None
    propagate: Sequence[str] = ()

    @property
    def identity(self) -> str:
        """What the ids of what it sends derive from, and what stores know it by."""
        return f"{self.service}:{self.source}"

    @property
    def source(self) -> str:
        """What it reads, as configuration names it: `channel`, or `topic/subscription`."""
        return f"{self.channel.name}/{self.subscription}" if self.subscription else self.channel.name


class Service(Generic[State]):
    """A named group of handlers, with a state that lives as long as they run.

    `name` is the CloudEvents source of what it sends, and its subscription of each topic. `lifespan`: an async context
    manager made from the bus; what it yields is `context.state`. It is entered before the first message and left after
    the last. `sends`: the channels that it sends to, which its AsyncAPI document tells others; nothing else depends
    on it. `retry`: what becomes of a message whose handler failed, unless the handler has its own.
    `expose_errors`: the texts of errors, which may hold anything, go into dead letters. `grace`: seconds that running
    handlers get to end at shutdown; those that do not are cancelled, and their messages are delivered again. `around`:
    each wraps every attempt of every handler, the first outermost. `propagate`: names of headers (14 at most) that are
    copied from the message to all that its handler sends, publishes, requests or replies; what the call itself says
    wins. One that the message lacks is left out; of a batch, one in which its messages are not all alike.
    """

    @overload
    def __init__(
        self: "Service[None]",
        name: str,
        *,
        sends: Sequence[Channel[Any, Any]] = ...,
        retry: Retry = ...,
        expose_errors: bool = ...,
        grace: float = ...,
        around: Sequence[Around] = ...,
        propagate: Sequence[str] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        lifespan: "Callable[[Bus], AbstractAsyncContextManager[State]]",
        sends: Sequence[Channel[Any, Any]] = ...,
        retry: Retry = ...,
        expose_errors: bool = ...,
        grace: float = ...,
        around: Sequence[Around] = ...,
        propagate: Sequence[str] = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        lifespan: "Callable[[Bus], AbstractAsyncContextManager[Any]] | None" = None,
        sends: Sequence[Channel[Any, Any]] = (),
        retry: Retry = DEFAULT_RETRY,
        expose_errors: bool = False,
        grace: float = 25.0,
        around: Sequence[Around] = (),
        propagate: Sequence[str] = (),
    ) -> None:
        """Raises ConfigurationError: bad name, grace or propagate."""
        check_short_name("service", name)
        self.propagate = check_propagated(name, propagate)
        if not isinstance(retry, Retry):
            raise ConfigurationError(f"service {name}: retry must be a Retry, not {retry!r}: Retry(1, 10, 60)")
        if grace < 0:
            raise ConfigurationError(f"service {name}: grace must be 0 or more seconds, not {grace}")
        self.name = name
        self.lifespan = lifespan
        self.sends = _channels(name, sends)
        self.retry = retry
        self.expose_errors = expose_errors
        self.grace = grace
        self.around = tuple(around)
        self.handlers: list[Handler] = []

    def __repr__(self) -> str:
        return f"Service({self.name!r})"

    @overload
    def handler(
        self,
        channel: Queue[Body, Reply],
        *,
        store: Store[None] | None = ...,
        concurrency: int = ...,
        retry: Retry | None = ...,
        timeout: float = ...,
    ) -> _Decorator[Body, Reply, State]: ...
    @overload
    def handler(
        self,
        channel: Topic[Body, Reply],
        *,
        subscription: str | None = ...,
        replay: timedelta | None = ...,
        store: Store[None] | None = ...,
        concurrency: int = ...,
        retry: Retry | None = ...,
        timeout: float = ...,
    ) -> _Decorator[Body, Reply | None, State]: ...
    def handler(
        self,
        channel: Channel[Any, Any],
        *,
        subscription: str | None = None,
        replay: timedelta | None = None,
        store: Store[Any] | None = None,
        concurrency: int = 10,
        retry: Retry | None = None,
        timeout: float = 300.0,
    ) -> Any:  # the overloads type it
        """Makes the decorated function handle the channel's messages.

        It takes `(body)` or `(body, context)` and is `async def`, or `def` for `(body)` alone, which then runs in a
        thread. `subscription`, of a topic: the durable reader's name, the service's unless given. `replay`, of a
        topic with history: a subscription that does not exist yet begins so far back. `store`: remembers
        the messages that were handled, so that a repeated one is not handled again. `concurrency`: how many messages
        it handles at once in this process, of one key never more than one. `retry`: what becomes of a message when it
        fails, instead of what the service says. `timeout`: seconds after which it is cancelled, which is a failure of
        the handler. The thread of a `def` handler cannot be cancelled: its message and its slot stay held until it
        ends, and so does the process at its exit.

        Raises:
            ConfigurationError: wrong parameters, or another handler reads the same.
        """
        return self._declaration(channel, subscription, replay, concurrency, retry, timeout, store=store)

    @overload
    def batch_handler(
        self,
        channel: Queue[Body, Any],
        *,
        size: int = ...,
        within: float = ...,
        concurrency: int = ...,
        retry: Retry | None = ...,
        timeout: float = ...,
    ) -> _BatchDecorator[Body, State]: ...
    @overload
    def batch_handler(
        self,
        channel: Topic[Body, Any],
        *,
        size: int = ...,
        within: float = ...,
        subscription: str | None = ...,
        replay: timedelta | None = ...,
        concurrency: int = ...,
        retry: Retry | None = ...,
        timeout: float = ...,
    ) -> _BatchDecorator[Body, State]: ...
    def batch_handler(
        self,
        channel: Channel[Any, Any],
        *,
        size: int = 100,
        within: float = 1.0,
        subscription: str | None = None,
        replay: timedelta | None = None,
        concurrency: int = 1,
        retry: Retry | None = None,
        timeout: float = 300.0,
    ) -> Any:  # the overloads type it
        """Makes the decorated function handle the channel's messages many at a time.

        It takes a sequence of bodies, and a context if it wants one, whose `messages` are theirs. When it returns, all
        are done. When it fails, it gets each of them again by itself, so that only those at fault are tried again, or
        are dead letters. `size`: messages of a batch at most. `within`: seconds that a batch waits to become full.
        `concurrency`: batches at once; a key is in one of them at a time. The ids of what it sends through the context
        derive from the first message of the batch. The rest is as of `handler`.

        Raises:
            ConfigurationError: wrong parameters, or another handler reads the same.
        """
        if not (isinstance(size, int) and size >= 1 and 0 <= within <= MAX_WITHIN):
            raise ConfigurationError(f"{channel.name}: size must be 1 or more, within 0 to {MAX_WITHIN:g} seconds")
        if isinstance(channel, Queue) and channel.replies is not None:
            raise ConfigurationError(
                f"{channel.name} declares replies, and a batch handler gives none: make it a handler"
            )
        return self._declaration(
            channel, subscription, replay, concurrency, retry, timeout, batching=Batching(size, within)
        )

    def _declaration(
        self,
        channel: Channel[Any, Any],
        subscription: str | None,
        replay: timedelta | None,
        concurrency: int,
        retry: Retry | None,
        timeout: float,
        *,
        store: Store[Any] | None = None,
        batching: Batching | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """The decorator that declares the handler."""
        if isinstance(channel, Topic):
            subscription = self.name if subscription is None else subscription
            check_short_name("subscription", subscription)
        elif subscription is not None:
            raise ConfigurationError(f"{channel.name} is a queue: only topics have subscriptions")
        if replay is not None and (channel.history is None or replay > channel.history):
            raise ConfigurationError(
                f"{channel.name}: replay={replay!r}, and its history is {channel.history!r}: declare the topic with a "
                "longer one"
            )
        if not (isinstance(concurrency, int) and concurrency >= 1 and timeout > 0):
            raise ConfigurationError(f"{channel.name}: concurrency must be 1 or more, timeout more than 0 seconds")
        if not (retry is None or isinstance(retry, Retry)):
            raise ConfigurationError(f"{channel.name}: retry must be a Retry, not {retry!r}: Retry(1, 10, 60)")
        if store is not None and (isinstance(store, type) or not callable(getattr(store, "begin", None))):
            raise ConfigurationError(f"{channel.name}: store must be a Store, not {store!r}: MemoryStore()")

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            takes_context, is_async = _signature(channel.name, function)
            handler = Handler(
                service=self.name,
                function=function,
                channel=channel,
                subscription=subscription,
                concurrency=concurrency,
                timeout=timeout,
                retry=retry,
                replay=replay,
                store=store,
                takes_context=takes_context,
                is_async=is_async,
                batching=batching,
                propagate=self.propagate,
            )
            refuse_second(self.handlers, handler)
            self.handlers.append(handler)
            return function

        return declare


def _channels(service: str, sends: Sequence[Channel[Any, Any]]) -> tuple[Channel[Any, Any], ...]:
    channels = tuple(sends)
    for channel in channels:
        if not isinstance(channel, Channel):
            raise ConfigurationError(f"service {service}: sends= takes queues and topics, not {channel!r}")
    return channels


def refuse_second(handlers: Sequence[Handler], handler: Handler) -> None:
    """Raises ConfigurationError if another handler reads the same channel and subscription."""
    for other in handlers:
        if other.source == handler.source:
            names = f"{_name(other.function)} and {_name(handler.function)}"
            hint = "give one of them subscription=" if handler.subscription else "a queue has one handler in a process"
            raise ConfigurationError(f"two handlers for {handler.source}: {names}; {hint}")


def _signature(channel: str, function: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether it takes a context, and whether it is async."""
    name = _name(function)
    if not callable(function):
        raise ConfigurationError(f"{channel}: a handler must be a function, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{channel}: handler {name} has a yield: it would return before it did anything")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # asks whether a callable object's call is async
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise ConfigurationError(f"{channel}: the parameters of handler {name} cannot be seen") from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if keyword_only or len(required) not in (1, 2):
        raise ConfigurationError(f"{channel}: handler {name} must take (body) or (body, context)")
    takes_context = len(required) == 2
    if takes_context and not is_async:
        raise ConfigurationError(
            f"{channel}: handler {name} takes a context and must be async def: it runs in the loop"
        )
    return takes_context, is_async


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
