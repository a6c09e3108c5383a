"""Pains 8, 9, 11 and 13: what belongs together is kept together, and nothing else is needed for it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import psycopg

import tallystick
from tallystick.commands import Transfer
from tallystick.delivery.engine import Deliverer
from tallystick.delivery.ladder import IMMEDIATE
from tallystick.delivery.operations import new_endpoint
from tests.delivery.receiver import Receiver
from tests.pains.support import MAIN, USD, Crowd, balance, hold, pay, statuses, transfer

BULK = f"{MAIN}/transactions/bulk"
REFUSE_ENTRIES = """
CREATE FUNCTION tallystick.no_entries() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no entries today' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER no_entries BEFORE INSERT ON tallystick.entry FOR EACH STATEMENT EXECUTE FUNCTION tallystick.no_entries();
"""
TAKE_ENTRIES = "DROP FUNCTION tallystick.no_entries() CASCADE"
REFUSE_ENTRIES_IN_FILE = (
    "CREATE TRIGGER no_entries BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'no entries today'); END"
)


@contextlib.contextmanager
def refusing_entries(url: str) -> Iterator[None]:
    """A database that takes events, but fails as soon as the balances are to change."""
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as hand:
            hand.execute(REFUSE_ENTRIES)
            yield
            hand.execute(TAKE_ENTRIES)
        return
    with contextlib.closing(sqlite3.connect(url, isolation_level=None, timeout=30)) as hand:
        hand.execute(REFUSE_ENTRIES_IN_FILE)
        yield
        hand.execute("DROP TRIGGER no_entries")


def test_a_transaction_and_its_balances_are_written_together_or_not_at_all(crowd: Crowd) -> None:
    """Pain 8. The transaction's row and the balance were written in two database transactions, with a queue in between:
    one could be there without the other, and stuck rows needed an endpoint to recover them.
    https://github.com/blnkfinance/blnk/issues/240 https://github.com/blnkfinance/blnk/pull/254

    Here the database fails between the two. Nothing is left of the posting, and its key is not used up.
    """
    head = crowd.admin.get(MAIN).json()["events"]
    with refusing_entries(crowd.url):
        failed = crowd.admin.post(f"{MAIN}/transfers", pay(10), key="torn")
        assert failed.status_code in (500, 503), failed.text
    assert crowd.admin.get(MAIN).json()["events"] == head
    assert crowd.admin.get(f"{MAIN}/transactions", key="torn").json()["items"] == []
    assert balance(crowd.admin, "users:alice") == 100_000

    again = crowd.admin.post(f"{MAIN}/transfers", pay(10), key="torn")
    assert (again.status_code, again.json()["replayed"]) == (201, False)
    assert balance(crowd.admin, "users:alice") == 99_990
    crowd.check_books()


def test_what_was_answered_is_there_for_everybody_at_once(crowd: Crowd) -> None:
    """Pain 9. With a broker or a cache between the write and the read, users got 404 for what they had just written,
    and accounts had no balances while the broker was down. https://github.com/LerianStudio/midaz/pull/1834
    https://github.com/LerianStudio/midaz/issues/710

    Also pain 8: no state in between, such as queued, is ever shown. The answer of one service is read at the other.
    """
    for number, (writer, reader) in enumerate(itertools.islice(itertools.cycle(pairs(crowd)), 8), start=1):
        posted = writer.done(f"{MAIN}/transfers", pay(1, payee=f"users:new-{number}"))
        held = hold(writer, 1)
        found = reader.get(f"{MAIN}/transactions/{posted['seq']}")
        assert found.status_code == 200, found.text
        assert (found.json()["hash"], len(found.json()["entries"])) == (posted["hash"], 2)
        assert balance(reader, f"users:new-{number}") == 1
        assert balance(reader, "users:alice", "held") == number
        assert reader.get(f"{MAIN}/holds/{held}").json()["state"] == "active"
        assert reader.get(f"{MAIN}/accounts/users:new-{number}").status_code == 200
    crowd.check_books()


def pairs(crowd: Crowd) -> list[tuple[Any, Any]]:
    """Who writes, and who reads: at the other service, where there are two."""
    return list(zip(crowd.admins, crowd.admins[::-1], strict=True))


def test_a_broker_that_is_down_costs_no_posting_and_loses_no_event(crowd: Crowd) -> None:
    """Pain 9. Messages were lost, disordered or processed twice, because the broker was a part of being correct.
    https://github.com/LerianStudio/midaz/pull/1279 https://github.com/LerianStudio/midaz/pull/2059

    The journal is the outbox: while nobody listens, postings go on; who listens later gets all of them, in order.
    """
    front = crowd.fronts[0]
    with Receiver() as gone:
        url, port = gone.url, gone.port
    start = front.ledger.head.seq
    endpoint = new_endpoint(ledger="main", url=url, allow_private=True, start=start)
    front.control.add_endpoint(endpoint)
    deliverer = Deliverer(front.database, front.control, ladder=IMMEDIATE, allow_private=True, look_seconds=0.01)
    stop = threading.Event()
    thread = threading.Thread(target=deliverer.run, args=(stop,), daemon=True)
    thread.start()
    try:
        answers = [one for some in crowd.at_once(4, lambda teller, _: [
            teller.post(f"{MAIN}/transfers", pay()) for _ in range(5)
        ]) for one in some]  # fmt: skip
        assert statuses(answers) == {(201, ""): 20}
        with Receiver(port=port) as receiver:
            receiver.wait_for(lambda: len(receiver.seqs) >= 20, 40)
            assert receiver.seqs == list(range(start, start + 20))
    finally:
        stop.set()
        thread.join(30)
        deliverer.close()
    crowd.check_books()


def test_an_atomic_batch_is_atomic_wherever_the_bad_one_stands(crowd: Crowd) -> None:
    """Pain 11. A batch that was called atomic kept what stood before the item that failed, depending on the order.
    https://github.com/blnkfinance/blnk/issues/183
    """
    on_hold = {"command": "hold", "account": "users:bob", "asset": USD, "amount": "70"}
    good = [transfer(100), transfer(50, payee="users:carol"), on_hold]
    head = crowd.admin.get(MAIN).json()["events"]
    for place in range(4):
        commands = [*good[:place], transfer(1, payer="users:nobody"), *good[place:]]
        answer = crowd.admin.post(BULK, {"commands": commands, "atomic": True}, key="batch")
        assert (answer.status_code, answer.json()["code"]) == (422, "batch_aborted"), answer.text
        assert answer.json()["path"] == f"commands[{place}]"
        assert crowd.admin.get(MAIN).json()["events"] == head
        assert balance(crowd.admin, "users:alice") == 100_000
        assert balance(crowd.admin, "users:bob", "held") == 0

    assert crowd.admin.post(BULK, {"commands": good, "atomic": True}, key="batch").status_code == 200
    assert balance(crowd.admin, "users:alice") == 99_850
    crowd.check_books()


def test_atomic_batches_that_come_together_are_there_wholly_or_not_at_all(crowd: Crowd) -> None:
    """Pain 11, with many at once: each pays three parts of 10,000, and there is enough for three of them.
    https://github.com/blnkfinance/blnk/issues/183
    """

    def batch(number: int) -> dict[str, Any]:
        return {"commands": [transfer(10_000, payee=f"users:{number}")] * 3, "atomic": True}

    answers = crowd.at_once(10, lambda teller, number: teller.post(BULK, batch(number)))
    assert statuses(answers) == {(200, ""): 3, (422, "batch_aborted"): 7}
    paid = {number: balance(crowd.admin, f"users:{number}") for number in range(10)}
    assert sorted(paid.values()) == [0] * 7 + [30_000] * 3
    assert all(bool(paid[number]) == (answer.status_code == 200) for number, answer in enumerate(answers))
    crowd.check_books()


REFUSALS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("insufficient_funds", f"{MAIN}/transfers", pay(100_001), transfer(100_001)),
    ("self_transfer", f"{MAIN}/transfers", pay(1, payee="users:alice"), transfer(1, payee="users:alice")),
    (
        "hold_not_found",
        f"{MAIN}/holds/9999/capture",
        {"splits": [{"to_account": "users:bob"}]},
        {"command": "capture", "hold": "main/9999", "splits": [{"to_account": "users:bob"}]},
    ),
    (
        "transaction_not_found",
        f"{MAIN}/transactions/9999/reverse",
        {},
        {"command": "reverse", "transaction": "main/9999"},
    ),
    (
        "reference_required",
        f"{MAIN}/transactions",
        {"type": "settlement", "legs": [pay(1)]},
        {"command": "post", "type": "settlement", "legs": [pay(1)]},
    ),
]


def test_a_refusal_in_a_batch_is_the_refusal_that_it_is_alone(crowd: Crowd) -> None:
    """Pain 13. What the business refused became INTERNAL as soon as it stood in a bulk request.
    https://github.com/formancehq/ledger/pull/1600
    """
    good = transfer(1, payer="users:bob", payee="users:carol")
    for code, path, body, command in REFUSALS:
        alone = crowd.admin.post(path, body)
        assert alone.json()["code"] == code, alone.text
        assert 400 <= alone.status_code < 500

        results = crowd.admin.done(BULK, {"commands": [good, command, good]})["results"]
        assert [found["status"] for found in results] == ["posted", "refused", "posted"]
        among = results[1]["problem"]
        assert {**among, "request_id": ""} == {**alone.json(), "request_id": ""}
        whole = crowd.admin.post(BULK, {"commands": [good, command], "atomic": True}).json()
        assert (whole["code"], whole["path"]) == ("batch_aborted", "commands[1]")
        assert code in str(whole["data"])


def test_a_caller_s_own_transaction_takes_the_posting_with_it(postgres: str) -> None:
    """Also: a library that had to own the outermost transaction could not be used inside its caller's.
    https://github.com/envato/double_entry/issues/64
    """
    with tallystick.open(postgres) as database, psycopg.connect(postgres) as caller:
        ledger = database.ledger("main")
        ledger.mint("users:alice", USD, 100, key="mint")
        caller.execute("CREATE TABLE orders (id int)")
        caller.commit()
        order = Transfer(from_account="users:alice", to_account="users:bob", asset=USD, amount=30, key="order")
        for keep in (False, True):
            caller.execute("INSERT INTO orders VALUES (1)")
            ledger.post(order, connection=caller)
            (caller.commit if keep else caller.rollback)()
            rows = caller.execute("SELECT count(*) FROM orders").fetchone()
            caller.rollback()
            assert (rows, ledger.balance("users:bob", USD)) == (((1,), 30) if keep else ((0,), 0))
