"""Bodies: what JSON leaves open and nobody may guess.

RFC 8259 lets an object name a member twice and does not say which one counts; I-JSON (RFC 7493, 2.3) forbids it. A
proxy or a signer who reads the first amount, before a ledger that posts the second, is a way to steal. So such a body
is refused, as a header or a filter that comes twice is.

Bodies of batches are not looked at: with thousands of objects it would cost a tenth of all that is done about them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tallystick.errors import InvalidInput

_texts = re.compile(rb'"([^"\\]*)"\s*(:?)').findall
"""Every text of a JSON document that has no backslashes, and whether it is a name."""


def check_names(body: bytes) -> None:
    """Raises InvalidInput if an object of this document, which is JSON, names a member twice."""
    if b"\\" not in body:
        names = [text for text, colon in _texts(body) if colon]
        if len(set(names)) == len(names):
            return  # none comes twice in the whole document, so none does in any of its objects
    json.loads(body, object_pairs_hook=_once, parse_int=str, parse_float=str)


def _once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidInput(path=name[:80], problem="it is given twice")
        seen.add(name)
