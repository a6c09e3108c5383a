"""Delivery to a log service: in order, without gap or double, and loud where something does not fit."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.errors import (
    InvalidInput,
    LedgerCorrupt,
    LogForked,
    NotALedger,
    NoteInvalid,
    NotPermitted,
    Unavailable,
)
from tallystick.evidence.log_service import Cursor, CursorFile, Delivered, Gap, LogDelivery, TileLeaves
from tallystick.evidence.log_service_client import (
    DailyRoot,
    Forked,
    Inserted,
    LogServiceClient,
    OutOfOrder,
    RootKept,
    RootTaken,
    Standing,
)
from tallystick.evidence.log_service_records import LogServiceRecords
from tallystick.evidence.log_service_server import LogServer
from tallystick.evidence.log_service_wire import MAX_HASHES
from tallystick.journal.merkle import root_of
from tallystick.journal.tiles import Growth
from tests.evidence.log_service_support import (
    PATIENCE_SECONDS,
    TOKEN,
    Source,
    client_of,
    delivery_of,
    leaf,
    serving,
)
from tests.evidence.witness_support import ORIGIN

MORNING = "2026-11-21T09:00:00.000000Z"
EVENING = "2026-11-21T21:00:00.000000Z"
NEXT_DAY = "2026-11-22T00:00:00.000000Z"

Service = tuple[LogServer, LogServiceRecords]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "service.db") as found:
        yield found


def held(records: LogServiceRecords) -> list[bytes]:
    return list(records.leaves(ORIGIN, records.standing(ORIGIN).size))


# ---------------------------------------------------------------- the service's rules


def test_entries_are_taken_in_their_order_alone(service: Service) -> None:
    server, records = service
    client, leaves = client_of(server.url), Source(9).all()
    assert client.standing(ORIGIN) == Standing(0, b"")
    assert client.insert(ORIGIN, 0, b"", leaves[:3]) == Inserted(Standing(3, leaves[2]))
    assert client.insert(ORIGIN, 5, leaves[4], leaves[5:]) == OutOfOrder(Standing(3, leaves[2]))
    assert held(records) == leaves[:3]
    assert client.insert(ORIGIN, 3, leaves[2], leaves[3:]) == Inserted(Standing(9, leaves[8]))
    assert client.standing(ORIGIN) == Standing(9, leaves[8])
    assert held(records) == leaves


def test_the_same_entries_again_are_fine(service: Service) -> None:
    server, records = service
    client, leaves = client_of(server.url), Source(9).all()
    client.insert(ORIGIN, 0, b"", leaves[:5])
    assert client.insert(ORIGIN, 0, b"", leaves[:5]) == Inserted(Standing(5, leaves[4]))
    assert client.insert(ORIGIN, 1, leaves[0], leaves[1:3]) == Inserted(Standing(5, leaves[4]))
    assert client.insert(ORIGIN, 3, leaves[2], leaves[3:]) == Inserted(Standing(9, leaves[8]))
    assert held(records) == leaves
    assert records.alarms(ORIGIN, 10) == []


def test_another_hash_or_another_link_is_a_fork_and_an_alarm(service: Service) -> None:
    server, records = service
    client, leaves = client_of(server.url), Source(5).all()
    client.insert(ORIGIN, 0, b"", leaves)
    assert client.insert(ORIGIN, 5, leaf(4, "!"), [leaf(5)]) == Forked(4)
    assert client.insert(ORIGIN, 2, leaves[1], [leaves[2], leaf(3, "!"), leaves[4]]) == Forked(3)
    assert client.insert(ORIGIN, 3, leaf(2, "!"), [leaves[3]]) == Forked(2)
    assert held(records) == leaves
    found = {(alarm.kind, alarm.first, alarm.last, alarm.offered, alarm.open) for alarm in records.alarms(ORIGIN, 10)}
    assert found == {("fork", n, n, leaf(n, "!"), True) for n in (2, 3, 4)}


def test_a_gap_is_an_alarm_until_it_is_filled(service: Service) -> None:
    server, records = service
    client, leaves = client_of(server.url), Source(9).all()
    for _ in range(2):  # said twice, kept once
        assert client.insert(ORIGIN, 5, leaves[4], leaves[5:]) == OutOfOrder(Standing(0, b""))
    listed = read(server, f"/alarms/{ORIGIN}")["alarms"]
    assert [(a["kind"], a["first"], a["last"], a["open"], a["repair"]) for a in listed] == [
        ("gap", 0, 4, True, "deliver entries 0 to 4")
    ]
    client.insert(ORIGIN, 0, b"", leaves[:4])
    assert records.alarms(ORIGIN, 10)[0].open
    client.insert(ORIGIN, 4, leaves[3], leaves[4:])
    assert not records.alarms(ORIGIN, 10)[0].open


def test_alarms_are_not_kept_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.evidence.log_service_records.MAX_ALARMS", 3)
    records = LogServiceRecords(tmp_path / "s.db")
    for number in range(2, 9):
        records.insert(ORIGIN, number, leaf(0), [leaf(number)], 1)
    assert [(alarm.first, alarm.last) for alarm in records.alarms(ORIGIN, 9)] == [(0, 1), (0, 2), (0, 3)]
    records.close()


def test_logs_do_not_mix(service: Service) -> None:
    server, records = service
    client = client_of(server.url)
    client.insert(ORIGIN, 0, b"", [leaf(0)])
    client.insert("other", 0, b"", [leaf(0, "!")])
    assert client.insert(ORIGIN, 1, leaf(0, "!"), [leaf(1)]) == Forked(0)
    assert client.standing("other") == Standing(1, leaf(0, "!"))
    assert held(records) == [leaf(0)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6), st.booleans()), max_size=12))
def test_whatever_is_offered_the_log_only_grows_by_what_continues_it(
    tmp_path_factory: pytest.TempPathFactory, offers: list[tuple[int, int, bool]]
) -> None:
    records = LogServiceRecords(tmp_path_factory.mktemp("log") / "s.db")
    model: list[bytes] = []
    for first, count, forged in offers:
        offered = [leaf(n, "!" if forged else "") for n in range(first, first + count)]
        prev = leaf(first - 1) if first else b""
        outcome = records.insert(ORIGIN, first, prev, offered, 1)
        if first > len(model):
            assert outcome == OutOfOrder(Standing(len(model), model[-1] if model else b""))
        elif (first and model[first - 1] != prev) or offered[: len(model) - first] != model[first : first + count]:
            assert isinstance(outcome, Forked)
        else:
            model += offered[len(model) - first :]
            assert outcome == Inserted(Standing(len(model), model[-1]))
        assert held(records) == model
    records.close()


def test_a_daily_root_must_be_that_of_the_entries(service: Service) -> None:
    server, records = service
    client, source = client_of(server.url), Source(9)

    def offer(date: str, size: int, of: Source = source) -> object:
        return client.insert_root(ORIGIN, DailyRoot(date, size, root_of(of.all()[:size])), of.note(size))

    assert offer("2026-11-21", 5) == OutOfOrder(Standing(0, b""))
    client.insert(ORIGIN, 0, b"", source.all())
    assert offer("2026-11-21", 5) == RootKept()
    assert offer("2026-11-21", 5) == RootKept()
    first = records.roots(ORIGIN, 1)[0]
    assert offer("2026-11-21", 7) == RootTaken(first)
    assert offer("2026-11-20", 7) == RootTaken(first)
    assert offer("2026-11-22", 4) == RootTaken(first)
    assert offer("2026-11-22", 7, Source(9, fork_at=3)) == Forked(6)
    assert offer("2026-11-22", 5) == RootKept()
    assert offer("2026-11-23", 0) == RootTaken(records.roots(ORIGIN, 1)[0])
    assert [(root["date"], root["size"]) for root in read(server, f"/roots/{ORIGIN}")["roots"]] == [
        ("2026-11-22", 5),
        ("2026-11-21", 5),
    ]


# ---------------------------------------------------------------- what is malformed


def ask(server: LogServer, method: str, path: str, body: bytes | None, token: str = TOKEN) -> tuple[int, bytes]:
    host, port = server.server_address[:2]
    line = http.client.HTTPConnection(str(host), int(port), timeout=PATIENCE_SECONDS)
    try:
        line.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def read(server: LogServer, path: str) -> dict[str, Any]:
    status, body = ask(server, "GET", path, None, token="")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


ENTRIES: dict[str, Any] = {"log_id": ORIGIN, "first": 0, "prev": "", "hashes": [leaf(0).hex()]}
ROOT: dict[str, Any] = {
    "log_id": ORIGIN,
    "date": "2026-11-21",
    "size": 1,
    "root": leaf(0).hex(),
    "checkpoint": Source(1).note(1).decode(),
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/entries", b""),
        ("/entries", b"\xff"),
        ("/entries", b"[" * 10_000),
        ("/entries", []),
        ("/entries", {**ENTRIES, "more": 1}),
        ("/entries", {"log_id": ORIGIN}),
        ("/entries", {**ENTRIES, "log_id": "../x"}),
        ("/entries", {**ENTRIES, "log_id": ""}),
        ("/entries", {**ENTRIES, "log_id": "a" * 201}),
        ("/entries", {**ENTRIES, "log_id": 1}),
        ("/entries", {**ENTRIES, "first": -1}),
        ("/entries", {**ENTRIES, "first": True}),
        ("/entries", {**ENTRIES, "first": 0.0}),
        ("/entries", {**ENTRIES, "first": 2**63 - 1, "prev": leaf(0).hex()}),
        ("/entries", {**ENTRIES, "first": 1}),
        ("/entries", {**ENTRIES, "prev": leaf(0).hex()}),
        ("/entries", {**ENTRIES, "prev": None}),
        ("/entries", {**ENTRIES, "hashes": []}),
        ("/entries", {**ENTRIES, "hashes": "ab"}),
        ("/entries", {**ENTRIES, "hashes": [leaf(0).hex().upper()]}),
        ("/entries", {**ENTRIES, "hashes": [leaf(0).hex()[:-1]]}),
        ("/entries", {**ENTRIES, "hashes": [""]}),
        ("/entries", {**ENTRIES, "hashes": [None]}),
        ("/entries", {**ENTRIES, "hashes": [leaf(n).hex() for n in range(MAX_HASHES + 1)]}),
        ("/roots", {**ROOT, "date": "2026-11-31"}),
        ("/roots", {**ROOT, "date": "20261121"}),
        ("/roots", {**ROOT, "date": MORNING}),
        ("/roots", {**ROOT, "date": 7}),
        ("/roots", {**ROOT, "size": 2}),
        ("/roots", {**ROOT, "root": leaf(1).hex()}),
        ("/roots", {**ROOT, "checkpoint": "nothing"}),
        ("/roots", {**ROOT, "checkpoint": "\ud800"}),
        ("/roots", {**ROOT, "checkpoint": None}),
    ],
)
def test_a_malformed_request_is_refused_and_changes_nothing(service: Service, path: str, body: Any) -> None:
    server, records = service
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert ask(server, "POST", path, data)[0] == 400
    assert records.standing(ORIGIN).size == 0
    assert records.alarms(ORIGIN, 1) == []


def test_the_most_hashes_that_may_be_sent_are_taken(service: Service) -> None:
    server, records = service
    client_of(server.url).insert(ORIGIN, 0, b"", Source(MAX_HASHES).all())
    assert held(records) == Source(MAX_HASHES).all()


def test_other_paths_are_not_found(service: Service) -> None:
    server, _ = service
    for method, path in [
        ("GET", "/"),
        ("GET", "/logs"),
        ("GET", "/logs/"),
        ("GET", "/logs/../x"),
        ("GET", "/logs/%2e"),
        ("GET", f"/what/{ORIGIN}"),
        ("POST", f"/logs/{ORIGIN}"),
        ("POST", "/entries/"),
    ]:
        assert ask(server, method, path, b"{}" if method == "POST" else None)[0] == 404, (method, path)


def test_writing_needs_the_token_and_reading_does_not(service: Service) -> None:
    server, records = service
    for token in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        assert ask(server, "POST", "/entries", json.dumps(ENTRIES).encode(), token)[0] == 401
        assert ask(server, "POST", "/roots", json.dumps(ROOT).encode(), token)[0] == 401
    assert records.standing(ORIGIN).size == 0
    with pytest.raises(NotPermitted):
        client_of(server.url, "another-token-0123456789").insert(ORIGIN, 0, b"", [leaf(0)])
    assert client_of(server.url, "").standing(ORIGIN) == Standing(0, b"")
    assert ask(server, "POST", "/entries", json.dumps(ENTRIES).encode())[0] == 200


def test_a_token_that_is_none_is_refused() -> None:
    for token in ("short", "with a space 0123456789", "with-a-newline-0123\n", "é" * 20):
        with pytest.raises(InvalidInput):
            client_of("http://127.0.0.1:1", token)
    with pytest.raises(InvalidInput):
        client_of("http://127.0.0.1:1/?x")


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"no database, but a text of some length" * 40)
    with pytest.raises(NotALedger):
        LogServiceRecords(path)
    with pytest.raises(Unavailable):
        LogServiceRecords(tmp_path / "missing" / "s.db")


# ---------------------------------------------------------------- delivery


def test_everything_is_delivered_and_then_what_is_new(service: Service, tmp_path: Path) -> None:
    server, records = service
    source = Source(250)
    delivery = delivery_of(source, server.url, tmp_path / "state")
    assert delivery.deliver() == Delivered(size=250, sent=250)
    assert delivery.deliver() == Delivered(size=250, sent=0)
    source.head_seq = 251
    assert delivery.deliver() == Delivered(size=251, sent=1)
    assert held(records) == source.all()
    assert CursorFile(tmp_path / "state").read(ORIGIN) == Cursor(ORIGIN, 251, leaf(250).hex())


def test_an_empty_ledger_is_delivered(service: Service, tmp_path: Path) -> None:
    assert delivery_of(Source(0), service[0].url, tmp_path / "state").deliver() == Delivered(0, 0)
    assert not (tmp_path / "state").exists()


def test_no_more_is_delivered_than_was_asked_for(service: Service, tmp_path: Path) -> None:
    server, records = service
    delivery = delivery_of(Source(250), server.url, tmp_path / "state")
    assert delivery.deliver(most=130) == Delivered(size=130, sent=130)
    assert records.standing(ORIGIN).size == 130
    assert delivery.deliver(most=0) == Delivered(size=130, sent=0)


def test_without_its_state_it_goes_on_where_the_service_stands(service: Service, tmp_path: Path) -> None:
    server, records = service
    delivery_of(Source(100), server.url, tmp_path / "state").deliver()
    assert delivery_of(Source(150), server.url, tmp_path / "new").deliver() == Delivered(150, 50)
    # And the first, whose state is behind now, finds nothing to do.
    assert delivery_of(Source(150), server.url, tmp_path / "state").deliver() == Delivered(150, 0)
    assert held(records) == Source(150).all()


def test_two_that_deliver_at_once_do_no_harm(service: Service, tmp_path: Path) -> None:
    server, records = service
    ends: list[int] = []

    def deliver(name: str, batch: int) -> None:
        ends.append(delivery_of(Source(600), server.url, tmp_path / name, batch=batch).deliver().size)

    threads = [threading.Thread(target=deliver, args=(f"state{batch}", batch)) for batch in (7, 10, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert ends == [600] * 3
    assert held(records) == Source(600).all()
    assert records.alarms(ORIGIN, 9) == []


def test_a_service_that_lost_entries_gets_them_again_and_that_is_told(tmp_path: Path) -> None:
    with serving(tmp_path / "old.db") as (server, _):
        delivery_of(Source(60), server.url, tmp_path / "state").deliver()
    with serving(tmp_path / "restored.db") as (server, records):
        client_of(server.url).insert(ORIGIN, 0, b"", Source(40).all())
        delivery = delivery_of(Source(70), server.url, tmp_path / "state", batch=5)
        # It is told again until it is mended, also if that takes several calls.
        assert delivery.deliver(most=5) == Delivered(45, 5, (Gap(40, 59, filled=False),))
        assert delivery.deliver() == Delivered(70, 25, (Gap(45, 59, filled=True),))
        assert delivery.deliver() == Delivered(70, 0)
        assert held(records) == Source(70).all()


def test_a_daily_root_brings_gaps_to_light_too(tmp_path: Path) -> None:
    with serving(tmp_path / "old.db") as (server, _):
        delivery_of(Source(60), server.url, tmp_path / "state").deliver()
    with serving(tmp_path / "new.db") as (server, records):
        delivery = delivery_of(Source(70), server.url, tmp_path / "state")
        done = delivery.deliver_root(Source(70).note(65), MORNING)
        assert done == Delivered(70, 70, (Gap(0, 59, filled=True),), root=True)
        assert delivery.deliver_root(Source(70).note(70), EVENING) == Delivered(70, 0)
        assert held(records) == Source(70).all()


def test_a_service_that_loses_entries_under_way_gets_them_again(tmp_path: Path) -> None:
    """Put back to an older copy between two batches."""
    with serving(tmp_path / "one.db") as (server, _), serving(tmp_path / "two.db") as (older, records):
        client_of(older.url).insert(ORIGIN, 0, b"", Source(30).all())

        class Watching(Source):
            def leaves(self, first: int, limit: int) -> list[bytes]:
                if first == 60:
                    server.service = older.service
                return super().leaves(first, limit)

        delivery = delivery_of(Watching(80), server.url, tmp_path / "state", batch=20)
        assert delivery.deliver() == Delivered(80, 110, (Gap(30, 59, filled=True),))
        assert held(records) == Source(80).all()


def test_events_that_the_ledger_cannot_give_are_an_exact_gap(service: Service, tmp_path: Path) -> None:
    source = Source(50, begin=20)
    delivered = delivery_of(source, service[0].url, tmp_path / "state").deliver()
    assert delivered == Delivered(0, 0, (Gap(0, 49, filled=False),))


@pytest.mark.parametrize("fork_at", [0, 30, 49])
def test_a_ledger_that_was_rewritten_is_noticed_by_the_service_alone(
    service: Service, tmp_path: Path, fork_at: int
) -> None:
    server, records = service
    delivery_of(Source(50), server.url, tmp_path / "state").deliver()
    # Hashes of a chain differ from the fork on to the end.
    with pytest.raises(LogForked, match="event 49"):
        delivery_of(Source(60, fork_at=fork_at), server.url, tmp_path / "lost").deliver()
    assert held(records) == Source(50).all()


def test_a_ledger_that_was_rewritten_is_noticed_by_the_state_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "old.db") as (server, _):
        delivery_of(Source(50), server.url, tmp_path / "state").deliver()
    with serving(tmp_path / "new.db") as (server, records):
        with pytest.raises(LogForked, match="event 49"):
            delivery_of(Source(60, fork_at=30), server.url, tmp_path / "state").deliver()
        assert records.standing(ORIGIN).size == 0


def test_a_ledger_that_was_put_back_is_noticed(service: Service, tmp_path: Path) -> None:
    server, _ = service
    delivery_of(Source(50), server.url, tmp_path / "state").deliver()
    for state in ("state", "lost"):
        with pytest.raises(LogForked, match="50 events"):
            delivery_of(Source(40), server.url, tmp_path / state).deliver()


def test_roots_are_delivered_once_a_day_with_what_they_are_over(service: Service, tmp_path: Path) -> None:
    server, records = service
    source = Source(50)
    delivery = delivery_of(source, server.url, tmp_path / "state")
    assert delivery.deliver_root(source.note(30), MORNING).root
    assert records.standing(ORIGIN).size == 50
    assert not delivery.deliver_root(source.note(50), EVENING).root
    assert delivery.deliver_root(source.note(50), NEXT_DAY).root
    assert not delivery.deliver_root(source.note(50), EVENING).root
    assert [(root.date, root.size) for root in records.roots(ORIGIN, 9)] == [("2026-11-22", 50), ("2026-11-21", 30)]
    # Another process, without the state, is told that there is one.
    assert not delivery_of(source, server.url, tmp_path / "other").deliver_root(source.note(40), EVENING).root
    assert CursorFile(tmp_path / "other").read(ORIGIN).root_date == "2026-11-21"


def test_a_root_that_contradicts_the_entries_or_the_last_root_is_a_fork(service: Service, tmp_path: Path) -> None:
    server, _ = service
    source = Source(50)
    delivery = delivery_of(source, server.url, tmp_path / "state")
    with pytest.raises(LogForked):
        delivery.deliver_root(Source(50, fork_at=2).note(50), MORNING)
    assert delivery.deliver_root(source.note(50), MORNING).root
    with pytest.raises(LogForked, match="50 events of 2026-11-21"):
        delivery.deliver_root(source.note(40), NEXT_DAY)
    with pytest.raises(LogForked, match="another root over the first 50"):
        delivery_of(source, server.url, tmp_path / "other").deliver_root(Source(50, fork_at=2).note(50), MORNING)


def test_a_service_that_took_another_root_of_the_size_is_a_fork(service: Service, tmp_path: Path) -> None:
    delivery = delivery_of(Source(5), service[0].url, tmp_path / "state")
    ours = DailyRoot("2026-11-21", 5, leaf(0))
    for held in (DailyRoot("2026-11-21", 5, leaf(1)), DailyRoot("2026-11-20", 5, leaf(0))):
        with pytest.raises(LogForked):
            delivery._end_root(ours, RootTaken(held))
    assert not delivery._end_root(ours, RootTaken(DailyRoot("2026-11-21", 4, leaf(1))))


def test_a_root_over_events_that_the_ledger_does_not_have_is_not_delivered(service: Service, tmp_path: Path) -> None:
    delivery = delivery_of(Source(40), service[0].url, tmp_path / "state")
    with pytest.raises(Unavailable):
        delivery.deliver_root(Source(50).note(50), MORNING)
    with pytest.raises(NoteInvalid):
        delivery.deliver_root(b"no note", MORNING)
    with pytest.raises(InvalidInput):
        delivery.deliver_root(Source(40).note(40), "today")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 700), st.integers(0, 700), st.integers(1, 700))
def test_leaves_come_from_tiles(size: int, first: int, limit: int) -> None:
    leaves = Source(size).all()
    growth = Growth()
    growth.extend(leaves)
    tiles = {(tile.level, tile.number): row for tile, row in growth.take()}
    source = TileLeaves(lambda places: [tiles[place] for place in places], lambda: size)
    assert source.head_seq == size
    assert source.leaves(first, limit) == leaves[first : first + limit]


def test_a_tile_that_is_too_short_is_noticed() -> None:
    source = TileLeaves(lambda places: [b"x" * 32 for _ in places], lambda: 2)
    assert source.leaves(0, 1) == [b"x" * 32]
    with pytest.raises(LedgerCorrupt):
        source.leaves(0, 2)


# ---------------------------------------------------------------- the state


def test_the_state_is_replaced_whole(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "state")
    assert file.read("a") == Cursor("a")
    for size in (1, 2):
        cursor = Cursor("a", size, leaf(size).hex(), "2026-11-21")
        file.write(cursor)
        assert file.read("a") == cursor
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with pytest.raises(InvalidInput):
        file.read("b")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff" * 9,
        b'{"log_id":"a","size":1,"last":""}',
        b'{"log_id":"a","size":0,"last":"' + b"0" * 64 + b'"}',
        b'{"log_id":"a","size":-1,"last":"' + b"0" * 64 + b'"}',
        b'{"log_id":"a","size":1,"last":"' + b"0" * 63 + b'"}',
        b'{"log_id":"a","root_date":"never"}',
        b'{"log_id":"a","root_date":"20261121"}',
    ],
)
def test_a_state_that_is_none_is_not_taken_for_the_beginning(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(LedgerCorrupt):
        CursorFile(tmp_path / "state").read("a")


def test_a_state_that_cannot_be_written_is_reported(service: Service, tmp_path: Path) -> None:
    server, records = service
    with pytest.raises(Unavailable):
        delivery_of(Source(5), server.url, tmp_path / "missing" / "state").deliver()
    assert records.standing(ORIGIN).size == 5
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable):
        CursorFile(tmp_path / "folder").read("a")


# ---------------------------------------------------------------- services that lie


@contextmanager
def liar(answer: Callable[[bytes], bytes]) -> Iterator[LogServiceClient]:
    """A service that gives these bytes to each request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                try:
                    line.sendall(answer(read_request(line)))
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield LogServiceClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=5)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE_SECONDS)


def read_request(line: socket.socket) -> bytes:
    """The whole of it: what is closed on unread bytes resets the connection, and the answer may be lost."""
    found = b""
    while True:
        head, separator, body = found.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: ([0-9]+)", head)
        if separator and len(body) >= (int(length[1]) if length else 0):
            return found
        part = line.recv(65_536)
        if not part:
            return found
        found += part


def said(status: int, fields: object) -> bytes:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


HASH = leaf(0).hex()


@pytest.mark.parametrize(
    "answer",
    [
        said(500, {"size": 0, "last": ""}),
        said(404, b"not found"),
        said(302, {"size": 0, "last": ""}),
        said(200, b"<html>"),
        said(200, []),
        said(200, {"size": 0}),
        said(200, {"size": 1, "last": ""}),
        said(200, {"size": 0, "last": HASH}),
        said(200, {"size": -1, "last": HASH}),
        said(200, {"size": 1.0, "last": HASH}),
        said(200, {"size": True, "last": HASH}),
        said(200, {"size": 2**64, "last": HASH}),
        said(200, {"size": 1, "last": HASH.upper()}),
        said(200, b"[" * 50_000),
        said(200, b" " * 100_000),
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_makes_no_sense_is_none(answer: bytes) -> None:
    with liar(lambda _: answer) as client:
        with pytest.raises(Unavailable):
            client.standing(ORIGIN)
        with pytest.raises(Unavailable):
            client.insert(ORIGIN, 0, b"", [leaf(0), leaf(1)])
        with pytest.raises(Unavailable):
            client.insert_root(ORIGIN, DailyRoot("2026-11-21", 1, leaf(0)), Source(1).note(1))


@pytest.mark.parametrize(
    "answer",
    [
        said(200, {"size": 1, "last": HASH}),
        said(200, {"size": 2, "last": HASH}),
        said(409, {"size": 2, "last": HASH}),
        said(409, {"problem": "fork", "index": "1"}),
        said(409, {"problem": "out_of_order", "size": 2}),
    ],
)
def test_a_service_that_says_yes_and_stands_elsewhere_has_nothing(answer: bytes) -> None:
    with liar(lambda _: answer) as client, pytest.raises(Unavailable):
        client.insert(ORIGIN, 0, b"", [leaf(0), leaf(1)])


def test_a_service_that_says_it_has_more_than_there_is_is_not_believed(tmp_path: Path) -> None:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"GET"):
            return said(200, {"size": 0, "last": ""})
        return said(200, {"size": 1_000_000, "last": leaf(4).hex()})

    with liar(answer) as client:
        delivery = LogDelivery(Source(5), client, CursorFile(tmp_path / "state"), log_id=ORIGIN)
        with pytest.raises(LogForked):
            delivery.deliver()
    assert CursorFile(tmp_path / "state").read(ORIGIN) == Cursor(ORIGIN)


def test_a_service_that_refuses_for_ever_is_given_up(tmp_path: Path) -> None:
    turns = iter(range(10_000))

    def answer(request: bytes) -> bytes:
        size = next(turns) % 2
        standing = {"size": size, "last": HASH if size else ""}
        return said(200, standing) if request.startswith(b"GET") else said(409, {"problem": "out_of_order", **standing})

    with liar(answer) as client:
        delivery = LogDelivery(Source(5), client, CursorFile(tmp_path / "state"), log_id=ORIGIN)
        with pytest.raises(Unavailable, match="out of order"):
            delivery.deliver()


def test_a_service_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    try:
        with pytest.raises(Unavailable):
            LogServiceClient(f"http://127.0.0.1:{port}", timeout_seconds=0.2).standing(ORIGIN)
    finally:
        listener.close()
    with pytest.raises(Unavailable):
        delivery_of(Source(5), f"http://127.0.0.1:{port}", tmp_path / "state").deliver()


# ---------------------------------------------------------------- kill -9

PROGRAM = """
import sys
from tallystick.evidence.log_service_records import LogServiceRecords
from tallystick.evidence.log_service_server import LogServer, LogService
server = LogServer(LogService(LogServiceRecords(sys.argv[1])))
print(server.url, flush=True)
server.serve_forever(poll_interval=0.1)
"""


@contextmanager
def started(file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(file)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def test_a_service_killed_in_the_middle_goes_on_without_gap_or_double(tmp_path: Path) -> None:
    source = Source(4_000)
    with started(tmp_path / "service.db") as (process, url):

        class Patient(Source):
            def leaves(self, first: int, limit: int) -> list[bytes]:
                if first >= 3_000:
                    process.wait(PATIENCE_SECONDS)  # the delivery never ends before the kill
                return super().leaves(first, limit)

        delivery = delivery_of(Patient(4_000), url, tmp_path / "state", batch=10)
        assert delivery.deliver(most=200).size == 200
        # The kill falls somewhere into the hundreds of requests that follow.
        timer = threading.Timer(0.05, process.send_signal, (signal.SIGKILL,))
        timer.start()
        with pytest.raises(Unavailable):
            delivery.deliver()
        timer.join()
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    taken = CursorFile(tmp_path / "state").read(ORIGIN).size
    assert 200 <= taken < 4_000
    with started(tmp_path / "service.db") as (_, url):
        stands = client_of(url).standing(ORIGIN)
        assert stands.size in (taken, taken + 10)  # nothing it had confirmed is lost
        done = delivery_of(source, url, tmp_path / "state", batch=1_000).deliver()
        assert done == Delivered(4_000, 4_000 - stands.size)
    records = LogServiceRecords(tmp_path / "service.db")
    assert held(records) == source.all()
    assert records.alarms(ORIGIN, 1) == []
    records.close()
