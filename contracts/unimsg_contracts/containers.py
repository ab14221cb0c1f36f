"""Brokers in containers: pinned images, fixed ports on this machine only, and nothing left behind."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from socket import create_connection
from types import FrameType
from typing import Self

import docker  # type: ignore[import-untyped]  # it ships no types
from docker.errors import DockerException, NotFound  # type: ignore[import-untyped]
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from unimsg_contracts.loopback import free_port

LABEL = "unimsg.contracts.process"
COMPOSE_FILE = Path(__file__).parents[2] / "compose.yaml"
START_TIMEOUT = 120.0


def image_of(service: str, default: str) -> str:
    """The image that the repository's compose.yaml names for a service, so that both are one version; `default`, the
    same pinned name, where this package is installed without it."""
    if COMPOSE_FILE.exists():
        found = re.search(rf"^  {service}:\n(?:    .*\n)*?    image: *(\S+)", COMPOSE_FILE.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return default


def engine_missing() -> str | None:
    """Why there is no Docker engine to start a broker in; None: one answers."""
    try:
        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except DockerException as error:
        return f"no Docker engine answers ({type(error).__name__})"
    return None


class Container:
    """A broker of ours. It is stopped by name at the end of the run, also when that is interrupted; if even that was
    prevented, by the next run: a reaper would be one more image to pull."""

    def __init__(
        self,
        service: str,
        image: str,
        ports: list[int],
        *,
        environment: Mapping[str, str] | None = None,
        command: str | None = None,
    ) -> None:
        testcontainers_config.ryuk_disabled = True
        _remove_orphans()
        self.image = image
        self.ports = {port: free_port() for port in ports}
        """By port inside, the port on 127.0.0.1: fixed, since a restarted container gets a new random one."""
        self._container = DockerContainer(image, command=command, env=dict(environment or {}))
        self._container.with_name(f"unimsg-contracts-{service}-{os.getpid()}").with_kwargs(
            labels={LABEL: str(os.getpid())}
        )
        for inside, outside in self.ports.items():
            # Typed as a number only, but Docker takes an address too: nobody else shall reach it.
            self._container.ports[str(inside)] = ("127.0.0.1", outside)  # type: ignore[assignment]

    def start(self, ready: Callable[[Self], bool], environment: Mapping[str, str] | None = None) -> None:
        """Starts it and waits until it is `ready`.

        Raises:
            TimeoutError: with the end of its log.
        """
        _stop_also_on_sigterm()
        self._container.env.update(environment or {})
        self._container.start()
        self.wait(ready)

    def restart(self, ready: Callable[[Self], bool]) -> None:
        self._container.get_wrapped_container().restart(timeout=20)
        self.wait(ready)

    def wait(self, ready: Callable[[Self], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready(self):
            if time.monotonic() > deadline:
                log = self._container.get_wrapped_container().logs(tail=20).decode(errors="replace")
                raise TimeoutError(f"{self.image} was not ready within {START_TIMEOUT:g} s; the end of its log:\n{log}")
            time.sleep(0.2)

    def succeeds(self, *command: str) -> bool:
        """Whether a command inside ends well."""
        return self._container.exec(list(command)).exit_code == 0

    def run(self, *command: str) -> None:
        """Runs a command inside.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        result = self._container.exec(list(command))
        if result.exit_code:
            raise RuntimeError(f"{command[0]} failed: {result.output.decode(errors='replace')}")

    def answers(self, inside: int) -> bool:
        """Whether the port takes connections."""
        try:
            create_connection(("127.0.0.1", self.ports[inside]), 1.0).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        with suppress(NotFound):
            self._container.stop()


def _remove_orphans() -> None:
    """Containers of runs whose process is gone."""
    client = docker.from_env()
    try:
        for container in client.containers.list(all=True, filters={"label": LABEL}):
            if not Path(f"/proc/{container.labels[LABEL]}").exists() and Path("/proc").exists():
                with suppress(DockerException):
                    container.remove(force=True, v=True)
    finally:
        client.close()


def _stop_also_on_sigterm() -> None:
    """Ends the run as Ctrl-C does, which finishes the fixtures; by default Python would just be gone."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with suppress(ValueError):  # not in the main thread: then whoever started us takes care
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, interrupt)
