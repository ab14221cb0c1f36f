"""The brokers under measurement: one container each, on this machine's loopback, removed at the end."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMPOSE = Path(__file__).parent.parent / "compose.yaml"
READY_WITHIN = 120.0
"""Seconds from the container's start until its health check passes."""

PORTS = {"rabbitmq": 5672, "kafka": 9092, "pubsub": 8085}
URLS = {
    "rabbitmq": "amqp://guest:guest@127.0.0.1:{port}/",
    "kafka": "kafka://127.0.0.1:{port}",
    "pubsub": "pubsub://local",
}


@contextmanager
def started(broker: str) -> Iterator[tuple[str, str]]:
    """The broker's URL and the name of its image, in a container that is made here. Environment variables that its
    clients need are set for the time of the block.

    Raises:
        RuntimeError: there is no Docker engine, no image, or the broker does not become ready.
    """
    service, port = _service(broker), _free_port()
    container = f"bench-{broker}-{os.getpid()}"
    try:
        _docker("run", "--detach", "--name", container, *_arguments(broker, service, port))
        _wait_until_ready(container, _at_port(broker, service["healthcheck"]["test"], port))
        with _emulator(broker, f"127.0.0.1:{port}"):
            yield URLS[broker].format(port=port), service["image"]
    finally:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", container], capture_output=True, timeout=60, check=False
        )


@contextmanager
def running(broker: str, url: str) -> Iterator[tuple[str, str]]:
    """One that runs already; of Pub/Sub the emulator that PUBSUB_EMULATOR_HOST names, or the one of compose.yaml."""
    with _emulator(broker, os.environ.get("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{PORTS['pubsub']}")):
        yield url, url.rpartition("@")[2]


@contextmanager
def _emulator(broker: str, host: str) -> Iterator[None]:
    """Google's clients find it by this variable only."""
    before = os.environ.get("PUBSUB_EMULATOR_HOST")
    if broker == "pubsub":
        os.environ["PUBSUB_EMULATOR_HOST"] = host
    yield
    if before is None:
        os.environ.pop("PUBSUB_EMULATOR_HOST", None)
    else:
        os.environ["PUBSUB_EMULATOR_HOST"] = before


def _service(broker: str) -> Mapping[str, Any]:  # as compose.yaml says
    found = json.loads(_docker("compose", "--file", str(COMPOSE), "config", "--format", "json"))["services"][broker]
    assert isinstance(found, dict)
    return found


def _arguments(broker: str, service: Mapping[str, Any], port: int) -> list[str]:
    environment = _at_port(broker, [f"{name}={value}" for name, value in service.get("environment", {}).items()], port)
    inside = port if broker == "kafka" else PORTS[broker]
    arguments = ["--publish", f"127.0.0.1:{port}:{inside}"]
    for variable in environment:
        arguments += ["--env", variable]
    return [*arguments, service["image"], *(service.get("command") or [])]


def _at_port(broker: str, texts: list[str], port: int) -> list[str]:
    """Kafka tells its clients where it is, so its own port is the one outside."""
    return [text.replace(":9092", f":{port}") for text in texts] if broker == "kafka" else texts


def _wait_until_ready(container: str, health_check: list[str]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    command = ["docker", "exec", container, *health_check[1:]]
    while subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{container} was not ready within {READY_WITHIN:g} s; see docker logs {container}")
        time.sleep(0.5)


def _docker(*arguments: str) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        raise RuntimeError("docker is not installed: the brokers run in containers") from None
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
