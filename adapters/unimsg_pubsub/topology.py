"""Names, and making what they name: a topic for each channel, a subscription for each reader."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from google.api_core.exceptions import GoogleAPICallError, MethodNotImplemented
from google.pubsub_v1 import types

from unimsg.adapter import Address, ChannelMissing, Difference, Kind, Wanted
from unimsg.errors import ConnectError, TopologyError
from unimsg_pubsub import derived, errors, history
from unimsg_pubsub.link import Answer, Link
from unimsg_pubsub.options import PubSubOptions
from unimsg_pubsub.wire import INBOX

LABEL = "unimsg-kind"
"""Of a topic: what it was declared as. A topic without it was made by others, and is taken as it is."""

INBOX_LIFE = timedelta(days=1)  # the least that Pub/Sub allows; a closed inbox is deleted at once
INBOX_RETENTION = timedelta(minutes=10)
LONGEST_RETENTION = timedelta(days=31)
DELETED = "_deleted-topic_"
"""What Pub/Sub calls a topic that was deleted while something still named it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A difference, and the field to update for it; None: it cannot be changed."""

    difference: Difference
    field: str | None


class Topology:
    """The topics and subscriptions of one project."""

    def __init__(self, project: str, link: Link, ack_deadline: int) -> None:
        self._project = project
        self._link = link
        self._ack_deadline = ack_deadline
        self.limits: dict[str, int] = {}
        """Deliveries after which a message of a queue or subscription is given up, as far as this process knows."""
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def topic(self, address: Address) -> str:
        """The topic to send to."""
        if address.kind is Kind.INBOX:
            prefix, found, _ = address.channel.partition("unimsg.inbox.")
            return self._topic(f"{prefix if found else ''}unimsg.replies")
        return self._topic(f"{address.name}..retry" if address.subscription else address.channel)

    def source(self, address: Address) -> str:
        """The topic that holds the channel."""
        return self._topic(address.channel)

    def subscription(self, address: Address) -> str:
        """What a receiver of `address` reads."""
        return f"projects/{self._project}/subscriptions/{address.name}"

    async def ensure(self, address: Address, wanted: Wanted, *, timeout: float) -> None:
        """As `Adapter.ensure`."""
        if address.kind is Kind.INBOX:
            return
        await self._ensure(address, wanted, monotonic() + timeout)

    async def _ensure(self, address: Address, wanted: Wanted, until: float) -> None:
        options = options_of(address, wanted)
        self.limits[address.name] = options.delivery_limit
        topic = self._wanted_topic(address, options, history.retention_of(address, wanted))
        found = await self._found_or_made(self.get_topic, self._create_topic, topic, until)
        changes = topic_changes(address, wanted, found)
        refuse(changes)
        if fields := [change.field for change in changes]:
            request = types.UpdateTopicRequest(topic=topic, update_mask={"paths": fields})
            rpc = self._link.publisher.update_topic
            await self._do("pubsub.topics.update", topic.name, rpc, request, until)
        if not has_subscription(address):
            return
        # Where Pub/Sub itself may move messages to is made first: without a subscription there they would be lost.
        if (dead := derived.graveyard_of(address)) is not None:
            await self._ensure(dead, replace(wanted, start=None, history=None), until)
        request = self._wanted_subscription(address, options)
        request.labels.update(history.beginning(wanted))
        request.retain_acked_messages = wanted.start is not None  # until it was sought: see history.START
        # One at a time: the emulator lets several creations of one subscription succeed at once, each throwing away
        # what the one before had received.
        lock = self._making.setdefault(request.name, asyncio.Lock())
        try:
            async with asyncio.timeout(until - monotonic()), lock:
                found = await self._found_or_made(self.get_subscription, self._create_subscription, request, until)
        except TimeoutError as error:
            text = f"pubsub: subscription {address.name} was not made in time"
            raise ConnectError(text, reason="timeout") from error
        changes = self.subscription_changes(address, options, found)
        refuse(changes)
        if fields := [change.field for change in changes]:
            await self._do(
                "pubsub.subscriptions.update",
                request.name,
                self._link.subscriber.update_subscription,
                types.UpdateSubscriptionRequest(subscription=request, update_mask={"paths": fields}),
                until,
            )
        if (start := history.to_seek(found)) is not None:
            await self._begin(found, start, until)

    async def make_reader(self, address: Address, since: datetime, *, timeout: float) -> None:
        """A subscription for one who reads what was published since then."""
        until = monotonic() + timeout
        request = types.Subscription(
            name=self.subscription(address),
            topic=self.source(address),
            ack_deadline_seconds=self._ack_deadline,
            enable_message_ordering=address.ordered,
            expiration_policy=types.ExpirationPolicy(ttl=INBOX_LIFE),
        )
        await self._create_subscription(request, until)
        await self._seek(request.name, since, until)

    async def _begin(self, found: types.Subscription, start: datetime, until: float) -> None:
        await self._seek(found.name, start, until)
        request = types.UpdateSubscriptionRequest(
            subscription=types.Subscription(name=found.name, topic=found.topic, retain_acked_messages=False),
            update_mask={"paths": ["retain_acked_messages"]},
        )
        rpc = self._link.subscriber.update_subscription
        await self._do("pubsub.subscriptions.update", found.name, rpc, request, until)

    async def _seek(self, name: str, moment: datetime, until: float) -> None:
        request = types.SeekRequest(subscription=name, time=moment)
        try:
            await self._do("pubsub.subscriptions.consume", name, self._link.subscriber.seek, request, until)
        except ConnectError as error:
            # The emulator seeks nothing that is ordered. A new such subscription begins with all that its topic
            # retains there, which is too much, but not too little.
            if not (self._link.emulator and isinstance(error.__cause__, MethodNotImplemented)):
                raise

    async def make_temporary(self, address: Address, *, timeout: float) -> None:
        """A subscription to a topic that exists, for one who watches: it keeps little, and expires."""
        until = monotonic() + timeout
        topic = await self.get_topic(self.source(address), until)
        request = types.Subscription(
            name=self.subscription(address),
            topic=topic.name,
            ack_deadline_seconds=self._ack_deadline,
            enable_message_ordering=address.ordered,
            message_retention_duration=INBOX_RETENTION,
            expiration_policy=types.ExpirationPolicy(ttl=INBOX_LIFE),
        )
        await self._found_or_made(self.get_subscription, self._create_subscription, request, until)

    async def delete_topic(self, name: str, *, timeout: float) -> None:
        rpc = self._link.publisher.delete_topic
        await self._do("pubsub.topics.delete", name, rpc, {"topic": name}, monotonic() + timeout)

    async def make_inbox(self, address: Address, *, timeout: float) -> None:
        """The topic of replies, and this inbox's own subscription to it."""
        until = monotonic() + timeout
        topic = types.Topic(name=self.topic(address))
        await self._found_or_made(self.get_topic, self._create_topic, topic, until)
        request = self._wanted_subscription(address, PubSubOptions(retention=INBOX_RETENTION))
        request.topic = topic.name
        request.filter = f'attributes."{INBOX}" = "{address.channel}"'  # the emulator keeps it and does not apply it
        request.expiration_policy = types.ExpirationPolicy(ttl=INBOX_LIFE)
        await self._found_or_made(self.get_subscription, self._create_subscription, request, until)

    async def delete_subscription(self, name: str, *, timeout: float) -> None:
        rpc = self._link.subscriber.delete_subscription
        await self._do("pubsub.subscriptions.delete", name, rpc, {"subscription": name}, monotonic() + timeout)

    async def get_topic(self, name: str, until: float) -> types.Topic:
        return await self._do(
            "pubsub.topics.get", name, self._link.publisher.get_topic, types.GetTopicRequest(topic=name), until
        )

    async def get_subscription(self, name: str, until: float) -> types.Subscription:
        rpc, request = self._link.subscriber.get_subscription, types.GetSubscriptionRequest(subscription=name)
        return await self._do("pubsub.subscriptions.get", name, rpc, request, until)

    def subscription_changes(
        self, address: Address, options: PubSubOptions, found: types.Subscription
    ) -> Sequence[Change]:
        """How `found` differs from what is wanted."""
        what = f"subscription {address.name}"
        rows: list[tuple[str, object, object, str | None]] = [
            ("topic", self.source(address), found.topic, None),
            ("order by key", address.ordered, found.enable_message_ordering, None),
        ]
        if (exactly_once := options.exactly_once) is not None:
            field = "enable_exactly_once_delivery"
            rows.append(("exactly-once delivery", exactly_once, found.enable_exactly_once_delivery, field))
        if (retention := options.retention) is not None:
            rows.append(("retention", retention, found.message_retention_duration, "message_retention_duration"))
        policy, field = self._wanted_policy(address, options), "dead_letter_policy"
        if policy is not None and found.dead_letter_policy.dead_letter_topic in ("", DELETED, policy.dead_letter_topic):
            rows.append(("dead letters", _policy_text(policy), _policy_text(found.dead_letter_policy), field))
        return [
            Change(Difference(f"{what} {setting}", _text(wanted), _text(is_)), field)
            for setting, wanted, is_, field in rows
            if wanted != is_
        ]

    def _topic(self, name: str) -> str:
        return f"projects/{self._project}/topics/{name}"

    def _wanted_topic(self, address: Address, options: PubSubOptions, kept: timedelta | None) -> types.Topic:
        labels = {**options.labels, LABEL: label_of(address)}
        return types.Topic(name=self.source(address), labels=labels, message_retention_duration=kept)

    def _wanted_subscription(self, address: Address, options: PubSubOptions) -> types.Subscription:
        return types.Subscription(
            name=self.subscription(address),
            topic=self.source(address),
            ack_deadline_seconds=self._ack_deadline,
            enable_message_ordering=address.ordered,
            enable_exactly_once_delivery=bool(options.exactly_once),
            dead_letter_policy=self._wanted_policy(address, options),
            message_retention_duration=options.retention or self._default_retention(address),
            expiration_policy=types.ExpirationPolicy(),  # there and without a time: never
            labels=options.labels,
        )

    def _wanted_policy(self, address: Address, options: PubSubOptions) -> types.DeadLetterPolicy | None:
        dead = derived.graveyard_of(address)
        if dead is None:
            return None
        return types.DeadLetterPolicy(
            dead_letter_topic=self._topic(dead.channel), max_delivery_attempts=options.delivery_limit
        )

    def _default_retention(self, address: Address) -> timedelta | None:
        """None: Pub/Sub's own, 7 days. The emulator allows no more."""
        return LONGEST_RETENTION if derived.role_of(address) == derived.DEAD and not self._link.emulator else None

    async def _create_topic(self, topic: types.Topic, until: float) -> types.Topic:
        return await self._do("pubsub.topics.create", topic.name, self._link.publisher.create_topic, topic, until)

    async def _create_subscription(self, wanted: types.Subscription, until: float) -> types.Subscription:
        rpc = self._link.subscriber.create_subscription
        return await self._do("pubsub.subscriptions.create", wanted.name, rpc, wanted, until)

    async def _found_or_made(self, get: Any, create: Any, wanted: Any, until: float) -> Any:
        """Looks first, so that who may not create anything can use what is there; then makes it, unless another
        process was faster. (Any: topics and subscriptions alike.)"""
        try:
            return await get(wanted.name, until)
        except ChannelMissing:
            pass
        try:
            return await create(wanted, until)
        except errors.AlreadyExists:
            return await get(wanted.name, until)

    async def _do(
        self, permission: str, resource: str, rpc: Callable[..., Awaitable[Answer]], request: object, until: float
    ) -> Answer:
        try:
            return await self._link.call(rpc, request, until=until)
        except GoogleAPICallError as error:
            raise errors.operation_error(error, self._link.target, permission, resource) from error


def options_of(address: Address, wanted: Wanted) -> PubSubOptions:
    """The options in `wanted`."""
    options = wanted.options if isinstance(wanted.options, PubSubOptions) else PubSubOptions()
    if derived.role_of(address):  # how long a queue keeps its messages is nothing to what waits or is dead
        return PubSubOptions(delivery_limit=options.delivery_limit, labels=options.labels)
    return options


def has_subscription(address: Address) -> bool:
    return address.kind is Kind.QUEUE or address.subscription is not None


def label_of(address: Address) -> str:
    return f"{address.kind.value}-ordered" if address.ordered else address.kind.value


def topic_changes(address: Address, wanted: Wanted, found: types.Topic) -> Sequence[Change]:
    """How `found` differs from what is wanted."""
    label, changes = found.labels.get(LABEL), []
    if label is not None and label != label_of(address):
        changes.append(Change(Difference(f"topic {address.channel} declared as", label_of(address), label), None))
    if (difference := history.forgets(address, wanted, found)) is not None:
        changes.append(Change(difference, "message_retention_duration"))
    return changes


def refuse(changes: Sequence[Change]) -> None:
    """
    Raises:
        TopologyError: one of them cannot be made.
    """
    fixed = [change.difference for change in changes if change.field is None]
    if fixed:
        text = "; ".join(f"{each.what}: wanted {each.wanted}, is {each.found}" for each in fixed)
        raise TopologyError(
            f"pubsub: {text}. Pub/Sub cannot change this: declare it as it is, or take a new name, or delete it "
            "with what it holds"
        )


def _policy_text(policy: types.DeadLetterPolicy) -> str:
    if not policy.dead_letter_topic:
        return "off"
    return f"to {policy.dead_letter_topic} after {policy.max_delivery_attempts} deliveries"


def _text(value: object) -> str:
    return str(value) if not isinstance(value, bool) else "on" if value else "off"
