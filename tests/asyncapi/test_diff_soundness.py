"""Whatever the schemas: where a body that the old document allows is refused by the new one, that is said."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from unimsg.asyncapi import diff

Json = dict[str, Any]

NAMES = ["a", "b"]
TEXTS = ["", "x", "xx", "y"]
SCALARS: st.SearchStrategy[Any] = st.sampled_from([None, True, False, -1, 0, 1, 2, 1.5, *TEXTS])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "c"]), inner, max_size=3),
    max_leaves=6,
)


def some(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=parts)


LIMITS = st.integers(0, 2)
PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.just({}),
    some(minimum=LIMITS, exclusiveMaximum=LIMITS).map(lambda more: {"type": "integer", **more}),
    some(maximum=LIMITS, exclusiveMinimum=LIMITS).map(lambda more: {"type": "number", **more}),
    some(minLength=LIMITS, maxLength=LIMITS, pattern=st.sampled_from(["x", "y"])).map(
        lambda more: {"type": "string", **more}
    ),
    st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}, {"$ref": "#/components/schemas/S"}]
    ),
    st.lists(st.sampled_from(["x", "y", None, 1]), min_size=1, max_size=3, unique=True).map(
        lambda some: {"enum": some}
    ),
    st.sampled_from(["x", 1, None]).map(lambda value: {"const": value}),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        some(
            properties=st.dictionaries(st.sampled_from(NAMES), inner, max_size=2),
            required=st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            additionalProperties=st.booleans() | inner,
            maxProperties=LIMITS,
        ).map(lambda more: {"type": "object", **more}),
        some(items=inner, minItems=LIMITS, maxItems=LIMITS, uniqueItems=st.booleans()).map(
            lambda more: {"type": "array", **more}
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"type": "array", "items": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        inner.map(lambda part: {"allOf": [part], "description": "said"}),
    )


SCHEMAS = st.recursive(PLAIN, containers, max_leaves=4)


def whole(schema: Any, shared: Any, action: str) -> Json:
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "channels": {"c": {"address": "c", "messages": {"c": {"payload": schema}}}},
        "operations": {"o": {"action": action, "channel": {"$ref": "#/channels/c"}}},
        "components": {"schemas": {"S": shared}},
    }


def fits(value: Any, document: Json, *, only_what_is_declared: bool) -> bool:
    payload = document["channels"]["c"]["messages"]["c"]["payload"]
    schema = {**payload, "components": document["components"]}
    return Draft7Validator(closed(schema) if only_what_is_declared else schema).is_valid(value)


def closed(part: Any) -> Any:
    """Programs that go by a document send no fields that it does not have, but in maps."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: closed(value) for key, value in part.items()}
    if "properties" in part and part.get("additionalProperties", True) is True and "type" in part:
        made["properties"] = {**{name: {} for name in part.get("required", ())}, **made["properties"]}
        made["additionalProperties"] = False
    return made


SHARED = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "object", "required": ["a"]}])
PAIRS = st.tuples(SCHEMAS, SCHEMAS) | SCHEMAS.flatmap(lambda one: st.tuples(st.just(one), SCHEMAS | st.just(one)))


@settings(max_examples=300, deadline=None)
@given(PAIRS, SHARED, SHARED, st.lists(VALUES, min_size=5, max_size=30))
def test_what_is_refused_now_was_said(pair: tuple[Any, Any], first: Any, second: Any, values: list[Any]) -> None:
    old, new = pair
    for action in ("receive", "send"):
        before, after = whole(old, first, action), whole(new, second, action)
        allowed, judge = (before, after) if action == "receive" else (after, before)
        refused = [
            value
            for value in values
            if fits(value, allowed, only_what_is_declared=True) and not fits(value, judge, only_what_is_declared=False)
        ]
        if refused:
            changes = diff(before, after)
            assert any(change.breaking for change in changes), (action, refused, changes)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, SHARED)
def test_what_is_the_same_is_no_change(schema: Any, shared: Any) -> None:
    for action in ("receive", "send"):
        assert diff(whole(schema, shared, action), whole(schema, shared, action)) == []
