"""Noticing that source files change: by looking at them, which needs nothing of the platform."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

EVERY = 0.5
"""Seconds between two looks."""
SKIPPED = {"__pycache__", "node_modules", "site-packages"}


class Changes:
    """While its block runs, calls back from a thread when a Python file or unimsg.toml below the working directory
    changes, comes or goes."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._root = Path.cwd()
        self._before = stamps(self._root)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(EVERY):
            now = stamps(self._root)
            if now != self._before:
                self._before = now
                self._changed()


def stamps(root: Path) -> Mapping[str, int]:
    """When each file was changed."""
    return dict(_files(root))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        for name in names:
            if name.endswith(".py") or name == "unimsg.toml":
                path = os.path.join(root, name)
                try:
                    yield path, os.stat(path).st_mtime_ns
                except OSError:
                    continue  # it went meanwhile
