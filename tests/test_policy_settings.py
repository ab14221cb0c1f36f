"""Which policy is in force: the handler's, else the service's; their delays can be configured."""

import json
from pathlib import Path
from typing import Any

import pytest
from policies import held
from waiting import until

import unimsg
from unimsg import ConfigurationError, Context, Queue, Retry, Service, Settings, Topic

pytestmark = pytest.mark.usefixtures("elsewhere")

numbers = Queue("policy.numbers", int)
events = Topic("policy.events", int)


async def attempts(service: Service[None], settings: Settings, error: Exception | None = None) -> int:
    """How often a message is handled that always fails."""
    tried: list[int] = []
    for handler in service.handlers:
        object.__setattr__(handler, "function", failing(tried, error))
    async with unimsg.connect(service, settings=settings) as bus:
        if service.handlers[0].subscription:
            await bus.publish(events, 7)
            await until(lambda: held("policy.events..shop..dead"), "the dead letter")
        else:
            await bus.send(numbers, 7)
            await until(lambda: held("policy.numbers..dead"), "the dead letter")
    return len(tried)


def failing(tried: list[int], error: Exception | None) -> Any:
    async def handle(body: int) -> None:
        tried.append(body)
        raise error or ValueError

    return handle


def declared(of_service: Retry | None = None, of_handler: Retry | None = None, topic: bool = False) -> Service[None]:
    service = Service("shop") if of_service is None else Service("shop", retry=of_service)

    async def handle(body: int) -> None: ...

    if topic:
        service.handler(events, retry=of_handler)(handle)
    else:
        service.handler(numbers, retry=of_handler)(handle)
    return service


IN_MEMORY = Settings(url="memory://")


@pytest.mark.parametrize(
    ("of_service", "of_handler", "wanted"),
    [
        (Retry(0.01), None, 2),
        (Retry(0.01), Retry(0.01, 0.01), 3),
        (Retry(0.01), Retry(), 1),
        (None, Retry(0.01), 2),
    ],
)
async def test_the_handlers_own_policy_wins(of_service: Retry | None, of_handler: Retry | None, wanted: int) -> None:
    assert await attempts(declared(of_service, of_handler), IN_MEMORY) == wanted


@pytest.mark.parametrize("configured", [[], [0.01], [0, 0.01, 0.01]])
async def test_configured_delays_win_over_both(configured: list[float]) -> None:
    settings = Settings(url="memory://", handlers={"policy.numbers": {"retry": configured}})
    assert await attempts(declared(Retry(30), Retry(30)), settings) == len(configured) + 1


async def test_final_errors_stay_those_of_the_code() -> None:
    settings = Settings(url="memory://", handlers={"policy.numbers": {"retry": [0.01, 0.01]}})
    service = declared(Retry(30, final=(KeyError,)))
    assert await attempts(service, settings, KeyError()) == 1


async def test_a_subscription_is_configured_by_topic_and_name() -> None:
    settings = Settings(url="memory://", handlers={"policy.events/shop": {"retry": [0.01]}})
    assert await attempts(declared(Retry(30), topic=True), settings) == 2


async def test_the_file_is_read(elsewhere: Path) -> None:
    (elsewhere / "unimsg.toml").write_text('url = "memory://"\n[handlers."policy.numbers"]\nretry = [0.01, 0]\n')
    assert await attempts(declared(Retry(30)), Settings.load()) == 3


async def test_the_environment_wins_over_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "unimsg.toml").write_text(
        'url = "memory://"\n[handlers."policy.numbers"]\nretry = [30]\ntimeout = 5\n'
    )
    monkeypatch.setenv("UNIMSG_HANDLERS", json.dumps({"policy.numbers": {"retry": [0.01, 0.01]}}))
    settings = Settings.load()
    assert settings.handler("policy.numbers").timeout == 5, "the rest of its table stays"
    assert await attempts(declared(Retry(30)), settings) == 3


async def test_an_empty_list_in_the_environment_means_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIMSG_URL", "memory://")
    monkeypatch.setenv("UNIMSG_HANDLERS", json.dumps({"policy.numbers": {"retry": []}}))
    assert await attempts(declared(Retry(30)), Settings.load()) == 1


WRONG = ["-1", "86401", "nan", "inf", '"soon"', "[1]"]


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_delay_in_the_file_is_one_error_that_names_its_key(elsewhere: Path, value: str) -> None:
    (elsewhere / "unimsg.toml").write_text(f'[handlers."policy.numbers"]\nretry = [1, {value}]\n')
    with pytest.raises(ConfigurationError, match=r"handlers\.policy\.numbers\.retry\.1: ") as caught:
        Settings.load()
    assert str(caught.value).count("handlers.") == 1


@pytest.mark.parametrize("value", ["5", '"1, 10"', "true", "{ a = 1 }"])
def test_so_is_what_is_no_list(elsewhere: Path, value: str) -> None:
    (elsewhere / "unimsg.toml").write_text(f'[handlers."policy.numbers"]\nretry = {value}\n')
    with pytest.raises(ConfigurationError, match=r"^handlers\.policy\.numbers\.retry: "):
        Settings.load()


@pytest.mark.parametrize("value", [-1, 86401, "soon", [1]])
def test_so_it_is_in_the_environment(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    monkeypatch.setenv("UNIMSG_HANDLERS", json.dumps({"policy.numbers": {"retry": [1, value]}}))
    with pytest.raises(ConfigurationError, match=r"handlers\.policy\.numbers\.retry\.1: "):
        Settings.load()


@pytest.mark.parametrize("retry", [3, [1, 10], "1", (1,), Retry])
def test_a_policy_in_code_is_a_retry(retry: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"service shop: retry must be a Retry, not .*: Retry\(1, 10, 60\)"):
        Service("shop", retry=retry)
    with pytest.raises(ConfigurationError, match=r"policy\.numbers: retry must be a Retry, not .*: Retry\(1, 10, 60\)"):
        Service("shop").handler(numbers, retry=retry)


async def test_the_last_attempt_follows_the_configured_policy() -> None:
    seen: list[tuple[int, bool]] = []
    service = Service("shop", retry=Retry(1, 1, 1))

    @service.handler(numbers)
    async def handle(body: int, context: Context) -> None:
        seen.append((context.attempt, context.last_attempt))
        raise ValueError

    settings = Settings(url="memory://", handlers={"policy.numbers": {"retry": [0.01]}})
    async with unimsg.connect(service, settings=settings) as bus:
        await bus.send(numbers, 7)
        await until(lambda: held("policy.numbers..dead"), "the dead letter")
    assert seen == [(1, False), (2, True)]
