"""Two documents, an old and a new one: what changed for those at the other end."""

from typing import Any

from unimsg.asyncapi._changes import Change, Changes, Direction, shown
from unimsg.asyncapi._diff_messages import compare_messages
from unimsg.asyncapi._views import ChannelView, channels_of
from unimsg.asyncapi._words import duration

Json = dict[str, Any]


def diff(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """What changed from `old` to `new`, breaking changes first. Both are AsyncAPI 3 documents, of any maker.

    A change is breaking where a program at the other end, written by the old document, can fail with the new one: of
    what the services receive, where they take less; of what they send, where they send what is new.
    """
    changes = Changes()
    before, after = channels_of(old), channels_of(new)
    for name, channel in before.items():
        if name not in after:
            _removed(changes, channel)
        else:
            _compare(changes, channel, after[name], old, new)
    for name, channel in after.items():
        if name not in before and not channel.is_reply:
            changes.add(name, f"the {_kind(channel)} is new", breaking=False)
    return list(changes)


def _removed(changes: Changes, channel: ChannelView) -> None:
    if channel.is_reply:  # its operations tell
        return
    received = Direction.RECEIVED in channel.direction
    why = "what is sent to it is received by nobody" if received else "nothing is sent to it any more"
    changes.add(channel.name, f"the {_kind(channel)} was removed: {why}", breaking=True)


def _compare(changes: Changes, old: ChannelView, new: ChannelView, old_document: Json, new_document: Json) -> None:
    if not old.is_reply:
        _compare_places(changes, old, new)
        _compare_facts(changes, old, new)
        _compare_operations(changes, old, new)
    compare_messages(changes, old, new, old_document, new_document)


def _compare_places(changes: Changes, old: ChannelView, new: ChannelView) -> None:
    if old.kind != new.kind and old.kind and new.kind:
        changes.add(old.name, f"the {old.kind} became a {new.kind}", breaking=True)
    if old.address != new.address:
        changes.add(old.name, f"the address changed from {shown(old.address)} to {shown(new.address)}", breaking=True)
    if old.protocols != new.protocols and old.protocols and new.protocols:
        moved = f"it moved from {', '.join(old.protocols)} to {', '.join(new.protocols)}"
        changes.add(old.name, moved, breaking=True)


def _compare_facts(changes: Changes, old: ChannelView, new: ChannelView) -> None:
    """What is in force for all its messages. A document of another maker does not say."""
    if not (old.facts and new.facts):
        return
    _compare_order(changes, old, new)
    name = old.name
    before, after = old.facts.get("ttl"), new.facts.get("ttl")
    if before != after:
        text = f"the time to live changed from {_time(before)} to {_time(after)}"
        changes.add(name, text, breaking=_is_shorter(before, after))
    before, after = old.facts.get("history"), new.facts.get("history")
    if before != after:
        text = f"the history changed from {_time(before)} to {_time(after)}"
        changes.add(name, text, breaking=after is None or (before is not None and after < before))
    before, after = old.facts.get("maxBody"), new.facts.get("maxBody")
    if before != after:
        smaller = after is not None and (before is None or after < before)
        text = f"the largest body changed from {_bytes(before)} to {_bytes(after)}"
        breaks = Direction.RECEIVED if smaller else Direction.SENT
        changes.add(name, text, breaking=bool(old.direction & breaks))


def _compare_order(changes: Changes, old: ChannelView, new: ChannelView) -> None:
    was, is_ = bool(old.facts.get("ordered")), bool(new.facts.get("ordered"))
    if was and not is_:
        changes.add(old.name, "order was lost: messages of one key may be handled in any order", breaking=True)
    elif is_ and not was:
        text = "it became ordered: each message needs a key now, and the broker keeps it elsewhere"
        changes.add(old.name, text, breaking=True)
    elif was:
        before, after = old.facts.get("key"), new.facts.get("key")
        if before != after:
            text = f"the key changed from {_key(before)} to {_key(after)}: order is kept among other messages"
            changes.add(old.name, text, breaking=True)
        before, after = old.facts.get("partitions"), new.facts.get("partitions")
        if before != after and before is not None and after is not None:
            changes.add(old.name, f"the partitions changed from {before} to {after}: keys move", breaking=True)


def _compare_operations(changes: Changes, old: ChannelView, new: ChannelView) -> None:
    before = {each.name: each for each in old.operations}
    after = {each.name: each for each in new.operations}
    for name, operation in before.items():
        receives = operation.action == "receive"
        if name not in after:
            changes.add(old.name, _gone(operation.action, operation.subscription), breaking=True)
        elif operation.reply and not after[name].reply:
            text = "the reply was removed" if receives else "no reply is wanted any more"
            changes.add(old.name, text, breaking=receives)
        elif after[name].reply and not operation.reply:
            text = "it is replied to now" if receives else "a reply is wanted now"
            changes.add(old.name, text, breaking=not receives)
    for name, operation in after.items():
        if name not in before:
            changes.add(old.name, _here(operation.action, operation.subscription), breaking=False)


def _gone(action: str, subscription: str) -> str:
    if action != "receive":
        return "nothing is sent to it any more"
    if subscription:
        return f"the subscription {subscription} was removed: what waits in it is received by nobody"
    return "what is sent to it is received by nobody"


def _here(action: str, subscription: str) -> str:
    if action != "receive":
        return "it is sent to now"
    return f"the subscription {subscription} is new" if subscription else "it is received now"


def _kind(channel: ChannelView) -> str:
    return channel.kind or "channel"


def _is_shorter(before: Any, after: Any) -> bool:
    return after is not None and (before is None or after < before)


def _time(seconds: Any) -> str:
    return "none" if seconds is None else duration(float(seconds))


def _bytes(size: Any) -> str:
    return "the default" if size is None else f"{size} bytes"


def _key(key: Any) -> str:
    return "one that each sender gives" if key is None else str(key)
