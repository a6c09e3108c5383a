"""What PostgreSQL itself lets anybody do to erasable texts: add one that is true, and delete it. Nothing else."""

from __future__ import annotations

import psycopg
import pytest

import tallystick
from tallystick import Erasable
from tallystick.erasable import commitment_of
from tallystick.errors import ReadOnly
from tests.postgres.by_hand import OPENING
from tests.postgres.conftest import AUDITOR, OWNER, READER, SUPERUSER, WRITER, Psql

SALT = bytes(range(32))


def insert(text: str, *, salt: bytes = SALT, commitment: str = "", ledger: int = 1, seq: int = 2) -> str:
    named = commitment or commitment_of(text, salt)
    values = f"{ledger}, '{named}', '\\x{salt.hex()}', convert_to('{text}', 'UTF8'), {seq}"
    return f"INSERT INTO tallystick.opening (ledger, commitment, salt, text, seq) VALUES ({values});"


@pytest.fixture
def opened(psql: Psql) -> Psql:
    """A ledger with one opening."""
    psql(OPENING)
    psql(insert("naïve 🪵"))
    return psql


def test_what_does_not_open_its_commitment_never_gets_in(opened: Psql) -> None:
    other = commitment_of("other", SALT)
    for wrong in (
        insert("naive", commitment=other),
        insert("other", commitment=other.upper()),
        insert("other", commitment=other + " "),
        insert("other", salt=bytes(32), commitment=other),
        insert("other", salt=SALT[1:], commitment=other),
    ):
        assert "violates check constraint" in opened.refused(wrong)
    assert "violates foreign key" in opened.refused(insert("other", ledger=9))
    opened(insert("other"))
    assert "duplicate key" in opened.refused(insert("other"))


def test_an_opening_is_erased_and_never_changed(opened: Psql) -> None:
    update = "UPDATE tallystick.opening SET seq = 1;"
    assert "permission denied" in opened.refused(update)
    for role in (OWNER, SUPERUSER):
        assert "opening is append-only: UPDATE is refused" in opened.refused(update, role)
        assert "opening is append-only: TRUNCATE is refused" in opened.refused("TRUNCATE tallystick.opening;", role)
    delete = "DELETE FROM tallystick.opening RETURNING 1;"
    for role in (READER, AUDITOR):
        assert "permission denied" in opened.refused(delete, role)
    assert opened(delete, WRITER) == "1"


def test_the_auditor_sees_texts_and_the_reader_none(opened: Psql) -> None:
    look = "SELECT convert_from(text, 'UTF8') FROM tallystick.opening;"
    assert opened(look, AUDITOR) == "naïve 🪵"
    assert "permission denied" in opened.refused(look, READER)


def test_a_writer_erases_and_what_was_opened_for_reading_does_not(postgres: str) -> None:
    with tallystick.open(postgres) as writing, tallystick.open(postgres, read_only=True) as reading:
        posted = writing.ledger().mint("users:a", "USD/2", 1, key="k", reason=Erasable("why"))
        with pytest.raises(ReadOnly):
            reading.ledger().erase(posted.id)
        assert reading.ledger().opened(reading.ledger().transaction(1)) == {"reason": "why"}
        assert writing.ledger().erase(posted.id) == 1
        assert reading.ledger().opened(reading.ledger().transaction(1)) == {"reason": None}
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM tallystick.opening").fetchone() == (0,)
