"""Servers that may be killed: each test has its own."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.postgres import Server
from tests.support.processes import wait_until

STREAMING_SECONDS = 30
DATABASE = "ledgers"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server with an empty database. Its owner is careless: whoever wants to be sure must ask for it."""
    with Server(settings={"synchronous_commit": "off"}) as found:
        found.init().start()
        ask(found, f"CREATE DATABASE {DATABASE}", "postgres")
        yield found


class Cluster:
    """A primary, a synchronous standby, and a third server that is not yet anything."""

    def __init__(self) -> None:
        self.servers = [Server(settings={"wal_keep_size": "256MB"}) for _ in range(3)]
        self.primary, self.standby, self.spare = self.servers
        self.primary.init().start()
        ask(self.primary, f"CREATE DATABASE {DATABASE}", "postgres")
        self.follow()

    @property
    def url(self) -> str:
        """Names all the servers; the one that takes writes is meant."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"postgresql://postgres@{hosts}/{DATABASE}?target_session_attrs=read-write"

    def follow(self) -> None:
        """Make the standby a synchronous one of the primary."""
        self.standby.follow(self.primary, self.name_of(self.standby)).start()
        self.primary.configure(synchronous_standby_names=self.name_of(self.standby))
        self.primary.reload()
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: ask(self.primary, state) == [("sync",)], STREAMING_SECONDS, "a synchronous standby")

    def catch_up(self) -> None:
        """Wait until the standby shows all that the primary has committed so far."""
        ((place,),) = ask(self.primary, "SELECT pg_current_wal_lsn()")
        shown = f"SELECT pg_last_wal_replay_lsn() >= '{place}'"
        wait_until(
            lambda: ask(self.standby, shown, "postgres") == [(True,)], STREAMING_SECONDS, "the standby to follow"
        )

    def fail_over(self) -> None:
        """The primary dies, and the standby takes its place, with nobody behind it."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.spare

    def name_of(self, server: Server) -> str:
        return f"server_{self.servers.index(server)}"

    def close(self) -> None:
        for server in self.servers:
            server.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    found = Cluster()
    yield found
    found.close()


def ask(server: Server, statement: str, database: str = DATABASE) -> list[tuple[object, ...]]:
    """The rows that a statement gives, if it gives any."""
    with psycopg.connect(server.dsn(database), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
