"""The page: complete in itself, readable on a phone, and nothing in the document can get out of its text."""

import copy
import html
import itertools
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import sample_shop as shop
from pydantic import BaseModel, Field

import unimsg
from unimsg.asyncapi import document, to_html
from unimsg.config import Settings

SHOP = document(*shop.SERVICES, settings=Settings(url="amqps://rabbit.test/shop", prefix="ann."))
PAGE = to_html(SHOP)
VOID = {"meta", "br"}


class Structure(HTMLParser):
    """Elements, their attributes and texts; fails on what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag[0] == "h" and tag[1:].isdecimal():
            self.headings.append((int(tag[1:]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if any(tag[0] == "h" and tag[1:].isdecimal() for tag in self.open):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)


STRUCTURE = Structure(PAGE)
TEXT = " ".join(" ".join(STRUCTURE.texts).split())


def test_it_loads_nothing_and_runs_nothing() -> None:
    tags = {tag for tag, _ in STRUCTURE.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
    for tag, attributes in STRUCTURE.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcset")], tag
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in PAGE
    assert "@import" not in PAGE
    policy = next(attributes for _, attributes in STRUCTURE.elements if "http-equiv" in attributes)
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_every_link_leads_somewhere_and_every_anchor_is_one() -> None:
    anchors = [attributes["id"] for _, attributes in STRUCTURE.elements if "id" in attributes]
    assert len(anchors) == len(set(anchors))
    for _, attributes in STRUCTURE.elements:
        if "href" in attributes:
            assert (attributes["href"] or "")[1:] in anchors


def test_headings_are_in_order() -> None:
    levels = [level for level, _ in STRUCTURE.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(second <= first + 1 for first, second in itertools.pairwise(levels))


def test_it_shows_every_channel_message_and_service() -> None:
    headings = " ".join(text for _, text in STRUCTURE.headings)
    for name, channel in SHOP["channels"].items():
        assert name in headings or name.endswith("..reply")
        for message in channel["messages"].values():
            assert message["name"] in headings
    for words in (
        "Sent by",
        "Received by",
        "Takes an order, if the kitchen is open.",
        "It is *refused* where it is not.",
        "tried again after 1 second, 5 seconds",
        "ann.orders.place..dead",
        "subscription audit",
        "ordered by customer",
        "expires after 1 hour",
        "history of 2 days",
        "As on the menu.",
        "old type, still read",
        "in batches of up to 10",
        "sent to the address in",
        "amqps://rabbit.test:5671/shop",
        "nobody in this document",
    ):
        assert words in TEXT, words


def test_a_reply_is_shown_with_its_request_only() -> None:
    assert TEXT.count("prices.quote.reply") == 1


def test_examples_are_there_in_each_language() -> None:
    for words in ("Example, as JSON", "Example, as XML", "Example, as text", '"dish": "ramen"', '<row no="1">'):
        assert words in TEXT, words


def test_it_is_the_same_each_time() -> None:
    assert to_html(SHOP) == PAGE


def test_an_empty_document_is_a_page() -> None:
    assert "There are no channels." in to_html(document(settings=Settings(url="memory://")))


# -- hostile documents

HOSTILE = (
    "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload=alert(1) x='{{7*7}}${7*7}&lt;b>"
)


def poisoned(part: Any, *, names: bool) -> Any:
    """With markup in every text, and with `names` in the names of things too: then references lead nowhere."""
    if isinstance(part, dict):
        return {
            f"{key}{HOSTILE}" if names and not key.startswith(("$ref", "x-")) and key not in KEPT else key: value
            if key in ("$ref", "action", "schemaFormat", "type", "asyncapi")
            else poisoned(value, names=names)
            for key, value in part.items()
        }
    if isinstance(part, list):
        return [poisoned(each, names=names) for each in part]
    return f"{part}{HOSTILE}" if isinstance(part, str) else part


KEPT = {
    *("asyncapi", "info", "title", "version", "description", "tags", "name", "servers", "host", "protocol", "pathname"),
    *("channels", "address", "messages", "operations", "action", "channel", "summary", "reply", "location", "payload"),
    *("headers", "components", "schemas", "properties", "contentType", "items", "anyOf", "allOf", "schema", "fields"),
    *("schemaFormat", "type", "service", "handler", "subscription", "deadLetters", "key", "kind", "enum", "default"),
}


@pytest.mark.parametrize("names", [True, False], ids=["names", "texts"])
def test_nothing_in_a_document_becomes_markup(names: bool) -> None:
    page = to_html(poisoned(SHOP, names=names))
    structure = Structure(page)
    assert {tag for tag, _ in structure.elements} <= {tag for tag, _ in STRUCTURE.elements}
    for _, attributes in structure.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style")]
    assert "<script" not in page
    shown = " ".join(structure.texts)
    assert "<script>alert(1)</script>" in shown, "it is text"
    for text in (
        ("if the kitchen is open", "it is not", "As on the menu", "take", "orders.place..dead") if not names else ()
    ):
        assert f"{text}.{HOSTILE}" in shown or f"{text}{HOSTILE}" in shown, text


def test_hostile_docstrings_and_names_are_text() -> None:
    service = unimsg.Service("some")

    @unimsg.message('x"><script>alert(1)</script>')
    class Body(BaseModel):
        """</pre><script>alert(4)</script>"""

        a: str = Field("<script>", description="<script>", alias="<script>")

    @service.handler(unimsg.Queue("some.queue", Body))
    async def handle(body: Body) -> None:
        """<script>alert(1)</script>

        </article><img src=x onerror=alert(2)> `</code><script>`
        """

    made = document(service, settings=Settings(url="memory://"))
    made["info"]["title"] = "</title><script>alert(3)</script>"
    page = to_html(made)
    Structure(page)
    assert "<script" not in page
    assert "<img" not in page


@pytest.mark.parametrize("spoilt", [None, 1, "x", [], [1], {"$ref": "#/channels"}, {"a": 1}, {"a": None}], ids=str)
@pytest.mark.parametrize("part", ["channels", "operations", "components", "servers", "info", "defaultContentType"])
def test_a_document_that_is_none_is_shown_as_far_as_it_goes(part: str, spoilt: Any) -> None:
    Structure(to_html({**SHOP, part: spoilt}))


def test_a_schema_in_a_circle_is_shown() -> None:
    whole = copy.deepcopy(SHOP)
    name = SHOP["channels"]["orders.place"]["messages"]["orders.place"]["payload"]["$ref"].rpartition("/")[2]
    for circle in ({"$ref": f"#/components/schemas/{name}"}, {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}):
        whole["components"]["schemas"][name] = circle
        Structure(to_html(whole))


# -- in a browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--virtual-time-budget=5000",
        "--hide-scrollbars",
    ),
]
FRAME = """<!doctype html><title>frame</title><pre id="seen"></pre>
<iframe id="page" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const inner = event.target.contentDocument, root = inner.documentElement;
  const style = each => inner.defaultView.getComputedStyle(each);
  inner.querySelectorAll("details").forEach(each => each.open = true);
  const wide = [...inner.querySelectorAll("body *")].filter(each =>
    each.getBoundingClientRect().right > root.clientWidth + 1
    && !each.classList.contains("skip") && style(each).position !== "absolute" && !each.closest("thead"));
  document.getElementById("seen").textContent = JSON.stringify({{
    width: root.clientWidth, scroll: root.scrollWidth, headings: inner.querySelectorAll("h1,h2,h3,h4,h5").length,
    navigation: style(inner.querySelector("nav")).display, wide: wide.length,
    shown: inner.querySelector("h1").getBoundingClientRect().height > 0, scripts: inner.scripts.length,
  }});
}});
</script>"""


@pytest.mark.parametrize("width", [1280, 768, 360])
@pytest.mark.parametrize("which", ["shop", "names", "texts"])
def test_a_browser_shows_it_without_scrolling_sideways(which: str, width: int, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    page = PAGE if which == "shop" else to_html(poisoned(SHOP, names=which == "names"))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    command = [browser, *FLAGS, "--window-size=1400,1000", f"--user-data-dir={tmp_path}/user", "--dump-dom"]
    done = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=90, check=False)
    assert '<pre id="seen">{' in done.stdout, done.stderr[-2000:]
    seen = done.stdout.partition('<pre id="seen">')[2].partition("</pre>")[0]
    measured = json.loads(html.unescape(seen))
    assert measured["width"] == width
    assert measured["scroll"] <= width
    assert measured["wide"] == 0
    assert measured["shown"]
    assert measured["headings"] == len(Structure(page).headings)
    assert measured["scripts"] == 0
    assert measured["navigation"] == ("block" if width == 1280 else "none")
