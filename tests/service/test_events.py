"""Events: pages of the journal, streams of it that can be resumed, and its exact bytes."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import tallystick
from tallystick.control import Scope
from tallystick.errors import Unavailable
from tallystick.ledger import Ledger
from tallystick.service import feeds, streaming
from tallystick.service.feeds import feed_of
from tallystick.service.routes import events as routes
from tallystick.service.settings import Settings
from tests.support.processes import wait_until
from tests.support.service import Caller, Served, serving

EVENTS = "/v1/ledgers/main/events"
STREAM = f"{EVENTS}/stream"
SECONDS = 20


def transfer(served: Served, amount: int = 10, to: str = "users:bob", **more: Any) -> int:
    """Post a transfer in this process; the number of its event."""
    key = f"t-{next(_numbers)}"
    return served.ledger.transfer("users:alice", to, "USD/2", amount, key=key, **more).seq


_numbers = iter(range(1_000_000))


def limited(served: Served, account: str, **more: Any) -> Caller:
    return served.caller(scopes=(Scope("read", "main", account),), **more)


# ---------------------------------------------------------------- pages


def test_the_journal_is_read_page_by_page(served: Served) -> None:
    posted = [transfer(served) for _ in range(5)]
    seen, page = [], served.admin.get(EVENTS, limit=2).json()
    transfer(served)  # behind what the list shows
    while True:
        seen += page["items"]
        if not page["cursor"]:
            break
        page = served.admin.get(EVENTS, limit=2, cursor=page["cursor"]).json()

    assert [found["seq"] for found in seen] == list(range(posted[-1] + 1))
    assert seen[0]["type"] == "ledger_opened"
    last = served.ledger.transaction(posted[-1])
    assert (seen[-1]["hash"], seen[-1]["prev"]) == (last.hash, seen[-2]["hash"])
    assert [entry["amount"] for entry in seen[-1]["entries"]] == ["-10", "10"]


def test_events_are_found_by_type_account_and_number(served: Served) -> None:
    first = transfer(served, to="users:carol")
    hold = served.ledger.hold("users:alice", "USD/2", 5, key="hold").seq
    frozen = served.ledger.freeze("users:carol", key="freeze").seq
    second = transfer(served)

    def numbers(**query: Any) -> list[int]:
        return [found["seq"] for found in served.admin.get(EVENTS, **query).json()["items"]]

    assert numbers(types="hold,account_frozen") == [hold, frozen]
    assert numbers(account="users:carol") == [first, frozen]
    assert numbers(account="users:alice", types="transfer") == [first, second]
    assert numbers(after=frozen) == [second]
    assert numbers(after=second) == []


@pytest.mark.parametrize(
    "query",
    [
        {"types": "Transfer"},
        {"types": "transfer,"},
        {"types": ",".join(["a"] * 101)},
        {"account": "not an account"},
        {"after": -2},
        {"after": 2**62},
        {"after": "x"},
        {"limit": 0},
        {"limit": 1_001},
        {"colour": "red"},
    ],
)
def test_a_filter_that_can_mean_nothing_is_refused(here: Served, query: dict[str, Any]) -> None:
    answer = here.admin.get(EVENTS, **query)
    assert answer.json()["code"] == "invalid_input"
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "query", [{"types": ",".join(["a"] * 100)}, {"after": -1}, {"after": 2**62 - 1}, {"limit": 1}, {"limit": 1_000}]
)
def test_a_filter_at_its_limit_is_not(here: Served, query: dict[str, Any]) -> None:
    assert here.admin.get(EVENTS, **query).status_code == 200


def test_a_key_for_some_accounts_sees_their_events_and_not_the_others_balances(served: Served) -> None:
    transfer(served, to="users:carol")
    mine = transfer(served)
    found = limited(served, "users:bob").get(EVENTS).json()["items"]

    assert [item["type"] for item in found] == ["mint", "transfer"]
    assert found[-1]["seq"] == mine
    alice, bob = found[-1]["entries"]
    assert bob["after"] == "50010"
    assert (alice["before"], alice["after"], alice["version"]) == (None, None, None)
    assert limited(served, "users:bob").get(EVENTS, account="users:alice").status_code == 403
    assert served.caller(scopes=(Scope("post", "main", "users:bob"),)).get(EVENTS).status_code == 403
    assert served.caller(scopes=(Scope("read", "other"),)).get(EVENTS).status_code == 404


def test_the_bytes_of_an_event_have_its_hash(served: Served) -> None:
    seq = transfer(served)
    answer = served.caller(role="auditor").get(f"{EVENTS}/{seq}/raw")

    assert answer.content == served.ledger.journal.event(seq)
    assert hashlib.sha256(b"\0" + answer.content).hexdigest() == served.ledger.transaction(seq).hash
    assert served.admin.get(f"{EVENTS}/{seq + 1}/raw").status_code == 404
    assert served.admin.get(f"{EVENTS}/-1/raw").status_code == 404


def test_the_bytes_of_events_are_for_whoever_may_audit_the_whole_ledger(here: Served) -> None:
    assert here.caller(role="reader").get(f"{EVENTS}/0/raw").status_code == 403
    some = here.caller(scopes=(Scope("audit", "main", "users:"), Scope("read", "main", "users:")))
    assert some.get(f"{EVENTS}/0/raw").status_code == 403


# ---------------------------------------------------------------- streams


class Stream:
    """An event stream as a browser reads it."""

    def __init__(self, served: Served, token: str, query: str = "", last: str = "") -> None:
        host, port = served.base.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        resume = f"last-event-id: {last}\r\n" if last else ""
        self.socket.sendall(
            f"GET {STREAM}{query} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{resume}\r\n".encode()
        )
        self._file = self.socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while head := self._file.readline().strip().decode():
            name, _, value = head.partition(": ")
            self.headers[name.lower()] = value
        self._blocks = self._read() if self.status == 200 else iter(())
        if self.status == 200:
            self.greeting = next(self._blocks)

    def next(self) -> dict[str, str] | None:
        """The fields of the next block; None at the end of the stream."""
        return next(self._blocks, None)

    def event(self) -> tuple[int, str, Any]:
        """(id, type, data) of the next event."""
        found = self.next()
        while found is not None and set(found) == {""}:
            found = self.next()
        assert found is not None
        return int(found["id"]), found["event"], json.loads(found["data"])

    def events(self, number: int) -> list[int]:
        return [self.event()[0] for _ in range(number)]

    def _read(self) -> Iterator[dict[str, str]]:
        rest = b""
        while size := int(self._file.readline() or b"0", 16):
            *whole, rest = (rest + self._file.read(size)).split(b"\n\n")
            self._file.readline()
            for block in whole:
                fields = (line.partition(": ") for line in block.decode().split("\n"))
                yield {name: value for name, _, value in fields}

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def streaming_from(served: Served, query: str = "", *, token: str = "", last: str = "") -> Iterator[Stream]:
    others = served.service.streams
    stream = Stream(served, token or served.admin.token, query, last)
    try:
        yield stream
    finally:
        stream.close()
        wait_until(lambda: served.service.streams <= others, SECONDS, "the end of the stream")


def test_new_events_arrive_soon_in_their_order(served: Served) -> None:
    with streaming_from(served) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        assert "retry" in stream.greeting
        waits = []
        for _ in range(5):
            posted = served.admin.done("/v1/ledgers/main/transfers", PAY)
            began = time.monotonic()
            seq, type, data = stream.event()
            waits.append(time.monotonic() - began)
            assert (seq, type) == (posted["seq"], "transfer")
            assert data == served.admin.get(f"/v1/ledgers/main/transactions/{seq}").json()
        assert min(waits) < 0.15  # as a rule within 50 ms; a busy machine may take longer for some


PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "10"}


def test_events_of_another_process_arrive_too(postgres: str) -> None:
    with serving(postgres) as served, streaming_from(served) as stream, tallystick.open(postgres) as other:
        posted = other.ledger("main").transfer("users:alice", "users:bob", "USD/2", 10, key="elsewhere")
        assert stream.event()[0] == posted.seq


def test_a_stream_is_resumed_behind_the_last_event_that_was_seen(served: Served) -> None:
    posted = [transfer(served) for _ in range(5)]
    with streaming_from(served, "?after=-1") as stream:
        assert stream.events(8) == list(range(8))
    with streaming_from(served, last=str(posted[1])) as stream:
        assert stream.events(3) == posted[2:]
    with streaming_from(served, f"?after={posted[0]}", last=str(posted[3])) as stream:
        assert stream.events(1) == posted[4:]
        more = transfer(served)
        assert stream.events(1) == [more]


def test_a_stream_that_is_far_behind_catches_up_without_a_gap(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "EVENTS_TOGETHER", 7)
    monkeypatch.setattr(feeds, "MAX_KEPT", 5)
    for _ in range(30):
        transfer(served)
    with streaming_from(served, "?after=-1") as stream, streaming_from(served) as live:
        begun = stream.events(20)
        for _ in range(40):
            transfer(served)
        assert begun + stream.events(53) == list(range(73))
        assert live.events(40) == list(range(33, 73))


def test_what_is_kept_for_streams_is_bounded(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "MAX_KEPT_BYTES", 3_000)
    with streaming_from(here) as stream:
        numbers = [transfer(here) for _ in range(20)]
        assert stream.events(20) == numbers
        feed = feed_of(here.service, here.ledger)
        kept = [len(item.text) for item in feed._kept]
        assert 0 < sum(kept) <= 3_000
        assert feed._bytes == sum(kept)


@pytest.mark.parametrize("last", ["-1", "x", "1" * 20, "99999", "9223372036854775807"])
def test_a_number_that_is_no_events_is_refused_and_not_waited_for(here: Served, last: str) -> None:
    with streaming_from(here, last=last) as stream:
        assert stream.status == 400


def test_the_newest_event_is_one_to_resume_from(served: Served) -> None:
    for _ in range(3):
        newest = transfer(served)
        with streaming_from(served, last=str(newest)) as stream:
            more = transfer(served)
            assert stream.events(1) == [more]


def test_a_stream_is_filtered_by_type_and_account(here: Served) -> None:
    with streaming_from(here, "?types=transfer,account_frozen&account=users:carol") as stream:
        transfer(here)
        mine = transfer(here, to="users:carol")
        here.ledger.hold("users:alice", "USD/2", 5, key="hold")
        frozen = here.ledger.freeze("users:carol", key="freeze").seq
        assert stream.events(2) == [mine, frozen]


def test_a_stream_shows_a_key_its_accounts_and_nothing_of_others(here: Served) -> None:
    caller = limited(here, "users:bob")
    with streaming_from(here, token=caller.token) as stream:
        transfer(here, to="users:carol")
        mine = transfer(here)
        seq, _, data = stream.event()
        assert seq == mine
        assert data["entries"][0].get("after") is None
        assert data["entries"][1]["after"] == "50010"
    for query, status in (("?account=users:alice", 403), ("?types=A", 400), ("?colour=red", 400)):
        with streaming_from(here, query, token=caller.token) as stream:
            assert stream.status == status
    with streaming_from(here, token=here.caller(scopes=(Scope("post", "main"),)).token) as stream:
        assert stream.status == 403


def test_a_silent_stream_says_that_it_is_still_there(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_SECONDS", 0.1)
    with streaming_from(here, "?types=hold") as stream:
        transfer(here)
        assert stream.next() == {"": "still here"}
        assert stream.next() == {"": "still here"}


def test_a_stopping_service_ends_its_streams_at_once_with_a_hint(here: Served) -> None:
    with streaming_from(here) as stream:
        here.service.stopping = True
        began = time.monotonic()
        last = stream.next()
        assert last is not None
        assert (last["event"], json.loads(last["data"])["code"]) == ("stream.end", "stopping")
        assert "id" not in last
        assert int(last["retry"]) > 0
        assert stream.next() is None
        assert time.monotonic() - began < 5
    wait_until(lambda: here.service.under_way == 0, SECONDS, "the end of the request")
    here.service.stopping = False


def test_a_revoked_key_reads_no_further(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert streaming.STANDING_SECONDS + routes.HEARTBEAT_SECONDS < 60
    monkeypatch.setattr(streaming, "STANDING_SECONDS", 0.05)
    monkeypatch.setattr(routes, "HEARTBEAT_SECONDS", 0.05)
    token, key = here.service.keyring.create("reader", role="reader")
    with streaming_from(here, token=token) as stream:
        assert stream.next() == {"": "still here"}
        here.service.keyring.revoke(key.id)
        found = stream.next()
        while found == {"": "still here"}:
            found = stream.next()
        assert found is not None
        assert (found["event"], json.loads(found["data"])["code"]) == ("stream.end", "unauthenticated")
        assert stream.next() is None


def test_more_streams_than_allowed_are_refused_and_their_places_come_back() -> None:
    with serving("memory://", Settings(max_streams=2)) as here, streaming_from(here) as one:
        with streaming_from(here) as two, streaming_from(here) as three:
            assert (one.status, two.status, three.status) == (200, 200, 503)
            assert int(three.headers["retry-after"]) >= 1
        with streaming_from(here) as four:
            assert four.status == 200


def test_one_poller_serves_all_streams_of_a_ledger_and_ends_with_the_last(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = Ledger.events

    def counted(ledger: Ledger, after: int = -1, limit: int = 1_000) -> Any:
        reads.append(after)
        return read(ledger, after, limit)

    monkeypatch.setattr(Ledger, "events", counted)
    streams = [Stream(here, here.admin.token) for _ in range(5)]
    seq = transfer(here)
    assert [stream.events(1) for stream in streams] == [[seq]] * 5
    assert reads == [seq - 1]
    for stream in streams:
        stream.close()
    feed = feed_of(here.service, here.ledger)
    wait_until(lambda: feed._poller is None, SECONDS, "the poller's end")
    with streaming_from(here, "?after=-1") as stream:  # and begins again
        assert stream.events(seq + 1) == list(range(seq + 1))


def test_a_reader_who_does_not_read_is_cut_off_and_costs_no_memory(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(routes, "HEARTBEAT_SECONDS", 0.1)
    text = "x" * 1_000
    for _ in range(400):
        transfer(here, 1, metadata={f"note{place}": text for place in range(30)})
    with streaming_from(here, "?after=-1") as stream:
        assert stream.status == 200
        wait_until(lambda: here.service.streams == 0, SECONDS, "the cutting off")


def test_streams_end_when_the_store_does_not_answer_and_can_be_resumed(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with streaming_from(here) as stream:

        def fail(*_: Any) -> Any:
            raise Unavailable(reason="the disk is gone, at /secret/place")

        with monkeypatch.context() as broken:
            broken.setattr(feeds.Feed, "_look", fail)
            last = stream.next()
            assert last is not None
            assert (last["event"], json.loads(last["data"])["code"]) == ("stream.end", "unavailable")
            assert "secret" not in last["data"]
            assert stream.next() is None
    seq = transfer(here)
    with streaming_from(here, f"?after={seq - 1}") as stream:
        assert stream.events(1) == [seq]
