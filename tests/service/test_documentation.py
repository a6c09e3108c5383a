"""The service's own documentation: the document, and a page to try it that asks nobody else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

from tallystick.service.openapi import document
from tallystick.service.routes import GROUPS
from tests.support.service import Served


def test_the_document_is_there_for_everyone(here: Served) -> None:
    answer = here.stranger().get("/openapi.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["paths"].keys() == document(GROUPS)["paths"].keys()


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(here: Served) -> None:
    page = here.stranger().get("/docs")

    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    found = _Parts()
    found.feed(page.text)
    assert found.inline == []
    assert found.loaded
    for where, kind in found.loaded.items():
        answer = here.stranger().get(urljoin("/docs", where))
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)


class _Parts(HTMLParser):
    """What a page loads, with the type that it must be of, and what it has inline."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: dict[str, str] = {}
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and given.get("src"):
            self.loaded[given["src"] or ""] = "text/javascript"
        elif tag == "link" and given.get("rel") == "stylesheet":
            self.loaded[given["href"] or ""] = "text/css"
        elif tag in ("script", "style", "img", "iframe"):
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


def test_the_script_keeps_nothing_and_makes_no_markup_of_what_it_is_told(here: Served) -> None:
    script = here.stranger().get("/docs/docs.js").text

    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert forbidden not in script
    for forbidden in ("localStorage", "sessionStorage", "indexedDB", "document.cookie"):
        assert forbidden not in script
    assert re.findall(r"https?://", script) == []


def test_every_element_that_the_script_looks_for_is_on_the_page(here: Served) -> None:
    page, script = here.stranger().get("/docs").text, here.stranger().get("/docs/docs.js").text

    wanted = set(re.findall(r'(?:getElementById|valueAt)\("([\w.]+)"\)', script))
    assert wanted
    assert {name for name in wanted if f'id="{name}"' not in page} == set()
