"""The messages of one channel, in an old and a new document."""

from collections.abc import Iterator
from typing import Any

from unimsg.asyncapi._changes import Changes, Difference, Direction, changed
from unimsg.asyncapi._diff_avro import compare_avro
from unimsg.asyncapi._diff_json import JsonComparison
from unimsg.asyncapi._diff_protobuf import compare_protobuf
from unimsg.asyncapi._references import as_object, resolved
from unimsg.asyncapi._views import ChannelView, MessageView

Json = dict[str, Any]


def compare_messages(
    changes: Changes, old: ChannelView, new: ChannelView, old_document: Json, new_document: Json
) -> None:
    _Comparison(changes, old, new, old_document, new_document).run()


class _Comparison:
    def __init__(
        self, changes: Changes, old: ChannelView, new: ChannelView, old_document: Json, new_document: Json
    ) -> None:
        self._changes = changes
        self._where = f"reply to {old.facts.get('of', old.name)}" if old.is_reply else old.name
        self._own_type = old.facts.get("of", old.name) if old.is_reply else old.name
        self._old, self._new = list(old.messages.values()), list(new.messages.values())
        self._documents = (old_document, new_document)
        self._pairs: list[tuple[MessageView, MessageView, Direction]] = []

    def run(self) -> None:
        self._receive()
        self._send()
        for old, new in dict.fromkeys((old.key, new.key) for old, new, _ in self._pairs):
            self._compare(old, new)

    def _receive(self) -> None:
        """What others send by the old document must be taken."""
        before, after = _going(self._old, Direction.RECEIVED), _going(self._new, Direction.RECEIVED)
        if not before or not after:  # told as an operation that came or went
            return
        left = list(after)
        for old in before:
            new = _taker(old, after)
            if new is None:
                instead = self._not_taken(old, left)
                left = [each for each in left if each is not instead]
                continue
            left = [each for each in left if each is not new]
            self._pairs.append((old, new, Direction.RECEIVED))
            if old.is_any_type and not new.is_any_type:
                text = f"was read whatever its type; now its type must be {new.type}"
                self._add(old, text, breaking=True)
            if new.is_deprecated and not old.is_deprecated:
                self._add(old, "is an old type now: read still, and made into a new one", breaking=False)
        for new in left:
            self._add(new, f"is received too, as {new.content_type}", breaking=False)

    def _not_taken(self, old: MessageView, left: list[MessageView]) -> MessageView | None:
        """Says why; returns the new message that took its place, if one did."""
        same_type = [each for each in left if each.type == old.type]
        fresh = [each for each in left if each.type not in {each.type for each in self._old}]
        if same_type or any(each.type == old.type for each in _going(self._new, Direction.RECEIVED)):
            formats = ", ".join(dict.fromkeys(each.content_type for each in self._new if each.type == old.type))
            self._add(old, f"is not read as {old.content_type} any more, but as {formats}", breaking=True)
            return same_type[0] if same_type else None
        if len(fresh) == 1 and len(self._old) == 1:
            self._renamed(old, fresh[0], Direction.RECEIVED)
            return fresh[0]
        self._add(old, "is not received any more", breaking=True)
        return None

    def _send(self) -> None:
        """What others receive must be what the old document has."""
        before, after = _going(self._old, Direction.SENT), _going(self._new, Direction.SENT)
        if not before or not after:
            return
        if len(before) == len(after) == 1 and before[0].type != after[0].type:
            self._renamed(before[0], after[0], Direction.SENT)
            return
        for new in after:
            same_type = [each for each in before if each.type == new.type]
            same = next((each for each in same_type if each.content_type == new.content_type), None)
            if same is not None:
                self._pairs.append((same, new, Direction.SENT))
            elif same_type:
                self._add(new, f"is sent as {new.content_type}, not as {same_type[0].content_type}", breaking=True)
            else:
                self._add(new, "is sent too: who receives it must know it first", breaking=True)
        for old in before:
            if all(each.type != old.type for each in after):
                self._add(old, "is not sent any more", breaking=True)

    def _renamed(self, old: MessageView, new: MessageView, direction: Direction) -> None:
        self._changes.add(self._where, f"the message type changed from {old.type} to {new.type}", breaking=True)
        if old.content_type == new.content_type:
            self._pairs.append((old, new, direction))

    def _compare(self, old_key: str, new_key: str) -> None:
        pairs = [each for each in self._pairs if (each[0].key, each[1].key) == (old_key, new_key)]
        old, new, _ = pairs[0]
        directions = Direction.NONE
        for _, _, direction in pairs:
            directions |= direction
        if old.facts.get("kind") != new.facts.get("kind"):
            kinds = f"{old.facts.get('kind', 'none')} to {new.facts.get('kind', 'none')}"
            self._add(old, f"its kind changed from {kinds}", breaking=False)
        if directions is Direction.BOTH and ("written" in old.facts or "written" in new.facts):
            self._compare_apart(old, new)
            return
        sent_only = directions is Direction.SENT
        before, after = (old.written, new.written) if sent_only else (old.payload, new.payload)
        for each in self._differences(before, after, directions):
            self._add(old, each.text, breaking=bool(each.breaks & directions), path=each.path)

    def _compare_apart(self, old: MessageView, new: MessageView) -> None:
        """What is read, and what is written: of the second all that breaks, and what the first says nothing of."""
        told: set[str] = set()
        for each in self._differences(old.payload, new.payload, Direction.RECEIVED):
            told.add(each.path)
            self._add(old, each.text, breaking=bool(each.breaks & Direction.RECEIVED), path=each.path)
        for each in self._differences(old.written, new.written, Direction.SENT):
            breaking = bool(each.breaks & Direction.SENT)
            if breaking or each.path not in told:
                self._add(old, each.text, breaking=breaking, path=each.path)

    def _differences(self, old: Any, new: Any, directions: Direction) -> Iterator[Difference]:
        before, after = (as_object(resolved(d, each)) for d, each in zip(self._documents, (old, new), strict=True))
        languages = _language(before), _language(after)
        if languages[0] != languages[1]:
            yield changed("", f"the language of its schema changed from {languages[0]} to {languages[1]}")
        elif languages[0] == "Avro":
            yield from compare_avro(before, after, directions)
        elif languages[0] == "Protobuf" and isinstance(before["schema"], str) and isinstance(after["schema"], str):
            yield from compare_protobuf(before["schema"], after["schema"])
        elif languages[0] == "JSON Schema":
            yield from JsonComparison(*self._documents).compare(_schema(before, old), _schema(after, new))
        elif before.get("schema") != after.get("schema"):
            yield changed("", "its schema changed")

    def _add(self, message: MessageView, text: str, *, breaking: bool, path: str = "") -> None:
        where = [self._where]
        if message.type not in (self._own_type, f"{self._own_type}.reply"):
            where.append(message.type)
        if path:
            where.append(path)
        self._changes.add(" ".join(where), text, breaking=breaking)


def _going(messages: list[MessageView], direction: Direction) -> list[MessageView]:
    return [each for each in messages if direction in each.direction]


def _taker(old: MessageView, news: list[MessageView]) -> MessageView | None:
    """The new message as which the old one is read."""
    fitting = [each for each in news if each.content_type == old.content_type]
    for new in fitting:
        if new.type == old.type:
            return new
    any_type = [each for each in fitting if each.is_any_type]
    if any_type:
        return any_type[0]
    return None


def _language(payload: Json) -> str:
    said = payload.get("schemaFormat")
    if "schema" not in payload or not isinstance(said, str):
        return "JSON Schema"
    for word, language in (("avro", "Avro"), ("protobuf", "Protobuf"), ("schema+", "JSON Schema")):
        if word in said:
            return language
    return "JSON Schema" if "asyncapi" in said or "openapi" in said else said


def _schema(payload: Json, whole: Any) -> Any:
    return payload["schema"] if "schema" in payload and "schemaFormat" in payload else whole
