"""URLs of stores, as people may see them."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?i)(://[^\s:/@]*:)\S*(@)|(password\s*=\s*)('[^']*'|[^\s&'\"]+)")


def masked(text: str) -> str:
    """A text with the passwords hidden that stand in its URLs: between the first colon and the last ``@``, so that a
    character of the password that should have been escaped does not show the rest of it; and behind ``password=``."""
    return _PASSWORD.sub(lambda found: f"{found[1]}***{found[2]}" if found[1] else f"{found[3]}***", text)
