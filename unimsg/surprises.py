"""What goes wrong without anybody waiting for it, in adapters' loops that have to go on."""

import logging


class Surprises:
    """Errors that nobody foresaw. Of each kind the first is logged with its traceback: they may come each second."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: set[tuple[str, type[Exception]]] = set()
        self.problem: str | None = None
        """The newest, for health, until `over`. Without the error's own text: that may quote a message."""

    def tell(self, what: str, error: Exception) -> str:
        """Returns the problem. `what` failed, in words with the broker's name that do not change from time to time."""
        problem = self.problem = f"{what}: {type(error).__name__}"
        if (what, type(error)) in self._told:
            self._log.debug("%s", problem)
        else:
            self._told.add((what, type(error)))
            self._log.error("%s", problem, exc_info=error)
        return problem

    def over(self) -> None:
        self.problem = None
