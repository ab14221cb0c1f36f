"""What a channel's key is made of, told by its `key=` function."""

from collections.abc import Callable
from typing import Any


def key_text(key_of: Callable[[Any], str]) -> str | None:
    """The fields of the body that it takes: "customer", "address.city", "{shop}/{number}"; None: they cannot be seen.

    It is called once, with a stand-in for the body that remembers what is asked of it.
    """
    try:
        key: object = key_of(_Body(""))
    except Exception:  # noqa: BLE001  # the user's function, on what is no body: it may do anything with it
        return None
    if isinstance(key, _Body):
        return key._unimsg_path or None
    if not isinstance(key, str) or "{" not in key:
        return None
    alone = key[1:-1]  # f"{order.customer}" is the customer
    return alone if key == f"{{{alone}}}" and "{" not in alone else key


class _Body:
    """Stands for a body, or for what is inside it."""

    def __init__(self, path: str) -> None:
        self._unimsg_path = path

    def _inside(self, name: object) -> "_Body":
        return _Body(f"{self._unimsg_path}.{name}" if self._unimsg_path else str(name))

    def __getattr__(self, name: str) -> "_Body":
        if name.startswith("__"):
            raise AttributeError(name)
        return self._inside(name)

    def __getitem__(self, name: object) -> "_Body":
        return self._inside(name)

    def __iter__(self) -> Any:  # without it, __getitem__ would make an endless one
        raise TypeError("not to be iterated over")

    def __str__(self) -> str:
        return f"{{{self._unimsg_path}}}"

    def __format__(self, spec: str) -> str:
        return str(self)
