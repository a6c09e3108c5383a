"""JSON as RFC 8259 has it, from others: what Python's parser lets through beyond that is refused.

It need not be canonical: see ``canonical.parse_strict`` for what must.
"""

from __future__ import annotations

import json
from typing import Any


def read_json(data: bytes) -> Any:
    """The value in this JSON, in UTF-8. Raises ValueError for what is none, for a key that is there twice, and for NaN
    or Infinity."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is there twice")
    return fields


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
