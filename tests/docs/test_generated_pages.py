"""docs/events.md, docs/events.schema.json and docs/errors.md say what the registry and the error tree say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tallystick.errors import Fault, Refusal, TallystickError
from tallystick.events import EVENT_TYPES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load_generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


generate = load_generator()


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_the_checked_in_page_is_current(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == generate.PAGES[name](), "run docs/generate.py"


def test_every_event_type_has_its_heading() -> None:
    page = generate.events_page()
    assert [name for name in EVENT_TYPES if f"### `{name}`\n" not in page] == []


def test_every_error_code_has_its_row() -> None:
    def below(kind: type[TallystickError]) -> list[type[TallystickError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    page = generate.errors_page()
    # A class that another test defines below Refusal is not part of Tallystick.
    own = [kind for branch in (Refusal, Fault) for kind in below(branch) if kind.__module__ == "tallystick.errors"]
    assert [kind.code for kind in own if f"| `{kind.code}` | `{kind.__name__}` |" not in page] == []
