"""What a command shows: results on standard output, all else on standard error."""

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from typing import Any, NoReturn

from unimsg import Message


def show(text: str) -> None:
    """A line of the result. Flushed: whoever reads it through a pipe sees it now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_json(value: Mapping[str, Any]) -> None:
    """One line, without what would move the cursor of a terminal, or what UTF-8 cannot carry: others wrote it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    show(text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text))


def say(text: str) -> None:
    """A line for whoever looks on. Errors and warnings may quote what others wrote."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in text.split("\n")))
    sys.stderr.flush()


def printable(text: str) -> str:
    """Without what would move the cursor of a terminal, change its colours or begin a line: others wrote it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def as_dict(message: Message[bytes]) -> dict[str, Any]:
    """A message for JSON: its body as JSON if it is that, as text, or in Base64."""
    return {
        "id": message.id,
        "type": message.type,
        "kind": message.kind,
        "source": message.source,
        "time": message.time.isoformat(),
        "key": message.key,
        "headers": dict(message.headers),
        "content_type": message.content_type,
        "conversation_id": message.conversation_id,
        "causation_id": message.causation_id,
        **body_as_dict(message.body, message.content_type),
    }


def in_a_line(message: Message[bytes], most: int = 200) -> str:
    """Body and key for people; a long body is cut."""
    try:
        text = message.body.decode()
    except UnicodeDecodeError:
        text = f"<{len(message.body)} bytes, {message.content_type or 'of no content type'}>"
    text = printable(text)
    text = text if len(text) <= most else f"{text[:most]}… ({len(message.body)} bytes)"
    return f"[{printable(message.key)}] {text}" if message.key is not None else text


@contextmanager
def progress(text: Callable[[], str]) -> Iterator[None]:
    """Says how far long work is, where somebody looks at a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots")

    def look() -> Spinner:
        spinner.update(text=text())
        return spinner

    console = Console(stderr=True)
    with Live(get_renderable=look, console=console, transient=True, refresh_per_second=5, redirect_stdout=False):
        yield


def body_as_text(body: bytes) -> str:
    """For people, its line ends kept."""
    try:
        return "\n".join(printable(line) for line in body.decode().splitlines())
    except UnicodeDecodeError:
        return f"<{len(body)} bytes: --json shows them in Base64>"


def body_as_dict(body: bytes, content_type: str) -> Mapping[str, Any]:
    """`body` as JSON if it is that, or as text; of what is neither `body_base64`."""
    subtype = content_type.partition(";")[0].strip().lower().rpartition("/")[2]
    if subtype == "json" or subtype.endswith("+json"):
        try:
            return {"body": json.loads(body, parse_constant=_no_number, parse_float=_number)}
        except (ValueError, RecursionError):
            pass  # it is said to be JSON, and is not
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _number(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
