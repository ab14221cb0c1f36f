"""The document as a page for people: one file, that loads nothing and runs nothing."""

from importlib.resources import files
from typing import Any

from unimsg.asyncapi._markup import Markup, joined, prose, tag
from unimsg.asyncapi._page_channel import anchor_of, badges_of, section_of, service_of
from unimsg.asyncapi._references import as_list, as_object, name_of, resolved

Json = dict[str, Any]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the browser may do for the page: show it."""


def to_html(document: dict[str, Any]) -> str:
    """One HTML page, complete in itself: channels, who sends and who receives, messages with examples. Whatever the
    document says is shown as text."""
    page = _Page(document)
    return f"<!doctype html>\n{page.whole()}\n"


class _Page:
    def __init__(self, document: Json) -> None:
        self._document = document
        self._operations = [as_object(resolved(document, each)) for each in _values(document.get("operations"))]
        answers = {
            name_of(as_object(resolved(document, each.get("reply"))).get("channel")) for each in self._operations
        }
        self._channels = {
            str(name): as_object(resolved(document, part))
            for name, part in as_object(document.get("channels")).items()
            if not (name in answers and as_object(resolved(document, part)).get("address") is None)
        }

    def whole(self) -> Markup:
        info = as_object(self._document.get("info"))
        title = str(info.get("title") or "AsyncAPI")
        style = Markup(files(__package__).joinpath("page.css").read_text(encoding="utf-8"))
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            tag("style", style),
        )
        main = tag("main", self._overview(), self._sections(), id="content")
        body = tag(
            "body",
            tag("a", "Skip to the channels", href="#content", class_="skip"),
            tag("div", self._navigation(), tag("div", self._header(title, info), main, class_="page"), class_="frame"),
        )
        return tag("html", head, body, lang="en")

    def _header(self, title: str, info: Json) -> Markup:
        services = [as_object(each) for each in as_list(info.get("tags"))]
        told = [each for each in services if isinstance(each.get("description"), str)]
        text = info.get("description")
        return tag(
            "header",
            tag("h1", title),
            tag(
                "p",
                f"Version {info.get('version', 'unknown')} · AsyncAPI {self._document.get('asyncapi', '')}",
                class_="facts",
            ),
            prose(text) if isinstance(text, str) else None,
            *(
                tag("div", tag("strong", str(each.get("name"))), prose(each["description"]), class_="service")
                for each in told
                if not isinstance(text, str)
            ),
            self._servers(),
        )

    def _servers(self) -> Markup | None:
        servers = as_object(self._document.get("servers"))
        rows = [
            tag("li", tag("strong", str(name)), " ", tag("code", _server(as_object(resolved(self._document, part)))))
            for name, part in servers.items()
        ]
        return tag("ul", *rows, class_="servers", aria_label="Servers") if rows else None

    def _navigation(self) -> Markup:
        links = [tag("li", tag("a", name, href=f"#{anchor_of('channel', name)}")) for name in self._channels]
        return tag("nav", tag("p", "Channels", class_="facts"), tag("ul", *links), aria_label="Channels")

    def _overview(self) -> Markup:
        columns = ("Channel", "Sent by", "Received by", "Messages")
        rows = [self._row(name, channel, columns) for name, channel in self._channels.items()]
        table = tag(
            "table",
            tag("thead", tag("tr", *(tag("th", each, scope="col") for each in columns))),
            tag("tbody", *rows),
        )
        nothing = tag("p", "There are no channels.")
        return tag("section", tag("h2", "Overview"), table if rows else nothing, class_="overview")

    def _row(self, name: str, channel: Json, columns: tuple[str, ...]) -> Markup:
        operations = self._on(name)
        link = tag("a", tag("code", name), href=f"#{anchor_of('channel', name)}")
        messages = self._message_links(name, as_object(channel.get("messages")))
        cells = (
            joined(link, *badges_of(channel)),
            _services(operations, "send"),
            _services(operations, "receive"),
            joined(*(tag("div", each) for each in messages)),
        )
        return tag(
            "tr",
            tag("th", cells[0], scope="row"),
            *(tag("td", cell, data_label=label) for cell, label in zip(cells[1:], columns[1:], strict=True)),
        )

    def _message_links(self, channel: str, messages: Json) -> list[Markup]:
        found = {str(key): as_object(resolved(self._document, part)) for key, part in messages.items()}
        names = [str(each.get("name") or key) for key, each in found.items()]
        return [
            joined(
                tag("a", name, href=f"#{anchor_of('message', channel, key)}"),
                tag("span", f" {each.get('contentType')}", class_="facts") if names.count(name) > 1 else None,
            )
            for name, (key, each) in zip(names, found.items(), strict=True)
        ]

    def _sections(self) -> Markup:
        sections = [
            section_of(self._document, name, channel, self._on(name)) for name, channel in self._channels.items()
        ]
        return joined(tag("h2", "Channels"), *sections) if sections else Markup()

    def _on(self, name: str) -> list[Json]:
        return [each for each in self._operations if name_of(each.get("channel")) == name]


def _services(operations: list[Json], action: str) -> Markup:
    names = dict.fromkeys(service_of(each) for each in operations if each.get("action") == action)
    chips = [joined(tag("span", name, class_=f"chip {action}"), " ") for name in names]
    return joined(*chips) if chips else tag("span", "nobody here", class_="facts")


def _server(server: Json) -> str:
    return f"{server.get('protocol', '')}://{server.get('host', '')}{server.get('pathname', '')}"


def _values(part: Any) -> list[Any]:
    return list(as_object(part).values())
