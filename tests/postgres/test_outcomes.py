"""When PostgreSQL does not do what it was asked: the outcome is found out, or the reason is said; nothing is half done.

What becomes of a commit whose answer is lost on the way is in tests/failover/test_cuts.py; here the server itself ends
the session, keeps somebody waiting, or does not let him in.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

import tallystick
from tallystick import Ledger, Posted
from tallystick.commands import Command, Transfer
from tallystick.errors import Fault, InvalidInput, LedgerNotFound, NotPermitted, ReadOnly, Unavailable
from tallystick.ledger import writer
from tallystick.stores.postgres import append, connections, migrations, store
from tests.postgres.conftest import all_of_it
from tests.support.callers import USD, ask, cut, keys_of, seen_by_others, wait_for_waiting
from tests.support.postgres import HASTY, Server, give_away
from tests.support.processes import wait_until
from tests.support.proxy import CRASHED, TERMINATED, Ender

ALICE, BOB = "users:alice", "users:bob"
SECONDS = 30
MOST_MESSAGES = 200
MOST_PASSES = 6
HEADS = "SELECT * FROM tallystick.head FOR UPDATE"

_names = count(1)


def pay(key: str, amount: int = 1) -> Transfer:
    return Transfer(key=key, from_account=ALICE, to_account=BOB, asset=USD, amount=amount)


def batch(size: int) -> list[Command]:
    return [pay(str(number)) for number in range(size)]


@pytest.fixture
def funded(postgres: str) -> str:
    """A database with a ledger in which alice has 1,000."""
    with tallystick.open(postgres) as database:
        database.ledger("main").mint(ALICE, USD, 1_000, key="mint")
    return postgres


def limited(url: str, **settings: str) -> str:
    """The URL for one whose sessions have these settings."""
    options = "%20".join(f"-c%20{name}%3D{value}" for name, value in settings.items())
    return f"{url}{'&' if urlsplit(url).query else '?'}options={options}"


# ---------------------------------------------------------------- the session ends in the middle


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that may be treated badly; it holds one database, ``postgres``."""
    with Server(settings=HASTY) as server:
        server.init().start()
        tallystick.open(server.dsn()).close()
        yield server


@pytest.fixture
def ender(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ender]:
    """In front of the server; batches are copied and streamed when they are still small."""
    monkeypatch.setattr(writer, "STREAMED_FROM", 24)
    monkeypatch.setattr(writer, "PART", 8)
    monkeypatch.setattr(store, "COPIED_FROM", 8)
    with Ender(own_server) as found:
        yield found


def insist(act: Callable[[], Any]) -> Any:
    """Ask again, as long as one is told that this may help."""
    for _ in range(20):
        try:
            return act()
        except Unavailable:
            continue
    raise AssertionError("it never became available again")


WAYS: dict[str, Callable[[Ledger], Any]] = {
    "one": lambda ledger: ledger.post(pay("0")),
    "a batch that is copied": lambda ledger: ledger.post_many(batch(12), atomic=True),
    "a batch that is streamed": lambda ledger: ledger.post_many(batch(40)),
}


class Place:
    """Two databases on one server, the first of them through the ender; every attempt has a ledger of its own."""

    def __init__(self, ender: Ender) -> None:
        self.ender = ender
        url = f"postgresql://postgres@127.0.0.1:{ender.port}/postgres?sslmode=disable&gssencmode=disable"
        self.database = tallystick.open(url)
        self.others = tallystick.open(ender.server.dsn())

    def close(self) -> None:
        self.database.close()
        self.others.close()

    def try_at(self, message: int, how: str, post: Callable[[Ledger], Any], *, claims: bool) -> bool:
        """Post, with the session ended at a message, and see that it is there just once; was there such a message?"""
        ledger = self._new_ledger(claims=claims)
        before = insist(lambda: keys_of(ledger))
        self.ender.arm(message, how)
        told = listed(insist(lambda: post(ledger)))
        ended = bool(self.ender.ended)
        self.ender.arm(0)
        assert all(isinstance(answer, Posted) for answer in told), told
        assert insist(lambda: keys_of(ledger)) == before + [str(number) for number in range(len(told))]
        again = listed(insist(lambda: post(ledger)))
        assert [(one.id, one.hash, one.time) for one in told] == [(one.id, one.hash, one.time) for one in again]
        assert all(one.replayed for one in again)
        assert insist(lambda: ledger.post(pay("last"))).seq == 1 + len(before) + len(told)
        report = insist(lambda: self.others.ledger(ledger.name).replay())
        assert report.ok, report.findings
        return ended

    def _new_ledger(self, *, claims: bool) -> Ledger:
        name = f"ledger-{next(_names)}"
        ledger: Ledger = insist(lambda: self.database.ledger(name))
        insist(lambda: ledger.mint(ALICE, USD, 1_000, key="mint"))
        if claims:
            insist(lambda: self.others.ledger(name).post(pay("other")))
            insist(lambda: ledger.post(pay("and now it claims")))
        return ledger


def listed(answers: Any) -> list[Any]:
    return answers if isinstance(answers, list) else [answers]


@pytest.fixture
def place(ender: Ender) -> Iterator[Place]:
    found = Place(ender)
    yield found
    found.close()


@pytest.mark.parametrize("claims", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("way", WAYS)
def test_at_whichever_message_the_session_is_terminated_it_is_posted_once(place: Place, way: str, claims: bool):
    ended = 0
    while ended < MOST_MESSAGES and place.try_at(ended + 1, TERMINATED, WAYS[way], claims=claims):
        ended += 1
    assert 5 < ended < MOST_MESSAGES, "every message of it has had its turn"


@pytest.mark.parametrize("message", [2, 7, 12, 17])
def test_at_whichever_message_the_server_crashes_it_is_posted_once(place: Place, message: int):
    assert place.try_at(message, CRASHED, WAYS["a batch that is streamed"], claims=message % 2 == 0)


@pytest.mark.parametrize("way", WAYS)
def test_what_somebody_else_has_posted_meanwhile_is_not_taken_for_what_was_lost(
    place: Place, way: str, monkeypatch: pytest.MonkeyPatch
):
    """Before it is asked what became of it, others have posted as much and more."""
    was_kept = store.PostgresStore._was_kept
    asked: list[Ledger] = []

    def asked_late(self: store.PostgresStore, *arguments: Any) -> bool:
        asked.append(rival)
        rival.post_many([pay(f"rival {len(asked)} {number}") for number in range(50)])
        return was_kept(self, *arguments)

    monkeypatch.setattr(store.PostgresStore, "_was_kept", asked_late)
    for _ in range(MOST_PASSES):  # whether the last answer is lost or still read is a matter of timing
        for message in range(1, MOST_MESSAGES):
            rival = place.others.ledger(f"ledger-{next(_names)}")
            ledger = place.database.ledger(rival.name)
            ledger.mint(ALICE, USD, 1_000, key="mint")
            place.ender.arm(message, TERMINATED)
            told = listed(insist(partial(WAYS[way], ledger)))
            ended = place.ender.ended
            place.ender.arm(0)
            assert [ledger.transaction(answer.seq).hash for answer in told] == [answer.hash for answer in told]
            keys = insist(partial(keys_of, ledger))
            assert [keys[answer.seq - 1] for answer in told] == [str(number) for number in range(len(told))]
            assert len(keys) == 1 + 50 * asked.count(rival) + len(told)
            assert rival.replay().ok
            if not ended:
                break
        if asked:
            break
    assert asked


# ---------------------------------------------------------------- sessions that ended while nobody looked


@pytest.mark.parametrize("act", ["read", "post", "post many", "new ledger", "within"])
def test_that_idle_sessions_were_ended_is_noticed_by_nobody(funded: str, act: str):
    with tallystick.open(funded) as database:
        ledger = database.ledger("main")
        for turn in range(8):
            with ThreadPoolExecutor(6) as pool:
                assert set(pool.map(lambda _: ledger.balance(ALICE, USD) > 0, range(12))) == {True}
            assert cut(funded) >= 1
            if act == "read":
                assert ledger.balance(ALICE, USD) == 1_000
            elif act == "post":
                assert not ledger.post(pay(f"k{turn}")).replayed
            elif act == "post many":
                assert len(ledger.post_many([pay(f"{turn} {number}") for number in range(100)])) == 100
            elif act == "new ledger":
                assert database.ledger(f"l{turn}").mint(ALICE, USD, 1, key="mint").seq == 1
            else:
                with psycopg.connect(funded) as caller:
                    assert not ledger.post(pay(f"k{turn}"), connection=caller).replayed


# ---------------------------------------------------------------- somebody keeps the ledger


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
@pytest.mark.parametrize("way", ["one", "many", "streamed", "among others", "new"])
def test_who_waits_too_long_for_a_ledger_is_told_why_and_may_try_again(funded: str, limit: str, way: str):
    ways: dict[str, Callable[[Ledger], Any]] = {
        "many": lambda ledger: ledger.post_many(batch(200)),
        "streamed": lambda ledger: ledger.post_many(batch(writer.STREAMED_FROM)),
    }
    if way == "new":
        ways[way] = lambda ledger: ledger.mint(ALICE, USD, 5, key="0")
    post = ways.get(way, lambda ledger: ledger.post(pay("0")))
    with tallystick.open(limited(funded, **{limit: "200"})) as database, psycopg.connect(funded) as hand:
        ledger = database.ledger("main")
        ledger.mint(ALICE, USD, 1_000_000, key="more")
        if way == "among others":
            with tallystick.open(funded) as others:
                others.ledger("main").post(pay("other"))
            ledger.post(pay("and now it claims"))
        if way == "new":
            ledger = database.ledger("new")
            hand.execute("INSERT INTO tallystick.ledger (name) VALUES ('new')")
        else:
            hand.execute(HEADS)
        before = len(keys_of(ledger))
        began = time.monotonic()
        with pytest.raises(Unavailable, match=limit.replace("_", " ")) as caught:
            post(ledger)
        assert time.monotonic() - began < 5, "it waits once, and not as often as it would ask"
        assert caught.value.retryable
        assert len(keys_of(ledger)) == before
        hand.rollback()
        assert not listed(post(ledger))[0].replayed
        assert ledger.replay().ok


def test_while_one_ledger_is_kept_the_others_go_on(funded: str):
    with tallystick.open(funded) as database, psycopg.connect(funded) as hand, ThreadPoolExecutor(4) as pool:
        kept = database.ledger("main")
        other = database.ledger("other")
        other.mint(ALICE, USD, 1_000, key="mint")
        hand.execute(f"{HEADS.replace('FOR', 'WHERE ledger = 1 FOR')}")  # type: ignore[arg-type]
        waiting = [pool.submit(kept.post, pay(f"k{number}")) for number in range(4)]
        wait_for_waiting(funded)
        assert other.post(pay("meanwhile")).seq == 2
        assert kept.balance(ALICE, USD) == 1_000, "and it can be read"
        hand.rollback()
        assert sorted(one.result(timeout=SECONDS).seq for one in waiting) == [2, 3, 4, 5]


# ---------------------------------------------------------------- not let in


@pytest.fixture(scope="module")
def guarded(own_server: Server) -> Server:
    """The same server, where the role ``shop`` must give its password."""
    ask(own_server.dsn(), "CREATE ROLE shop LOGIN PASSWORD 'first-s3cret'")
    migrations.apply_roles(own_server.dsn())
    ask(own_server.dsn(), "GRANT tallystick_writer TO shop")
    rules = own_server.data / "pg_hba.conf"
    rules.write_text("host all shop 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n")
    give_away(rules)
    own_server.reload()
    wait_until(lambda: not lets_in(own_server.dsn(user="shop")), SECONDS, "the new rules")
    return own_server


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


SECRET = "s3cret"
"""In every password here, so that a part of one is found as well."""

SHUT_OUT: dict[str, tuple[str, type[Exception], str]] = {
    "wrong password": ("postgresql://shop:wrong-s3cret@{server}/postgres", NotPermitted, "password"),
    "no password": ("postgresql://shop@{server}/postgres", NotPermitted, "password"),
    "no such role": ("postgresql://nobody:s3cret@{server}/postgres", NotPermitted, "nobody"),
    "no such database": ("postgresql://postgres:s3cret@{server}/no_such", LedgerNotFound, "no_such"),
    "no such host": ("postgresql://shop:s3cret@no-such-host.invalid/postgres", Unavailable, "no-such-host.invalid"),
    "nobody there": ("postgresql://shop:s3cret@127.0.0.1:1/postgres", Unavailable, "127.0.0.1:1"),
    "no encryption": ("postgresql://shop:s3cret@{server}/postgres?sslmode=require", Unavailable, "SSL"),
    "escaped": ("postgresql://shop:s3cret%40s3cret%2F@{server}/postgres", NotPermitted, "shop"),
    "an @ in it": ("postgresql://shop:s3cret@s3cret@{server}/postgres", InvalidInput, "%40"),
    "a / in it": ("postgresql://shop:s3cret/s3cret@{server}/postgres", InvalidInput, "%2F"),
    "a % in it": ("postgresql://shop:s3cret%s3cret@{server}/postgres", InvalidInput, "%25"),
    "a : in it": ("postgresql://shop:s3cret:s3cret@{server}/postgres", NotPermitted, "shop"),
    "in the query": ("postgresql://shop@{server}/postgres?password=s3cret", NotPermitted, "shop"),
    "and misspelt": ("postgresql://shop@{server}/postgres?pasword=s3cret", InvalidInput, "url"),
}


@pytest.mark.parametrize("how", SHUT_OUT)
def test_who_is_not_let_in_is_told_why_and_no_password_is_told_to_anybody(
    guarded: Server, how: str, caplog: pytest.LogCaptureFixture
):
    template, kind, reason = SHUT_OUT[how]
    caplog.set_level(logging.DEBUG)
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        tallystick.open(template.format(server=f"127.0.0.1:{guarded.port}"))
    assert time.monotonic() - began < 15
    assert reason in str(caught.value)
    told = ["".join(traceback.format_exception(caught.value)), repr(caught.value), str(caught.value.to_dict())]  # type: ignore[attr-defined]
    assert SECRET not in "".join([*told[1:], caplog.text])
    said = [line for line in told[0].splitlines() if "Error" in line or "rror:" in line]
    assert SECRET not in "".join(said)


def test_a_password_that_was_changed_meanwhile_is_said_to_be_wrong(
    guarded: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    url = f"postgresql://shop:first-s3cret@127.0.0.1:{guarded.port}/postgres"
    with tallystick.open(url) as database:
        ledger = database.ledger(f"ledger-{next(_names)}")
        ledger.mint(ALICE, USD, 1_000, key="mint")
        ask(guarded.dsn(), "ALTER ROLE shop PASSWORD 'second-s3cret'")
        assert ledger.post(pay("who is in stays in")).seq == 2
        cut(guarded.dsn())
        for act in (lambda: ledger.post(pay("0")), lambda: ledger.balance(ALICE, USD)):
            with pytest.raises(Fault, match="password authentication failed") as caught:
                act()
            assert SECRET not in repr(caught.value) + caplog.text
        ask(guarded.dsn(), "ALTER ROLE shop PASSWORD 'first-s3cret'")
        assert ledger.post(pay("0")).seq == 3


def test_who_finds_too_many_connected_is_told_so_and_those_who_are_in_go_on(
    guarded: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    url = f"postgresql://shop:first-s3cret@127.0.0.1:{guarded.port}/postgres"
    ask(guarded.dsn(), "ALTER ROLE shop CONNECTION LIMIT 3")
    try:
        with tallystick.open(url) as database:
            ledgers = [database.ledger(f"ledger-{next(_names)}") for _ in range(8)]
            for ledger in ledgers:
                ledger.mint(ALICE, USD, 1_000, key="mint")
            with ThreadPoolExecutor(16) as pool:
                posted = [pool.submit(insist, lambda n=n: ledgers[n % 8].post(pay(f"k{n}"))) for n in range(64)]
                assert {len(str(one.result(timeout=60).hash)) for one in posted} == {64}
            others = [psycopg.connect(url) for _ in range(free_places(url))]
            cut(guarded.dsn())
            others += [psycopg.connect(url) for _ in range(free_places(url))]
            with pytest.raises(Unavailable, match="too many connections"):
                ledgers[0].balance(ALICE, USD)
            with pytest.raises(Unavailable, match="too many connections"):
                tallystick.open(url)
            for other in others:
                other.close()
            wait_until(lambda: lets_in(url), SECONDS, "a free place")
            assert all(ledger.replay().ok for ledger in ledgers)
            assert sum(len(keys_of(ledger)) for ledger in ledgers) == 8 + 64
    finally:
        ask(guarded.dsn(), "ALTER ROLE shop CONNECTION LIMIT -1")


def free_places(url: str) -> int:
    """How many more may connect."""
    found = []
    while len(found) < 10:
        try:
            found.append(psycopg.connect(url))
        except psycopg.OperationalError:
            break
    for one in found:
        one.close()
    wait_until(lambda: not found or lets_in(url), SECONDS, "free places")
    return len(found)


# ---------------------------------------------------------------- only to read


def test_a_role_that_may_only_read_reads_everything_and_posts_nothing(funded: str):
    migrations.apply_roles(funded)
    role = f"reads_{urlsplit(funded).path[1:]}"
    ask(funded, f"CREATE ROLE {role} LOGIN")
    ask(funded, f"GRANT tallystick_auditor TO {role}")
    try:
        before = all_of_it(funded)
        parts = urlsplit(funded)
        url = parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
        with tallystick.open(url) as database:
            ledger = database.ledger("main")
            assert ledger.balance(ALICE, USD) == 1_000
            assert ledger.replay().ok
            assert ledger.post(pay("tried"), dry_run=True).seq == 2
            for act in (
                lambda: ledger.post(pay("0")),
                lambda: ledger.post_many(batch(300)),
                lambda: database.ledger("new").mint(ALICE, USD, 1, key="mint"),
                ledger.rebuild,
            ):
                with pytest.raises(NotPermitted, match=r"permission denied|must be owner"):
                    act()
        assert all_of_it(funded) == before
    finally:
        ask(funded, f"DROP OWNED BY {role}")
        ask(funded, f"DROP ROLE {role}")


def test_what_was_opened_for_reading_only_writes_nothing_whatever_it_is_asked(
    funded: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writer, "PART_BITS", 0)  # so that it would keep house with every round
    monkeypatch.setattr("tallystick.ledger.desk.KEYS_PER_SAVE", 1)
    before = all_of_it(funded)
    with tallystick.open(funded, read_only=True) as database:
        ledger = database.ledger("main")
        assert ledger.post(pay("tried"), dry_run=True).seq == 2
        assert ledger.balance(ALICE, USD) == 1_000
        assert ledger.replay().ok
        for act in (
            lambda: ledger.post(pay("0")),
            lambda: ledger.post_many(batch(300)),
            lambda: ledger.post_many(batch(writer.STREAMED_FROM)),
            lambda: database.ledger("new").mint(ALICE, USD, 1, key="mint"),
            ledger.rebuild,
        ):
            with pytest.raises(ReadOnly) as caught:
                act()
            assert not caught.value.retryable
    assert all_of_it(funded) == before
    assert seen_by_others(funded) == ["mint"]


# ---------------------------------------------------------------- what is left behind


def test_whatever_failed_no_session_is_left_in_a_transaction_and_none_too_many_are_open(funded: str):
    idle = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tallystick'"
    with tallystick.open(limited(funded, lock_timeout="50")) as database, psycopg.connect(funded) as hand:
        ledger = database.ledger("main")
        hand.execute(HEADS)
        with ThreadPoolExecutor(20) as pool:
            failed = [pool.submit(ledger.post, pay(f"k{number}")) for number in range(20)]
            assert all(isinstance(one.exception(timeout=SECONDS), Unavailable) for one in failed)
        with pytest.raises(Unavailable):
            ledger.post_many(batch(append.COPIED_FROM))
        states = [state for (state,) in ask(funded, idle)]
        assert set(states) == {"idle"}
        assert len(states) <= connections.MAX_CONNECTIONS
        hand.rollback()
        assert ledger.post(pay("0")).seq == 2
    wait_until(lambda: not ask(funded, idle), SECONDS, "the end of all sessions")
