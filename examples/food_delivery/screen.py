"""What happens, line by line."""

import logging


def say(who: str, what: str) -> None:
    """In one write: handlers in threads speak too."""
    print(f"{who:9} {what}\n", end="", flush=True)


def euros(cents: int) -> str:
    return f"€{cents / 100:.2f}"


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say("log", record.getMessage())


def show_log() -> None:
    """What unimsg warns of and where handlers fail, a line each. A service of your own keeps the tracebacks: plain
    `logging.basicConfig()` shows them."""
    log = logging.getLogger("unimsg")
    log.addHandler(_Log(logging.WARNING))
    log.propagate = False
