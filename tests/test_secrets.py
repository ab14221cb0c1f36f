"""A password comes from where it may stand, and appears nowhere else."""

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_like import Tea

import unimsg
from unimsg import ConfigurationError, ConnectError, Settings, UnimsgError, registry
from unimsg._urls import split_password
from unimsg.config import BrokerSettings
from unimsg.options import BrokerOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

CANARY = "canary-7f3a"


def password_of(settings: Settings, name: str = "default") -> str | None:
    secret = settings.brokers[name].options(name).get("password")
    return None if secret is None else secret.get_secret_value()  # type: ignore[attr-defined]  # a SecretStr


def write(text: str, path: str = "unimsg.toml") -> str:
    Path(path).write_text(text, encoding="utf-8")
    return path


# -- where it may come from


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_from_a_file_without_the_newline_at_its_end(end: str) -> None:
    Path("secret").write_bytes(f" {CANARY} ä{end}".encode())
    assert (
        password_of(Settings(brokers={"default": {"url": "amqp://u@host", "password_file": "secret"}}))
        == f" {CANARY} ä"
    )


def test_from_a_variable_of_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBIT_PASSWORD", CANARY)
    assert (
        password_of(Settings(brokers={"default": {"url": "amqp://u@host", "password_env": "RABBIT_PASSWORD"}}))
        == CANARY
    )


def test_they_are_read_when_they_are_needed_so_that_a_new_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(brokers={"default": {"url": "amqp://u@host", "password_env": "RABBIT_PASSWORD"}})
    for value in ("old", "new"):
        monkeypatch.setenv("RABBIT_PASSWORD", value)
        assert password_of(settings) == value


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{CANARY}@host/vhost",
        f"amqp://u:{CANARY}@h1,h2:5673/vhost",
        f"amqp://:{CANARY}@host",
        f"amqp://u@host?password={CANARY}&heartbeat=5",
        f"amqp://host/vhost?heartbeat=5&password={CANARY}#fragment",
        f"amqp://host?pass%77ord={CANARY}",
    ],
)
def test_from_the_url_and_then_it_stands_there_no_more(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("UNIMSG_URL", url)
    for settings in (Settings.load(), Settings(url=url), Settings().with_url(url)):
        assert password_of(settings) == CANARY
        assert CANARY not in settings.brokers["default"].url
    assert "heartbeat=5" not in url or "heartbeat=5" in Settings(url=url).brokers["default"].url


def test_from_a_nested_variable_as_text_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMSG_URL", "amqp://u@host")
    for password in ("12345", "true", "null", '"quoted"', "{}", "[1]", "1e5", " x "):
        monkeypatch.setenv("UNIMSG_BROKERS__DEFAULT__PASSWORD", password)
        assert password_of(Settings.load()) == password


printable = st.text(st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1)


@given(printable)
def test_any_password_can_be_written_percent_encoded(password: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in password.encode())
    assert split_password(f"amqp://u:{encoded}@host/v?x=1") == ("amqp://u@host/v?x=1", password)
    assert split_password(f"amqp://u@host/v?password={encoded}&x=1") == ("amqp://u@host/v?x=1", password)


@given(printable)
def test_an_unencoded_password_is_taken_out_or_the_url_is_refused_without_showing_it(password: str) -> None:
    url = f"amqp://u:{CANARY}{password}{CANARY}@host/v"
    try:
        left, found = split_password(url)
    except ValueError as error:
        left, found = "".join(traceback.format_exception(error)), "refused"
        left = re.sub(r"^    .*\n", "", left, flags=re.MULTILINE)  # source lines apart, which show the test
    assert found is not None
    assert CANARY not in left


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_is_refused_as_a_configuration_error(text: str) -> None:
    try:
        broker = Settings().with_url(text).brokers["default"]
    except ConfigurationError:
        return
    assert isinstance(broker.url, str)


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{CANARY}/x@host",
        f"amqp://u:{CANARY}#x@host",
        f"amqp://u:{CANARY}?x@host",
        f"amqp://u:x\uff0f{CANARY}@host",
        f"amqp://u:{CANARY}@[::1",
        f"amqp://u:{CANARY}@host?password={CANARY}",
        f"amqp://host?password={CANARY}&password=other",
        f"u:{CANARY}@host",
    ],
)
def test_a_url_whose_password_cannot_be_found_for_sure_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    makes: list[Callable[[], Settings]] = [
        lambda: Settings(url=url),
        lambda: Settings().with_url(url),
        lambda: load_with(monkeypatch, env=url),
        lambda: load_with(monkeypatch, file=url),
    ]
    for make in makes:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert CANARY not in "".join(traceback.format_exception(caught.value))


def load_with(monkeypatch: pytest.MonkeyPatch, *, env: str | None = None, file: str | None = None) -> Settings:
    if file is not None:
        write(f'url = "{file}"')
    if env is None:
        monkeypatch.delenv("UNIMSG_URL", raising=False)
    else:
        monkeypatch.setenv("UNIMSG_URL", env)
    return Settings.load()


def test_how_to_write_it_is_said() -> None:
    with pytest.raises(ConfigurationError, match="write / as %2F"):
        Settings(url=f"amqp://u:{CANARY}/x@host")


@pytest.mark.parametrize(
    "more",
    [
        {"password": CANARY, "password_file": "secret"},
        {"password_env": "X", "password_file": "secret"},
        {"url": f"amqp://u:{CANARY}@host", "password_env": "X"},
    ],
)
def test_more_than_one_password_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="more than one of password") as caught:
        Settings(brokers={"default": {"url": "amqp://u@host", **more}})
    assert CANARY not in str(caught.value)


def test_a_missing_file_or_variable_is_an_error_that_names_it() -> None:
    file = BrokerSettings(url="amqp://u@host", password_file="nowhere/secret")
    with pytest.raises(ConfigurationError, match=r"brokers\.main\.password_file: cannot read nowhere/secret: No such"):
        file.options("main")
    variable = BrokerSettings(url="amqp://u@host", password_env="RABBIT_PASSWORD")
    with pytest.raises(
        ConfigurationError, match=r"brokers\.main\.password_env: the variable RABBIT_PASSWORD is not set"
    ):
        variable.options("main")


def test_a_file_that_is_no_text_is_an_error_that_shows_nothing_of_it() -> None:
    Path("secret").write_bytes(f"{CANARY}\xff".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"brokers\.main\.password_file: secret is not UTF-8 text") as caught:
        BrokerSettings(url="amqp://u@host", password_file="secret").options("main")
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_nothing_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", CANARY)
    for text in ("${SECRET}", "$SECRET", "${file:/etc/passwd}", "%(SECRET)s"):
        assert password_of(Settings(brokers={"default": {"url": "amqp://u@host", "password": text}})) == text


# -- the environment replaces the file's


@pytest.mark.parametrize(
    "in_file",
    [
        'url = "amqp://u:old@localhost"',
        '[brokers.default]\nurl = "amqp://u:old@localhost"',
        '[brokers.default]\nurl = "amqp://u@localhost"\npassword = "old"',
        '[brokers.default]\nurl = "amqp://u@localhost"\npassword_file = "nowhere"',
        '[brokers.default]\nurl = "amqp://u@localhost"\npassword_env = "NOWHERE"',
        'url = "amqp://u@localhost"\n[brokers.default]\npassword_env = "NOWHERE"',
    ],
)
@pytest.mark.parametrize(
    "variables",
    [
        {"UNIMSG_URL": f"amqp://u:{CANARY}@host"},
        {"UNIMSG_BROKERS__DEFAULT__URL": f"amqp://u:{CANARY}@host"},
        {"UNIMSG_BROKERS__DEFAULT__PASSWORD": CANARY},
        {"UNIMSG_BROKERS__DEFAULT__PASSWORD_FILE": "secret"},
        {"UNIMSG_BROKERS__DEFAULT__PASSWORD_ENV": "RABBIT_PASSWORD", "RABBIT_PASSWORD": CANARY},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_password_of_the_environment_replaces_the_files_wherever_each_is_kept(
    monkeypatch: pytest.MonkeyPatch, in_file: str, variables: dict[str, str]
) -> None:
    write(CANARY, "secret")
    write(in_file)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert password_of(Settings.load()) == CANARY


# -- files get committed


@pytest.mark.parametrize(
    "text",
    [
        f'url = "amqp://u:{CANARY}@rabbit.prod"',
        f'url = "amqp://u:{CANARY}@10.0.0.1"',
        f'url = "amqp://u:{CANARY}@[2001:db8::1]"',
        f'url = "amqp://rabbit.prod?password={CANARY}"',
        f'url = "kafka://u:{CANARY}@localhost:9092,k2.prod:9092"',
        f'url = "amqp://u:{CANARY}@localhost.evil.example"',
        f'url = "amqp://u:{CANARY}@"',
        f'[brokers.default]\nurl = "amqp://u:{CANARY}@rabbit.prod"',
        f'[brokers.other]\nurl = "amqp://u@rabbit.prod"\npassword = "{CANARY}"',
        f'url = "amqp://u@rabbit.prod"\n[brokers.default]\npassword = "{CANARY}"',
        f'[brokers.default]\npassword = "{CANARY}"',
    ],
)
def test_a_password_in_a_file_for_another_host_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("UNIMSG_TOPOLOGY", "off")
    write(text)
    with pytest.raises(
        ConfigurationError, match=r"unimsg\.toml: brokers\.\w+ has a password for a host that is not"
    ) as caught:
        Settings.load()
    assert "password_file or password_env" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        f'url = "amqp://u:{CANARY}@localhost"',
        f'url = "amqp://u:{CANARY}@127.0.0.1:5672"',
        f'url = "amqp://u:{CANARY}@127.1.2.3"',
        f'url = "amqp://u:{CANARY}@[::1]:5672"',
        f'url = "kafka://u:{CANARY}@localhost:9092,127.0.0.1:9093"',
        f'[brokers.default]\nurl = "amqp://u@localhost"\npassword = "{CANARY}"',
        'url = "amqp://u@rabbit.prod"',
        '[brokers.default]\nurl = "amqp://u@rabbit.prod"\npassword_file = "secret"',
    ],
)
def test_for_this_machine_or_kept_elsewhere_it_is_fine(text: str) -> None:
    write(text)
    write(CANARY, "secret")
    assert password_of(Settings.load()) == (CANARY if CANARY in text or "password_file" in text else None)


# -- it appears nowhere


def reachable(root: object) -> Iterator[object]:
    """Everything of ours that hangs on an object, itself included."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            todo += value
        elif type(value).__module__.partition(".")[0].startswith(("unimsg", "pydantic", "memory_like")):
            yield value
            todo += vars(value).values() if hasattr(value, "__dict__") else []
            for cls in type(value).__mro__:
                slots = cls.__dict__.get("__slots__", ())
                todo += [getattr(value, slot) for slot in slots if hasattr(value, slot)]


def assert_hidden(root: object) -> None:
    for value in reachable(root):
        for shown in (repr(value), str(value)):
            assert CANARY not in shown, f"a {type(value).__name__} shows it"


SOURCES: dict[str, dict[str, Any]] = {
    "in the URL": {"url": f"amqp://u:{CANARY}@127.0.0.1:1/"},
    "in its query": {"url": f"amqp://127.0.0.1:1/?password={CANARY}"},
    "beside it": {"brokers": {"default": {"url": "amqp://127.0.0.1:1/", "password": CANARY}}},
    "in a file": {"brokers": {"default": {"url": "amqp://127.0.0.1:1/", "password_file": "secret"}}},
    "in a variable": {"brokers": {"default": {"url": "amqp://127.0.0.1:1/", "password_env": "RABBIT_PASSWORD"}}},
    "misspelt": {"brokers": {"default": {"url": "amqp://127.0.0.1:1/", "pasword": CANARY}}},
}


@pytest.fixture(params=SOURCES)
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    write(CANARY, "secret")
    monkeypatch.setenv("RABBIT_PASSWORD", CANARY)
    return Settings(**SOURCES[request.param])


def test_settings_and_all_in_them_hide_it(settings: Settings) -> None:
    assert_hidden(settings)
    assert_hidden(settings.with_url(f"amqp://u:{CANARY}@host"))


def test_a_dump_of_the_settings_hides_it() -> None:
    settings = Settings(url=f"amqp://u:{CANARY}@host")
    assert CANARY not in str(settings.model_dump())
    assert CANARY not in settings.model_dump_json()


@pytest.mark.parametrize(
    "broker",
    [
        {"url": "amqp://u@127.0.0.1:1"},
        {"url": "amqps://u@127.0.0.1:1"},
        {"url": "kafkas://u@127.0.0.1:1", "sasl": "plain"},
        {"url": "kafka://u@127.0.0.1:1", "sasl": "scram-sha-512"},
        {"url": "memory://"},
    ],
    ids=lambda broker: broker["url"],
)
def test_adapters_and_all_in_them_hide_it(broker: dict[str, str]) -> None:
    settings = Settings(brokers={"main": {**broker, "password": CANARY}})
    assert_hidden(registry.adapter_for("main", settings.brokers["main"]))


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{CANARY}@127.0.0.1:1/",
        f"amqps://u:{CANARY}@127.0.0.1:1/",
        f"kafka://u:{CANARY}@127.0.0.1:1?connect_timeout=1&sasl=plain",
        f"kafka://u:{CANARY}@127.0.0.1:1?connect_timeout=1&sasl=scram-sha-512",
        f"amqp://u:{CANARY}@127.0.0.1:1/?hartbeat=5",
        f"kafka://u:{CANARY}@127.0.0.1:1/?sals=plain",
        f"nosuch://u:{CANARY}@127.0.0.1:1/",
        f"amqp://u:{CANARY}@127.0.0.1:notaport/",
        f"kafka://u:{CANARY}@127.0.0.1:notaport/",
        f"pubsub://u:{CANARY}@project",
        f"memory://u:{CANARY}@host",
    ],
)
async def test_neither_the_error_of_a_failed_start_nor_the_log_of_the_client_shows_it(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnimsgError) as caught:
        async with unimsg.connect(url=url):
            pass
    assert isinstance(caught.value, ConnectError | ConfigurationError)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in re.sub(r"^    .*\n", "", shown, flags=re.MULTILINE), "source lines apart, which show the test"
    assert CANARY not in caplog.text
    for record in caplog.records:
        assert CANARY not in f"{record.__dict__}"


async def test_a_running_bus_and_its_health_hide_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    registry.register("tea", Tea)
    try:
        settings = Settings(brokers={"default": {"url": "tea://", "password": CANARY}})
        async with unimsg.connect(settings=settings) as bus:
            await bus.send(unimsg.Queue("orders.place", int), 1)
            assert_hidden(bus)
            health = await bus.health()
            assert CANARY not in f"{health} {health.as_dict()}"
    finally:
        registry.register("tea", None)
    assert CANARY not in caplog.text


def test_an_error_about_a_brokers_options_shows_no_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        BrokerOptions.read("brokers.main", {"pasword": CANARY, "connect_timeout": CANARY, "tls": {"ca_fil": CANARY}})
    text = "".join(traceback.format_exception(caught.value))
    assert CANARY not in re.sub(r"^    .*\n", "", text, flags=re.MULTILINE)
    for says in (
        r"brokers.main.pasword: unknown option; did you mean password?",
        r"brokers.main.connect_timeout: Input should be a valid number",
        r"brokers.main.tls.ca_fil: unknown option; did you mean ca_file?",
    ):
        assert says in str(caught.value)


def test_the_options_of_a_broker_hide_it() -> None:
    assert_hidden(BrokerOptions.read("brokers.main", {"password": CANARY}))
