"""A database with roles, and psql to try it with, as anybody who has a password could."""

from __future__ import annotations

import subprocess
from typing import LiteralString

import psycopg
import pytest

from tallystick.stores.postgres import migrations
from tests.support.postgres import environment, programs

OWNER, WRITER, READER, AUDITOR = "tallystick_owner", "tallystick_writer", "tallystick_reader", "tallystick_auditor"
SUPERUSER = ""


class Psql:
    """Runs SQL as a role, over the psql that comes with PostgreSQL."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, script: str, role: str = WRITER) -> subprocess.CompletedProcess[str]:
        """What comes of a script, which ends at its first error. The SUPERUSER is whoever the tests run as."""
        become = f"SET SESSION AUTHORIZATION {role};\n" if role else ""
        return subprocess.run(
            [str(programs() / "psql"), "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qAt", "-d", self.dsn],
            input=become + script,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def __call__(self, script: str, role: str = WRITER) -> str:
        """What a script writes, which must succeed."""
        done = self.run(script, role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, script: str, role: str = WRITER) -> str:
        """What PostgreSQL says of a script that it must refuse."""
        done = self.run(script, role)
        assert done.returncode, f"it was accepted:\n{script}"
        return done.stderr


CONTENTS: LiteralString = """
SELECT format('SELECT %L || md5(coalesce(string_agg(one::text, chr(10) ORDER BY one::text), '''')) FROM %s AS one',
    oid::regclass, oid::regclass)
FROM pg_class WHERE relnamespace = 'tallystick'::regnamespace AND relkind IN ('r', 'p') ORDER BY oid::regclass::text
"""
STRUCTURE: LiteralString = """
SELECT relname::text, relowner::regrole::text, coalesce(relacl::text, ''), relispartition,
    ARRAY(SELECT format('%s %s', tgname, tgenabled) FROM pg_trigger WHERE tgrelid = pg_class.oid ORDER BY tgname)
FROM pg_class WHERE relnamespace = 'tallystick'::regnamespace ORDER BY 1
"""


def all_of_it(dsn: str) -> list[object]:
    """Everything that stands in the schema, and what the schema is: the same again if nothing changed."""
    with psycopg.connect(dsn) as connection:
        queries = connection.execute(CONTENTS).fetchall()
        contents = [connection.execute(query).fetchone() for (query,) in queries]
        return [*contents, *connection.execute(STRUCTURE).fetchall()]


@pytest.fixture
def psql(postgres: str) -> Psql:
    """Plain psql on a database with roles."""
    migrations.apply_roles(postgres)
    return Psql(postgres)
