"""Batches and streams of commands: all of them or each for itself, in order, safe to repeat, within their limits."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tallystick.commands import Transfer
from tallystick.control import Mandate, Scope
from tallystick.service import batches, streaming
from tallystick.service import lines as line_reading
from tallystick.service.batches import room_of
from tallystick.service.settings import Settings
from tallystick.wire.batches import MAX_BATCH
from tallystick.wire.forms import TAGGED, command_of
from tests.support.processes import wait_until
from tests.support.service import Caller, Served, serving

BULK = "/v1/ledgers/main/transactions/bulk"
STREAM = "/v1/ledgers/main/transactions/stream"
NDJSON = "application/x-ndjson"
SECONDS = 20


def pay(amount: object = "10", **more: Any) -> dict[str, Any]:
    """A command by which alice pays bob."""
    return {
        "command": "transfer",
        "from_account": "users:alice",
        "to_account": "users:bob",
        "asset": "USD/2",
        "amount": amount,
        **more,
    }


def alice(served: Served) -> int:
    return served.ledger.balance("users:alice", "USD/2")


def limited(served: Served, account: str = "users:alice", **more: Any) -> Caller:
    """Someone who may read and post on accounts that begin so."""
    return served.caller(scopes=(Scope("read", "main", account), Scope("post", "main", account)), **more)


# ---------------------------------------------------------------- a batch


def test_each_command_of_a_batch_is_for_itself(served: Served) -> None:
    answer = served.admin.post(BULK, {"commands": [pay(), pay("999999"), pay("20")]})

    first, second, third = answer.json()["results"]
    assert answer.status_code == 200
    assert (first["status"], second["status"], third["status"]) == ("posted", "refused", "posted")
    assert second["problem"]["code"] == "insufficient_funds"
    assert second["problem"]["found"] == "99990 USD/2"
    assert third["seq"] == first["seq"] + 1
    assert served.ledger.transaction(third["id"]).hash == third["hash"]
    assert alice(served) == 99_970


def test_an_atomic_batch_is_posted_whole_or_not_at_all(served: Served) -> None:
    refused = served.admin.post(BULK, {"atomic": True, "commands": [pay(), pay("999999"), pay("20")]})

    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["path"]) == (422, "batch_aborted", "commands[1]")
    assert problem["data"]["index"] == "1"
    assert problem["data"]["refusal"]["code"] == "insufficient_funds"
    assert problem["data"]["refusal"]["account"] == "users:alice"
    assert alice(served) == 100_000

    done = served.admin.done(BULK, {"atomic": True, "commands": [pay(), pay("20")]})
    assert [result["status"] for result in done["results"]] == ["posted", "posted"]
    assert alice(served) == 99_970


def test_a_batch_holds_commands_of_many_kinds(here: Served) -> None:
    commands = [
        {"command": "hold", "account": "users:alice", "asset": "USD/2", "amount": 500},
        {"command": "freeze_account", "account": "users:bob", "reason": "fraud"},
        {"command": "post", "type": "transfer", "legs": [{k: v for k, v in pay("5").items() if k != "command"}]},
    ]
    results = here.admin.done(BULK, {"commands": commands})["results"]

    assert [here.ledger.transaction(found["id"]).type for found in results] == ["hold", "account_frozen", "transfer"]


def test_commands_without_a_key_have_the_requests_and_their_index(here: Served) -> None:
    results = here.admin.done(BULK, {"commands": [pay(), pay(key="mine"), pay()]}, key="batch")["results"]

    assert [here.ledger.transaction(found["id"]).key for found in results] == ["batch#0", "mine", "batch#2"]


def test_a_batch_that_is_repeated_gives_the_same_answers_and_says_so(served: Served) -> None:
    body = {"commands": [pay(), pay("20", key="mine")]}
    first = served.admin.post(BULK, body, key="batch")
    again = served.admin.post(BULK, body, key="batch")
    longer = served.admin.post(BULK, {"commands": [*body["commands"], pay("1")]}, key="batch")

    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert [{**found, "replayed": True} for found in first.json()["results"]] == again.json()["results"]
    assert "idempotency-replayed" not in longer.headers  # one of them is new
    assert [found.get("replayed", False) for found in longer.json()["results"]] == [True, True, False]
    assert alice(served) == 99_969


def test_a_batch_under_a_used_key_with_other_commands_is_a_conflict(here: Served) -> None:
    here.admin.done(BULK, {"commands": [pay()]}, key="batch")
    other = here.admin.done(BULK, {"commands": [pay("11")]}, key="batch")["results"][0]

    assert (other["status"], other["problem"]["code"]) == ("refused", "idempotency_conflict")


@pytest.mark.parametrize("change", [{}, {"reason": "rent", "refs": {"order": "7"}, "metadata": {"note": "x"}}])
def test_a_batch_and_a_single_request_ask_for_the_same_command(here: Served, change: dict[str, Any]) -> None:
    """So that what was sent alone and is repeated in a batch is one transfer."""
    body = {name: value for name, value in pay(**change).items() if name != "command"}
    single = here.admin.done("/v1/ledgers/main/transfers", body, key="one")
    found = here.admin.done(BULK, {"commands": [pay(key="one", **change)]})["results"][0]

    assert (found["id"], found["replayed"]) == (single["id"], True)


def test_the_short_way_to_a_transfer_is_the_long_one() -> None:
    kind = next(kind for kind, form in TAGGED.items() if form.command is Transfer)
    fields = {name: value for name, value in pay().items() if name != "command"}
    request = kind(**fields, reason="rent", refs={"order": "7"}, metadata={"a": "b"})
    who = {"source": "admin", "actor": "key:admin"}

    assert command_of(request, key="k", **who) == TAGGED[kind].command_of(request, key="k", **who)


def test_nothing_is_posted_of_a_batch_with_a_command_that_the_key_does_not_allow(here: Served) -> None:
    caller = limited(here)
    answer = caller.post(BULK, {"commands": [pay(), pay(from_account="users:bob", to_account="users:alice")]})

    assert (answer.status_code, answer.json()["code"], answer.json()["path"]) == (403, "forbidden", "commands[1]")
    assert alice(here) == 100_000
    assert caller.post(BULK, {"commands": [pay()]}).status_code == 200


@pytest.mark.parametrize(
    "command",
    [
        {"command": "freeze_account", "account": "users:alice"},
        {"command": "set_policy", "changes": {"strict": True}},
        pay(from_account="@issuance"),
        pay(to_account="@external:bank"),
        pay(conditions=[{"account": "users:bob", "asset": "USD/2", "at_least": "0"}]),
        {
            "command": "post",
            "type": "transfer",
            "legs": [{"from_account": "users:bob", "to_account": "users:alice", "asset": "USD/2", "amount": "1"}],
        },
    ],
)
def test_a_batch_lets_nobody_do_what_he_may_not_do_alone(here: Served, command: dict[str, Any]) -> None:
    answer = limited(here).post(BULK, {"commands": [command]})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert here.ledger.head.seq == here.ledger.transaction(here.ledger.head.seq - 1).seq + 1


def test_another_ones_hold_in_a_batch_looks_like_none_and_the_others_go_on(here: Served) -> None:
    hold = here.admin.done("/v1/ledgers/main/holds", {"account": "users:bob", "asset": "USD/2", "amount": "5"})
    caller = limited(here)
    theirs, none = ({"command": "release", "hold": id} for id in (hold["id"], "main/999"))
    results = caller.done(BULK, {"commands": [theirs, none, pay()]})["results"]

    assert [found["status"] for found in results] == ["refused", "refused", "posted"]
    assert results[0]["problem"]["code"] == results[1]["problem"]["code"] == "not_found"
    whole = caller.post(BULK, {"atomic": True, "commands": [pay(), theirs]})
    assert (whole.status_code, whole.json()["data"]["refusal"]["code"]) == (422, "not_found")


@pytest.mark.parametrize("atomic", [False, True])
def test_what_stands_on_another_ones_account_is_not_told_in_a_batch(here: Served, atomic: bool) -> None:
    here.ledger.set_limit("users:bob", "USD/2", ceiling=50_005, key="ceiling")
    answer = limited(here).post(BULK, {"atomic": atomic, "commands": [pay("10")]})

    assert "ceiling_exceeded" in answer.text
    assert "50010" not in answer.text
    assert "50005" not in answer.text


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "commands"),
        ({"commands": []}, "commands"),
        ({"commands": [{**pay(), "colour": "red"}]}, "commands[0].colour"),
        ({"commands": [{**pay(), "command": "teleport"}]}, "commands[0].command"),
        ({"commands": [pay(12.5)]}, "commands[0].amount"),
        ({"commands": [pay(key="")]}, "commands[0].key"),
        ({"commands": [pay()], "mode": "fast"}, "mode"),
    ],
)
def test_a_batch_that_is_not_exactly_what_is_known_is_refused_whole(here: Served, body: Any, path: str) -> None:
    answer = here.admin.post(BULK, body)

    assert answer.status_code == 400, answer.text
    assert answer.json()["path"] == path or f"`{path}`" in answer.json()["detail"]


def test_an_amount_out_of_range_is_refused_in_its_place(here: Served) -> None:
    results = here.admin.done(BULK, {"commands": [pay("9223372036854775808"), pay("0"), pay("1")]})["results"]

    assert [found["status"] for found in results] == ["refused", "refused", "posted"]
    assert results[0]["problem"]["code"] == "amount_out_of_range"


def test_a_batch_has_ten_thousand_commands_at_most(here: Served) -> None:
    whole = here.admin.post(BULK, {"commands": [pay("1")] * MAX_BATCH})
    assert len(whole.json()["results"]) == MAX_BATCH
    assert alice(here) == 100_000 - MAX_BATCH

    answer = here.admin.post(BULK, {"commands": [pay("1")] * (MAX_BATCH + 1)})
    assert (answer.status_code, answer.json()["path"]) == (400, "commands")


def test_a_batch_larger_than_its_limit_is_refused_and_one_at_it_is_not() -> None:
    body = json.dumps({"commands": [pay()]}).encode()
    headers = {"content-type": "application/json", "idempotency-key": "one"}
    with serving("memory://", Settings(max_batch_body=len(body))) as here:
        assert here.admin.http.post(BULK, content=body, headers=headers).status_code == 200
        assert here.admin.http.post(BULK, content=body + b" ", headers=headers).status_code == 413


def test_keys_that_leave_no_room_for_an_index_are_refused_where_they_need_one(here: Served) -> None:
    longest = "k" * (255 - len(f"#{MAX_BATCH}"))
    assert here.admin.post(BULK, {"commands": [pay()]}, key=longest).status_code == 200
    answer = here.admin.post(BULK, {"commands": [pay()]}, key=longest + "k")
    assert (answer.status_code, answer.json()["path"]) == (422, "Idempotency-Key")
    assert here.admin.post(BULK, {"commands": [pay(key="own")]}, key=longest + "k").status_code == 200


def test_more_batches_than_there_is_room_for_are_refused_at_once(here: Served) -> None:
    room = room_of(here.service).batches
    room.taken = room.limit
    answer = here.admin.post(BULK, {"commands": [pay()]})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    room.taken -= 1
    assert here.admin.post(BULK, {"commands": [pay()]}).status_code == 200
    assert room.taken == room.limit - 1  # the place was given back


def test_a_key_that_must_sign_posts_no_batches(here: Served) -> None:
    signed = {"signature": "s=:AAAA:", "signature-input": "s=()"}
    signer = limited(here, signer="did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp")
    for path, content, kind in (
        (BULK, json.dumps({"commands": [pay()]}).encode(), "application/json"),
        (STREAM, line(), NDJSON),
    ):
        headers = {"content-type": kind, "idempotency-key": "k"}
        assert signer.http.post(path, content=content, headers=headers).status_code == 401
        assert signer.http.post(path, content=content, headers={**headers, **signed}).status_code == 400
        refused = here.admin.http.post(path, content=content, headers={**headers, **signed})
        assert (refused.status_code, refused.json()["path"]) == (400, "Signature")
    assert alice(here) == 100_000


def test_a_mandate_holds_for_a_batch_as_for_single_requests(here: Served) -> None:
    mandate = Mandate("main", "users:alice", "USD/2", 60, 100, ("users:bob",), "")
    agent = limited(here, mandate=mandate)
    commands = [pay("60"), pay("61"), pay("41"), pay("40"), pay("1"), pay("1", to_account="users:carol")]
    results = agent.done(BULK, {"commands": commands}, key="batch")["results"]

    codes = [found.get("problem", {}).get("code", "posted") for found in results]
    assert codes == ["posted", "mandate_exceeded", "mandate_exceeded", "posted", "mandate_exceeded", "forbidden"]
    assert alice(here) == 99_900
    again = agent.done(BULK, {"commands": commands}, key="batch")["results"]
    assert [found.get("id") for found in again] == [found.get("id") for found in results]
    assert alice(here) == 99_900


def test_an_atomic_batch_under_a_mandate_is_bound_together(here: Served) -> None:
    agent = limited(here, mandate=Mandate("main", "users:alice", "USD/2", None, 100, (), ""))
    over = agent.post(BULK, {"atomic": True, "commands": [pay("60"), pay("41")]})
    assert (over.status_code, over.json()["code"]) == (422, "mandate_exceeded")
    assert alice(here) == 100_000

    body = {"atomic": True, "commands": [pay("60"), pay("40")]}
    agent.done(BULK, body, key="batch")
    assert alice(here) == 99_900
    assert agent.post(BULK, body, key="batch").headers["idempotency-replayed"] == "true"


def test_a_batch_under_a_mandate_is_shorter(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_MANDATED", 2)
    agent = limited(here, mandate=Mandate("main", "users:alice", "USD/2", None, None, (), ""))
    assert agent.post(BULK, {"commands": [pay()] * 2}).status_code == 200
    assert agent.post(BULK, {"commands": [pay()] * 3}).status_code == 422
    assert agent.post(BULK, {"commands": [pay()] * 3, "atomic": True}).status_code == 422


def test_many_batches_at_once_lose_nothing(served: Served) -> None:
    callers = [served.caller(role="writer") for _ in range(6)]

    def ask(caller: Caller) -> None:
        for _ in range(3):
            assert caller.post(BULK, {"commands": [pay("1")] * 50}).status_code == 200

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert alice(served) == 100_000 - 6 * 3 * 50
    assert room_of(served.service).batches.taken == 0


# ---------------------------------------------------------------- a stream


def stream(caller: Caller, *lines: Any, key: str = "stream") -> list[dict[str, Any]]:
    """What a stream answers to these lines: commands, or bytes as they are."""
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    answer = caller.http.post(STREAM, content=body, headers={"content-type": NDJSON, "idempotency-key": key})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_stream_answers_every_line_in_order(served: Served) -> None:
    results = stream(served.admin, *[pay(str(number)) for number in range(1, 2_501)][::-1], pay("999999999"))

    assert [found["line"] for found in results] == list(range(1, 2_502))
    posted = [found for found in results if found["status"] == "posted"]
    sequence = [found["seq"] for found in posted]
    assert sequence == sorted(sequence)
    assert results[-1]["problem"]["code"] == "insufficient_funds"
    moved = -sum(served.ledger.transaction(posted[place]["seq"]).entries[0].amount for place in (0, 1, 2))
    assert moved == 2_500 + 2_499 + 2_498


def test_a_line_that_is_wrong_gets_its_own_problem_and_the_others_go_on(here: Served) -> None:
    results = stream(
        here.admin, pay(), b"{nonsense", {**pay(), "colour": "red"}, b"", b"[1]", b"\xff\xfe", pay("20"), b""
    )

    assert [(found["line"], found["status"]) for found in results] == [
        (1, "posted"), (2, "refused"), (3, "refused"), (5, "refused"), (6, "refused"), (7, "posted")
    ]  # fmt: skip
    assert [found["problem"]["path"] for found in results[1:5]] == ["line", "colour", "line", "line"]
    assert alice(here) == 99_970


def test_a_stream_that_is_repeated_gives_the_same_answers(served: Served) -> None:
    lines = [pay(), pay("20", key="mine"), pay("30")]
    first, again = stream(served.admin, *lines), stream(served.admin, *lines)

    assert again == [{**found, "replayed": True} for found in first]
    keys = [served.ledger.transaction(found["id"]).key for found in first]
    assert keys == ["stream#1", "mine", "stream#3"]
    assert alice(served) == 99_940


def test_a_line_that_the_key_does_not_allow_is_refused_alone(here: Served) -> None:
    results = stream(limited(here), pay(), pay(from_account="users:bob", to_account="users:alice"), pay())

    assert [found["status"] for found in results] == ["posted", "refused", "posted"]
    assert results[1]["problem"]["code"] == "forbidden"
    assert alice(here) == 99_980


def test_a_mandate_holds_for_a_stream(here: Served) -> None:
    agent = limited(here, mandate=Mandate("main", "users:alice", "USD/2", None, 50, (), ""))
    results = stream(agent, pay("30"), pay("30"), pay("20"))

    assert [found["status"] for found in results] == ["posted", "refused", "posted"]
    assert results[1]["problem"]["code"] == "mandate_exceeded"


def test_a_stream_needs_its_key_and_its_type(here: Served) -> None:
    content = json.dumps(pay()).encode()
    without = here.admin.http.post(STREAM, content=content, headers={"content-type": NDJSON})
    other = here.admin.http.post(
        STREAM, content=content, headers={"content-type": "application/json", "idempotency-key": "k"}
    )
    assert (without.status_code, without.json()["path"]) == (400, "Idempotency-Key")
    assert other.status_code == 415
    reader = here.caller(role="reader")
    assert reader.http.post(STREAM, content=content, headers={"idempotency-key": "k"}).status_code == 403
    assert here.stranger().http.post(STREAM, content=content, headers={"idempotency-key": "k"}).status_code == 401


def test_a_line_longer_than_its_limit_is_refused_and_one_at_it_is_not() -> None:
    fitting = json.dumps(pay()).encode()
    limit = len(fitting)
    with serving("memory://", Settings(max_batch_body=limit * line_reading.LINES_TOGETHER)) as here:
        longer = json.dumps(pay("9" * 200_000)).encode()
        results = stream(here.admin, fitting, longer, fitting + b" ", fitting)
        assert [found["status"] for found in results] == ["posted", "refused", "refused", "posted"]
        assert [found["problem"]["code"] for found in results[1:3]] == ["event_too_large"] * 2
        assert stream(here.admin, longer, key="last")[0]["problem"]["code"] == "event_too_large"


# ---------------------------------------------------------------- a stream, line by line


class Wire:
    """A connection on which a stream is written and read at the same time."""

    def __init__(self, served: Served, token: str, key: str = "wire") -> None:
        host, port = served.base.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), SECONDS)
        self.socket.sendall(
            f"POST {STREAM} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {NDJSON}\r\n"
            f"idempotency-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        self._file = self.socket.makefile("rb")
        self._lines = self._read()

    def send(self, body: bytes) -> None:
        self.socket.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n")

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def next(self) -> Any:
        """The next line of the answer; None at its end."""
        line = next(self._lines, None)
        return None if line is None else json.loads(line)

    def _read(self) -> Iterator[bytes]:
        while self._file.readline().strip():
            pass  # the head
        rest = b""
        while size := int(self._file.readline(), 16):
            *whole, rest = (rest + self._file.read(size)).split(b"\n")
            self._file.readline()
            yield from whole

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@contextmanager
def wired(served: Served, **more: Any) -> Iterator[Wire]:
    wire = Wire(served, served.admin.token, **more)
    try:
        yield wire
    finally:
        wire.close()


def line(amount: str = "10", **more: Any) -> bytes:
    return json.dumps(pay(amount, **more)).encode() + b"\n"


def test_lines_are_answered_while_more_are_to_come(served: Served) -> None:
    with wired(served) as wire:
        for number in (1, 2, 3):
            wire.send(line())
            answer = wire.next()
            assert (answer["line"], answer["status"]) == (number, "posted")
            assert served.ledger.transaction(answer["id"]).key == f"wire#{number}"
        wire.send(line()[:-30])  # a line in two pieces
        wire.send(line()[-30:])
        assert wire.next()["line"] == 4
        wire.send(line().rstrip())
        wire.end()
        assert wire.next()["line"] == 5
        assert wire.next() is None


def test_what_was_sent_before_a_client_disappeared_is_posted_once_and_a_torn_line_never(served: Served) -> None:
    with wired(served) as wire:
        wire.send(line() + line("20"))
        assert wire.next()["line"] == 1
        wire.send(line("30").rstrip())  # complete but for its end: more might have followed
    wait_until(lambda: room_of(served.service).streams.taken == 0, SECONDS, "the end of the stream")
    assert alice(served) == 99_970

    with wired(served) as wire:
        wire.send(line() + line("20") + line("30"))
        wire.end()
        assert [wire.next().get("replayed", False) for _ in range(3)] == [True, True, False]
    assert alice(served) == 99_940


def test_a_client_who_does_not_read_is_slowed_down_and_then_cut_off(
    here: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALL_SECONDS", 1.0)
    with wired(here) as wire:
        wire.socket.settimeout(3)
        assert pour(wire, most=400_000_000) < 100_000_000
        wait_until(lambda: room_of(here.service).streams.taken == 0, SECONDS, "the end of the stream")


def pour(wire: Wire, *, most: int) -> int:
    """Send lines without reading, until no more are taken: how many bytes were."""
    piece, sent = b"{nonsense}\n" * 4_000, 0
    while sent < most:
        try:
            wire.send(piece)
        except OSError:
            break
        sent += len(piece)
    return sent


def test_a_stream_in_which_nothing_comes_is_ended_with_a_word(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reading, "IDLE_SECONDS", 0.3)
    with wired(here) as wire:
        wire.send(line())
        assert wire.next()["status"] == "posted"
        last = wire.next()
        assert (last["line"], last["status"]) == (2, "ended")
        assert wire.next() is None


def test_a_service_that_stops_answers_what_it_took_and_says_where_it_ended(here: Served) -> None:
    with wired(here) as wire:
        wire.send(line())
        assert wire.next()["status"] == "posted"
        here.service.stopping = True
        wire.send(line() + line())
        last = wire.next()
        assert (last["line"], last["status"], last["problem"]["code"]) == (2, "ended", "stopping")
        assert last["problem"]["retryable"] is True
        assert wire.next() is None
    here.service.stopping = False
    assert alice(here) == 99_990


def test_a_service_that_stops_does_not_wait_for_streams_in_which_nothing_comes(here: Served) -> None:
    with wired(here) as wire:
        wire.send(line() + line()[:20])
        assert wire.next()["status"] == "posted"
        here.service.stopping = True
        last = wire.next()
        assert (last["line"], last["status"], last["problem"]["code"]) == (2, "ended", "stopping")
        wait_until(lambda: here.service.under_way == 0, SECONDS, "the end of the request")
    here.service.stopping = False


def test_a_revoked_key_posts_no_more_lines(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STANDING_SECONDS", 0.0)
    token, key = here.service.keyring.create("writer", role="writer")
    wire = Wire(here, token)
    try:
        wire.send(line())
        assert wire.next()["status"] == "posted"
        here.service.keyring.revoke(key.id)
        wire.send(line())
        last = wire.next()
        assert (last["line"], last["status"], last["problem"]["code"]) == (2, "ended", "unauthenticated")
    finally:
        wire.close()
    assert alice(here) == 99_990


def test_more_streams_than_there_is_room_for_are_refused_at_once(here: Served) -> None:
    room = room_of(here.service).streams
    room.taken = room.limit
    answer = here.admin.http.post(STREAM, content=line(), headers={"content-type": NDJSON, "idempotency-key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert here.admin.post(BULK, {"commands": [pay()]}).status_code == 200  # batches have their own
    room.taken -= 1
    assert stream(here.admin, pay())[0]["status"] == "posted"
