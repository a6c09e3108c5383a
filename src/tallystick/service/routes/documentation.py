"""The documentation that the service gives of itself: the OpenAPI document, and a page to try it.

The page is made in the browser from the document. It loads nothing from elsewhere, and its policy lets it ask nobody
but this service; the key that is typed into it stays in its memory.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import msgspec

from tallystick.service.answering import send_answer
from tallystick.service.calls import Call
from tallystick.service.openapi import document
from tallystick.service.operations import Group

DOCUMENTATION = Group("Documentation", in_ledger=False)

JSON_TYPE = "application/json"
PAGE_TYPE = "text/html; charset=utf-8"
SCRIPT_TYPE = "text/javascript; charset=utf-8"
STYLE_TYPE = "text/css; charset=utf-8"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do (Content Security Policy Level 3): no inline script or style, nothing from anywhere else."""
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]


@functools.cache
def document_bytes() -> bytes:
    """The OpenAPI document of this version, made once in a process."""
    from tallystick.service.routes import GROUPS  # noqa: PLC0415 - this file is one of them

    return msgspec.json.encode(document(GROUPS))


@functools.cache
def _file(name: str) -> bytes:
    return files("tallystick.service").joinpath("static", name).read_bytes()


@DOCUMENTATION.read("/openapi.json", verb=None, answer=dict[str, Any])
def get_openapi(call: Call) -> bytes:
    """The OpenAPI 3.1 document of everything that can be asked."""
    return document_bytes()


@DOCUMENTATION.stream("/docs", verb=None, media_type=PAGE_TYPE)
async def get_docs(call: Call) -> int:
    """A page to read the document, and to try it."""
    return await _answer(call, "docs.html")


@DOCUMENTATION.stream("/docs/docs.js", verb=None, media_type=SCRIPT_TYPE)
async def get_docs_script(call: Call) -> int:
    """The page's script."""
    return await _answer(call, "docs.js")


@DOCUMENTATION.stream("/docs/docs.css", verb=None, media_type=STYLE_TYPE)
async def get_docs_style(call: Call) -> int:
    """The page's style."""
    return await _answer(call, "docs.css")


async def _answer(call: Call, name: str) -> int:
    await send_answer(call.send, 200, _file(name), call.operation.media_type.encode(), call.request_id, _HEADERS)
    return 200
