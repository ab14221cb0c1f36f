"""What of the logs a command shows, unless `unimsg run` or the application sets up its own."""

import logging
import sys

from unimsg.cli.output import say

FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


class _OurWarnings(logging.Handler):
    """Warnings of unimsg as lines. What its clients log of a lost connection, the command's own error says."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "unimsg":
            say(f"unimsg: {record.getMessage()}")


def show_only_ours() -> None:
    """Where nobody set up logging, Python would show everybody's warnings."""
    logging.lastResort = _OurWarnings(logging.WARNING)


def log_to_stderr() -> None:
    """For services. Clients of brokers log payloads at DEBUG: never that."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.WARNING, format=FORMAT, stream=sys.stderr)
        logging.getLogger("unimsg").setLevel(logging.INFO)
