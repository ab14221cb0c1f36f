"""What goes wrong without anybody waiting for it."""

import logging

log = logging.getLogger("unimsg.pubsub")


class Surprises:
    """Errors that nobody foresaw, in a loop that has to go on. Each kind is logged once with its traceback."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told: set[type[Exception]] = set()
        self.problem: str | None = None
        """For health, while the loop fails. Without the error's own text: that may quote a message."""

    def tell(self, error: Exception) -> None:
        self.problem = f"{self._what}: {type(error).__name__}"
        if type(error) in self._told:
            log.debug("pubsub: %s", self.problem)
        else:
            self._told.add(type(error))
            log.error("pubsub: %s", self.problem, exc_info=error)

    def over(self) -> None:
        self.problem = None
