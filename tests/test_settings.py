"""Where configuration comes from, what wins, and what is refused: before anything is sent, and with a suggestion."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unimsg
from unimsg import ConfigurationError, Queue, Service, Settings
from unimsg.config import BrokerSettings
from unimsg.memory import MemoryOptions

pytestmark = pytest.mark.usefixtures("elsewhere")

Env = Callable[..., None]


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    """Sets variables: env(URL="memory://") is UNIMSG_URL."""

    def set_all(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"UNIMSG_{name}", value if isinstance(value, str) else json.dumps(value))

    return set_all


def write(text: str, path: str = "unimsg.toml") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def default(settings: Settings) -> BrokerSettings:
    return settings.brokers["default"]


# -- where from


def test_nothing_configured_is_no_broker() -> None:
    assert Settings.load().brokers == {}


def test_the_file_lies_in_the_working_directory() -> None:
    write('url = "amqp://file"')
    assert default(Settings.load()).url == "amqp://file"


def test_or_in_the_nearest_folder_above(monkeypatch: pytest.MonkeyPatch) -> None:
    write('url = "amqp://far"')
    write('url = "amqp://near"', "a/unimsg.toml")
    Path("a/b/c").mkdir(parents=True)
    monkeypatch.chdir("a/b/c")
    assert default(Settings.load()).url == "amqp://near"


def test_a_folder_of_its_name_is_no_file() -> None:
    Path("unimsg.toml").mkdir()
    assert Settings.load().brokers == {}


def test_the_variable_names_another_file(env: Env) -> None:
    write('url = "amqp://here"')
    env(CONFIG=str(write('url = "amqp://named"', "etc/other.toml")))
    assert default(Settings.load()).url == "amqp://named"


def test_an_argument_names_another_file(env: Env) -> None:
    env(CONFIG="nowhere.toml")
    assert default(Settings.load(write('url = "amqp://argument"', "x.toml"))).url == "amqp://argument"
    assert default(Settings.load("x.toml")).url == "amqp://argument"


def test_a_named_file_that_is_missing_is_an_error(env: Env) -> None:
    env(CONFIG="nowhere.toml")
    with pytest.raises(ConfigurationError, match=r"cannot read nowhere\.toml"):
        Settings.load()
    with pytest.raises(ConfigurationError, match=r"cannot read other\.toml"):
        Settings.load("other.toml")


def test_an_empty_variable_names_no_file(env: Env) -> None:
    env(CONFIG="")
    write('url = "amqp://file"')
    assert default(Settings.load()).url == "amqp://file"


@pytest.mark.parametrize("text", ["url = ", "url = amqp://x", "[brokers", '\xff"'])
def test_a_malformed_file_is_an_error_that_names_it(text: str) -> None:
    Path("unimsg.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"unimsg\.toml is not valid TOML"):
        Settings.load()


def test_an_unreadable_file_is_an_error_that_names_it() -> None:
    Path("folder").mkdir()
    with pytest.raises(ConfigurationError, match="cannot read folder"):
        Settings.load("folder")


# -- what wins: code < file < environment < url=


def test_the_file_wins_over_the_code_and_the_environment_over_the_file(env: Env) -> None:
    channel = Queue("orders.place", int, options=[MemoryOptions(max_length=1, max_body=10)])
    route = {"memory": {"max_length": 2}}
    options = {**channel.options[0].model_dump(exclude_unset=True)}
    assert options == {"max_length": 1, "max_body": 10}
    write('url = "memory://"\n[channels."orders.place"]\nmemory = { max_length = 2 }\nmax_body = 20')
    assert Settings.load().channel("orders.place").model_dump(exclude_unset=True) == {**route, "max_body": 20}
    env(CHANNELS__ORDERS_PLACE__MAX_BODY="30")
    assert Settings.load().channel("orders.place").model_dump(exclude_unset=True) == {**route, "max_body": 30}


@pytest.mark.parametrize("in_file", ['url = "amqp://file"', '[brokers.default]\nurl = "amqp://file"'])
@pytest.mark.parametrize("variable", ["URL", "BROKERS__DEFAULT__URL", "BROKERS"])
def test_the_environment_wins_over_the_file_whichever_form_the_url_has(env: Env, in_file: str, variable: str) -> None:
    write(in_file)
    env(**{variable: {"default": {"url": "amqp://env"}} if variable == "BROKERS" else "amqp://env"})
    assert default(Settings.load()).url == "amqp://env"


def test_what_only_the_file_says_stays(env: Env) -> None:
    write('prefix = "ann."\ntopology = "verify"\n[brokers.default]\nurl = "amqp://file"\nheartbeat = 20')
    env(URL="amqp://env", TOPOLOGY="off")
    settings = Settings.load()
    assert (settings.prefix, settings.topology) == ("ann.", "off")
    assert (default(settings).url, default(settings).options("default")) == ("amqp://env", {"heartbeat": 20})


def test_the_argument_wins_over_all_and_keeps_nothing_of_the_old_broker(env: Env) -> None:
    write('[brokers.default]\nurl = "amqp://file"\npassword_file = "secret"\n[brokers.other]\nurl = "amqp://other"')
    env(URL="amqp://env")
    settings = Settings.load().with_url("memory://")
    assert default(settings) == BrokerSettings(url="memory://")
    assert settings.brokers["other"].url == "amqp://other"


async def test_connect_takes_the_url_over_environment_and_file(env: Env) -> None:
    env(URL="amqp://nowhere.invalid")
    write('url = "amqp://nowhere.invalid"')
    async with unimsg.connect(url="memory://") as bus:
        assert (await bus.health()).ready


async def test_explicit_settings_replace_file_and_environment(env: Env) -> None:
    env(URL="amqp://nowhere.invalid", TOPOLOGY="nonsense")
    write("nonsense")
    async with unimsg.connect(settings=Settings(url="memory://")) as bus:
        assert (await bus.health()).ready


async def test_connect_reads_file_and_environment() -> None:
    write('url = "memory://"')
    async with unimsg.connect() as bus:
        assert (await bus.health()).ready


def test_the_short_form_is_moved_to_the_default_broker() -> None:
    short = Settings(url="amqp://host", brokers={"other": {"url": "kafka://host"}})
    assert short.url is None
    assert short == Settings(brokers={"default": {"url": "amqp://host"}, "other": {"url": "kafka://host"}})


def test_settings_in_code_mirror_the_file() -> None:
    text = """
    topology = "verify"
    prefix = "ann."
    url = "amqp://host"
    [brokers.analytics]
    url = "kafka://h1:9092,h2:9092"
    sasl = "plain"
    [channels."web.*"]
    broker = "analytics"
    kafka = { partitions = 24 }
    [handlers."orders.placed/billing"]
    concurrency = 50
    prefetch = 200
    timeout = 1.5
    """
    write(text)
    values: dict[str, Any] = {
        "topology": "verify",
        "prefix": "ann.",
        "url": "amqp://host",
        "brokers": {"analytics": {"url": "kafka://h1:9092,h2:9092", "sasl": "plain"}},
        "channels": {"web.*": {"broker": "analytics", "kafka": {"partitions": 24}}},
        "handlers": {"orders.placed/billing": {"concurrency": 50, "prefetch": 200, "timeout": 1.5}},
    }
    assert Settings.load() == Settings(**values)


# -- environment


def test_nested_variables_go_one_level_down(env: Env) -> None:
    env(BROKERS__ANALYTICS__URL="kafka://host", BROKERS__ANALYTICS__SASL="plain", PREFIX="ann.")
    settings = Settings.load()
    assert settings.prefix == "ann."
    assert settings.brokers["analytics"].url == "kafka://host"
    assert settings.brokers["analytics"].options("analytics") == {"sasl": "plain"}


def test_whole_tables_are_json(env: Env) -> None:
    env(
        BROKERS={"default": {"url": "memory://"}},
        CHANNELS={"web.*": {"broker": "other"}, "web.clicks": {"name": "clicks"}, "orders": {"name": "o"}},
        HANDLERS={"orders.placed/billing": {"concurrency": 5}},
    )
    settings = Settings.load()
    assert settings.channel("web.clicks").model_dump(exclude_unset=True) == {"broker": "other", "name": "clicks"}
    assert settings.channel("orders").name == "o"
    assert settings.handler("orders.placed/billing").concurrency == 5


def test_json_is_merged_with_the_file_key_by_key(env: Env) -> None:
    write('url = "memory://"\n[channels."web.*"]\nbroker = "file"\nmax_body = 5')
    env(CHANNELS={"web.*": {"broker": "env"}})
    assert Settings.load().channel("web.x").model_dump(exclude_unset=True) == {"broker": "env", "max_body": 5}


@pytest.mark.parametrize("channel", ["orders.place", "orders-place", "orders_place"])
def test_a_channel_is_named_with_underscores_for_dots_and_dashes(env: Env, channel: str) -> None:
    env(CHANNELS__ORDERS_PLACE__NAME="other", CHANNELS__ORDERS_PLACE__KAFKA__PARTITIONS="24")
    settings = Settings.load().channel(channel)
    assert settings.name == "other"
    assert settings.model_dump(exclude_unset=True)["kafka"] == {"partitions": "24"}
    assert Settings.load().channel("orders").name is None


def test_a_channel_named_in_the_environment_wins_over_every_pattern(env: Env) -> None:
    write('[channels."orders.place"]\nname = "file"')
    env(CHANNELS__ORDERS_PLACE__NAME="env")
    assert Settings.load().channel("orders.place").name == "env"


async def test_a_variable_that_fits_two_channels_is_an_error_that_names_both(env: Env) -> None:
    env(URL="memory://", CHANNELS__ORDERS_PLACE__NAME="other")
    async with unimsg.connect() as bus:
        await bus.send(Queue("orders.place", int), 1)
        with pytest.raises(
            ConfigurationError, match=r"UNIMSG_CHANNELS__ORDERS_PLACE__.* both orders\.place and orders-place: .* JSON"
        ):
            await bus.send(Queue("orders-place", int), 1)


async def test_two_handled_channels_that_collide_are_found_at_the_start(env: Env) -> None:
    env(URL="memory://", CHANNELS__ORDERS_PLACE__NAME="other")
    service = Service("orders")
    for name in ("orders.place", "orders_place"):
        service.handler(Queue(name, int))(print_body)
    with pytest.raises(ConfigurationError, match="fits both"):
        async with unimsg.connect(service):
            pass


async def print_body(body: int) -> None:
    print(body)


async def test_channels_that_collide_are_fine_without_such_a_variable(env: Env) -> None:
    env(URL="memory://")
    async with unimsg.connect() as bus:
        await bus.send(Queue("orders.place", int), 1)
        await bus.send(Queue("orders-place", int), 1)


@pytest.mark.parametrize(
    "variable", ["TEST_KAFKA_URL", "LOG_LEVEL", "HOME", "VERSION", "DEPLOYMENT_ENVIRONMENT", "TEST_RABBITMQ_URL"]
)
def test_a_variable_of_somebody_else_is_nobodys_business(env: Env, variable: str) -> None:
    env(URL="memory://", **{variable: "x"})
    assert default(Settings.load()).url == "memory://"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ULR", "URL"),
        ("URLS", "URL"),
        ("TOPOLGY", "TOPOLOGY"),
        ("PREFX", "PREFIX"),
        ("BROKER__DEFAULT__URL", "BROKERS"),
        ("CHANELS__ORDERS__NAME", "CHANNELS"),
        ("HANDLER", "HANDLERS"),
        ("CONFIG_FILE", "CONFIG"),
        ("CONFG", "CONFIG"),
    ],
)
def test_a_misspelt_variable_is_an_error_with_a_suggestion(env: Env, variable: str, meant: str) -> None:
    env(**{variable: "canary"})
    with pytest.raises(
        ConfigurationError, match=f"UNIMSG_{variable} is unknown; did you mean UNIMSG_{meant}\\?"
    ) as caught:
        Settings.load()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("variable", ["BROKERS", "CHANNELS", "HANDLERS"])
@pytest.mark.parametrize("value", ["canary", '{"canary": ', "[1]", '"canary"', '{"a": "canary"}'])
def test_a_table_that_is_no_json_object_is_an_error_that_shows_no_value(env: Env, variable: str, value: str) -> None:
    env(**{variable: value})
    with pytest.raises(ConfigurationError, match=rf"(?i)environment: unimsg.*{variable}") as caught:
        Settings.load()
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "CHANNELS__ORDERS_PLACE__BROKR",
            "canary",
            "UNIMSG_CHANNELS: orders_place: brokr is unknown; did you mean broker?",
        ),
        ("CHANNELS__ORDERS_PLACE__MAX_BODY", "canary", "orders_place.max_body: Input should be a valid integer"),
        ("HANDLERS__ORDERS__CONCURENCY", "5", "handlers.orders.concurency: unknown option; did you mean concurrency?"),
        ("BROKERS__OTHER__USER", "canary", "brokers.other.url: Field required"),
        ("CHANNELS__ORDERS", "canary", "environment: "),
        ("TOPOLOGY", "canary", "topology: Input should be 'create', 'verify' or 'off'"),
        ("PREFIX", "Canary", "prefix: String should match"),
        ("URL", "amqp://u:canary@[::1", "brokers.default: this is not a valid URL"),
    ],
)
def test_a_wrong_key_or_value_of_a_variable_is_named_and_not_shown(
    env: Env, variable: str, value: str, says: str
) -> None:
    write('url = "amqp://localhost"')
    env(**{variable: value})
    with pytest.raises(ConfigurationError, match=re.escape(says)) as caught:
        Settings.load()
    assert "canary" not in str(caught.value).lower()


# -- what is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('ulr = "memory://"', "ulr: unknown option; did you mean url?"),
        ('topolgy = "off"', "topolgy: unknown option; did you mean topology?"),
        ('[broker.default]\nurl = "memory://"', "broker: unknown option; did you mean brokers?"),
        ('[handlers."a.b"]\nconcurency = 5', "handlers.a.b.concurency: unknown option; did you mean concurrency?"),
        (
            '[handlers."a.b"]\nstore = 1',
            "handlers.a.b.store: unknown option; known: concurrency, prefetch, retry, timeout",
        ),
        ('[channels."a.b"]\nbrokr = "x"', "channels.a.b: brokr is unknown; did you mean broker?"),
        ("[brokers.x]\nheartbeat = 5", "brokers.x.url: Field required"),
        ('topology = "maybe"', "topology: Input should be 'create', 'verify' or 'off'"),
        ('prefix = "Ann."', "prefix: String should match"),
        (f'prefix = "{"a" * 41}"', "prefix: String should have at most 40 characters"),
        ("brokers = 5", "brokers: Input should be a valid dictionary"),
        ('[brokers]\ndefault = "memory://"', "brokers.default: Input should be a valid dictionary"),
        ('[handlers."a.b"]\nconcurrency = 0', "handlers.a.b.concurrency: Input should be greater than or equal to 1"),
        ('[handlers."a.b"]\ntimeout = 0', "handlers.a.b.timeout: Input should be greater than 0"),
        ('[handlers."a.b"]\nprefetch = "many"', "handlers.a.b.prefetch: Input should be a valid integer"),
        ('[channels."a.b"]\nmax_body = 0', "channels.a.b.max_body: Input should be greater than or equal to 1"),
        ("url = 5", "brokers.default.url: Input should be a valid string"),
    ],
)
def test_a_wrong_key_or_value_is_named_and_what_was_meant_is_suggested(text: str, says: str) -> None:
    write(text)
    with pytest.raises(ConfigurationError, match=re.escape(says)):
        Settings.load()


def test_the_same_in_code() -> None:
    with pytest.raises(ConfigurationError, match=r"topolgy: unknown option; did you mean topology\?"):
        Settings(topolgy="off")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"topolgy: .*; ulr: ") as caught:
        Settings(topolgy="off", ulr="memory://")
    assert caught.value.__suppress_context__, "pydantic's own words are not shown beside it"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings(url="memory://").topology = "off"


def test_a_misspelt_url_of_a_broker_has_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"urll: unknown option; did you mean url\?"):
        Settings(brokers={"default": {"urll": "memory://"}})  # type: ignore[dict-item]  # as a file has it
