"""The public names are those that are documented, no more and no less, and each explains itself."""

import inspect

import pytest

import unimsg
from unimsg import adapter, errors

DOCUMENTED = {
    # channels and messages
    *("ReplyQueue", "Survey"),
    *("Queue", "Topic", "message", "Message"),
    # sending, handling, running
    *("Sender", "Bus", "connect", "run", "Service", "Context"),
    # what becomes of a message that fails
    *("Retry", "RetryAfter", "Reject", "DeadLetter"),
    # and of one that comes twice
    *("Store", "MemoryStore"),
    # ports and configuration
    *("Codec", "Settings", "Health"),
}

TREE = {
    "UnimsgError": {Exception},
    "ConfigurationError": {errors.UnimsgError},
    "CapabilityError": {errors.ConfigurationError},
    "TopologyError": {errors.ConfigurationError},
    "ConnectError": {errors.UnimsgError},
    "AuthenticationError": {errors.ConnectError},
    "PermissionDenied": {errors.UnimsgError},
    "EncodeError": {errors.UnimsgError, ValueError},
    "DecodeError": {errors.UnimsgError, ValueError},
    "PublishError": {errors.UnimsgError},
    "PublishRejected": {errors.PublishError},
    "Unroutable": {errors.PublishRejected},
    "Refused": {errors.PublishRejected},
    "MessageTooLarge": {errors.PublishRejected},
    "PublishForbidden": {errors.PublishRejected, errors.PermissionDenied},
    "PublishUnconfirmed": {errors.PublishError, TimeoutError},
    "RequestTimeout": {errors.UnimsgError, TimeoutError},
    "RemoteError": {errors.UnimsgError},
    "BusClosed": {errors.UnimsgError},
}


def test_the_public_names_are_those_that_are_documented() -> None:
    wanted = DOCUMENTED | set(TREE)
    found = set(unimsg.__all__)
    assert found == wanted, f"missing: {sorted(wanted - found)}, extra: {sorted(found - wanted)}"
    assert list(unimsg.__all__) == sorted(unimsg.__all__), "in alphabetical order, each once"


def test_nothing_else_lies_around_in_the_package() -> None:
    modules = {name for name, value in vars(unimsg).items() if inspect.ismodule(value)}
    public = {name for name in vars(unimsg) if not name.startswith("_")} - modules - {"TYPE_CHECKING", "Any"}
    extra = public - set(unimsg.__all__)
    assert not extra, f"not in __all__: {sorted(extra)}"


@pytest.mark.parametrize("name", sorted(DOCUMENTED | set(TREE)))
def test_a_public_name_exists_and_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(unimsg, name)), f"unimsg.{name} does not explain itself"


@pytest.mark.parametrize(
    ("owner", "verb"),
    [
        *(
            (unimsg.Bus, verb)
            for verb in ("send", "publish", "pipeline", "health", "dead_letters", "drop_dead_letters", "redrive")
        ),
        *((unimsg.Sender, verb) for verb in ("send", "publish")),
        *((unimsg.Context, verb) for verb in ("message", "lost")),
        (unimsg.Service, "handler"),
        (unimsg.Settings, "load"),
        (unimsg.Health, "as_dict"),
        *((unimsg.Codec, verb) for verb in ("encode", "decode")),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_public_verb_has_a_docstring(owner: type, verb: str) -> None:
    own = inspect.getattr_static(owner, verb).__doc__ or getattr(owner, verb).__doc__
    assert own, f"{owner.__name__}.{verb} does not explain itself"


def test_no_other_name_can_be_taken_from_the_package() -> None:
    with pytest.raises(AttributeError, match="SettingsX"):
        unimsg.SettingsX  # noqa: B018  # the look-up is the test


# -- errors


def test_the_tree_of_errors_is_as_documented() -> None:
    found = {name: set(getattr(errors, name).__bases__) for name in errors.__all__}
    different = {name for name in TREE.keys() | found.keys() if TREE.get(name) != found.get(name)}
    assert not different, {name: found.get(name) for name in different}


def test_the_picture_of_the_tree_names_each_error_under_its_parent() -> None:
    picture = errors.__doc__ or ""
    assert [name for name in TREE if name not in picture] == []


def test_each_error_of_the_public_api_is_the_one_of_the_errors_module() -> None:
    assert all(getattr(unimsg, name) is getattr(errors, name) for name in TREE)


def test_an_unconfirmed_message_can_be_caught_as_a_timeout_and_repeated_by_its_id() -> None:
    error = errors.PublishUnconfirmed("no answer", channel="orders.place", message_id="7")
    assert isinstance(error, TimeoutError)
    assert (error.channel, error.message_id, str(error)) == ("orders.place", "7", "no answer")


def test_a_failed_connection_says_why_and_a_refused_login_says_that() -> None:
    assert errors.ConnectError("nobody listens", reason="refused").reason == "refused"
    assert errors.AuthenticationError("no such user").reason == "authentication"


def test_an_error_of_the_other_side_shows_its_code_and_its_text() -> None:
    assert str(errors.RemoteError("rejected", "no such order")) == "rejected: no such order"
    assert str(errors.RemoteError("internal")) == "internal"


# -- the port


def test_the_port_explains_each_of_its_names() -> None:
    silent = [name for name in adapter.__all__ if name != "Kind" and not inspect.getdoc(getattr(adapter, name))]
    assert silent == []


def test_each_method_of_the_port_states_its_obligation() -> None:
    silent = [
        f"{cls.__name__}.{name}"
        for cls in (adapter.Adapter, adapter.Receiver, adapter.Operations)
        for name in cls.__abstractmethods__
        if not getattr(cls, name).__doc__ and name != "operations"
    ]
    assert silent == []
