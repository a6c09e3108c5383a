"""The table of pains names every one of them, and no test that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from tests import pains

HERE = Path(__file__).parent
DEFINED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def rows() -> dict[int, list[str]]:
    """The tests that the table names, by the number of their pain."""
    assert pains.__doc__
    found: dict[int, list[str]] = {}
    number = 0
    for line in pains.__doc__.splitlines():
        if re.match(r"[ \d]\d  \S", line):
            number = int(line[:2])
        if number and (name := re.search(r"  (test_\w+)$", line)):
            found.setdefault(number, []).append(name[1])
    return found


def told_in(path: Path) -> dict[str, str]:
    """The docstring of each test in a file."""
    text = path.read_text()
    return {name: text.split(f"def {name}(", 1)[1].split('"""')[1] for name in DEFINED.findall(text)}


def files() -> list[Path]:
    """The files of tests, but for this one."""
    return [path for path in HERE.glob("test_*.py") if path.name != "test_table.py"]


def test_every_pain_is_in_the_table_with_tests_that_exist() -> None:
    there = {name: text for path in files() for name, text in told_in(path).items()}
    assert sorted(rows()) == list(range(1, 26))
    for number, names in rows().items():
        for name in names:
            assert name in there, name
            assert re.search(rf"Pains? (\d+ and )?{number}\b", there[name]), (
                f"{name} does not say that it is of {number}"
            )


def test_every_test_is_in_the_table_and_says_where_the_pain_was_written_down() -> None:
    named = {name for names in rows().values() for name in names}
    for path in files():
        for name, text in told_in(path).items():
            assert "https://" in text, name
            assert name in named or text.startswith("Also"), name
