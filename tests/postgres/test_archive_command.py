"""`tally archive`: what it says to people and to programs, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tallystick.clock import system_clock
from tallystick.stores.postgres.archive import first_open
from tallystick.stores.postgres.periods import month_of
from tests.cli.conftest import Tally
from tests.postgres.test_archive import MONTHS, Books, alter, books, folder, glance, hide, partitions

__all__ = ["books", "folder"]

NAMES = [month_of(period) for period in MONTHS]


@pytest.fixture
def tally(books: Books, tmp_path: Path) -> Tally:
    return Tally(tmp_path, books.url)


def test_the_plan_shows_what_may_go_and_changes_nothing(tally: Tally, books: Books) -> None:
    text = tally("archive", "--plan")
    assert [line.split()[0] for line in text.splitlines()[1:-1]] == NAMES
    assert "4 months may go; the same command with --to FOLDER, without --plan, moves them" in text
    document = tally.json("archive", "--plan", "--before", "2018-03")
    assert (document["retention_years"], document["before"]) == (7, "2018-03")
    assert [(one["month"], one["ledgers"], one["events"]) for one in document["months"]] == [
        ("2018-01", 2, 53),
        ("2018-02", 1, 5),
    ]
    assert len(partitions(books.url)) == 2 * len(MONTHS) + 2


def test_a_run_tells_of_each_file(tally: Tally, books: Books, folder: Path) -> None:
    before = glance(books)
    text = tally("archive", "--to", str(folder), "--before", "2018-03")
    assert "archived 2 months" in text
    document = tally.json("archive", "--to", str(folder))
    assert [(file["month"], file["kind"]) for file in document["files"]] == [
        (name, kind) for name in NAMES[2:] for kind in ("event", "entry")
    ]
    assert {file["path"] for file in document["files"]} < {str(path) for path in folder.iterdir()}
    assert glance(books) == before
    assert f"there is nothing to move before {month_of(first_open(system_clock(), 7))}" in tally(
        "archive", "--to", str(folder)
    )


def test_what_was_archived_is_listed(tally: Tally, folder: Path) -> None:
    assert tally("archive") == "0 months are archived; the retention policy is 7 years\n"
    made = tally.json("archive", "--to", str(folder))["files"]
    document = tally.json("archive")
    assert document["files"] == made
    assert document["retention_years"] == 7
    text = tally("archive")
    assert all(file["path"] in text and file["sha256"][:12] in text for file in made)
    assert "4 months are archived" in text


def test_the_database_is_named_by_an_argument_or_by_the_option(books: Books, tmp_path: Path) -> None:
    nowhere = Tally(tmp_path, str(tmp_path / "ledger.db"))
    assert nowhere.json("archive", books.url, "--plan") == Tally(tmp_path, books.url).json("archive", "--plan")
    assert "only a PostgreSQL database has an archive" in nowhere.refused("archive", "--plan", code=2)["message"]
    assert not (tmp_path / "ledger.db").exists()


def test_the_policy_is_set_and_then_holds(tally: Tally, folder: Path) -> None:
    assert "the retention policy is 8 years" in tally("archive", "--retention-years", "8")
    assert tally.json("archive", "--plan")["retention_years"] == 8
    late = tally.refused("archive", "--to", str(folder), "--before", "2019-04", code=2)
    assert re.search(
        r"2019-04 is too late: by the policy of 8 years only what is before \d{4}-\d\d may go", late["message"]
    )
    assert tally.json("archive", "--to", str(folder), "--retention-years", "1000")["files"] == []
    assert "is not 1 to 1000" in tally.refused("archive", "--retention-years", "0", code=2)["message"]


@pytest.mark.parametrize(
    "words",
    [
        ("--before", "2018-03"),
        ("--plan", "--retention-years", "8"),
        ("--moved-to", "there", "--to", "here"),
        ("--moved-to", "there", "--plan"),
        ("--to", "nowhere"),
        ("--plan", "--before", "soon"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(tally: Tally, books: Books, words: tuple[str, ...]) -> None:
    assert tally.refused("archive", *words, code=2)["code"] == "usage"
    assert len(partitions(books.url)) == 2 * len(MONTHS) + 2


def test_files_that_were_moved_are_said_to_lie_elsewhere(tally: Tally, books: Books, folder: Path) -> None:
    before = glance(books)
    tally("archive", "--to", str(folder))
    new = hide(folder)[0].parent
    error = tally.refused("events", code=3)
    assert error["code"] == "archived"
    assert error["advice"] == "Put the file back, or say where it is now with: tally archive URL --moved-to FOLDER"
    document: dict[str, Any] = tally.json("archive", "--moved-to", str(new))
    assert (len(document["moved"]), document["left"]) == (8, [])
    assert glance(books) == before
    tally("events")


def test_a_moved_file_that_is_wrong_is_told_of_with_exit_code_1(tally: Tally, folder: Path) -> None:
    tally("archive", "--to", str(folder))
    hidden = hide(folder)
    alter(hidden[0])
    result = tally.run("archive", "--moved-to", str(hidden[0].parent))
    assert result.exit_code == 1
    assert f"{hidden[0]} was altered" in result.stdout
    assert f"it is still looked for at {folder / hidden[0].name}" in result.stdout
    assert "7 files are known to lie there" in result.stdout
