"""What else users of other ledgers ran into: filters as SQL, filters that are dropped, payments to oneself, and a
database that goes away for a moment."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx2
import psycopg

from tallystick.service.routes import OPERATIONS
from tests.pains.support import MAIN, SECONDS, USD, Crowd, Teller, balance, pay
from tests.support.callers import OURS
from tests.support.service import Served

CUTS = 5
HOSTILE = [
    "' OR '1'='1",
    "x'; DROP TABLE event; --",
    '"users:alice"',
    "users:alice' UNION SELECT 1--",
    "%",
    "users:%",
    "_____:alice",
    "$1",
    "users:alice\x00",
    "{users:alice}",
    "\\",
]
LISTS: list[tuple[str, str, dict[str, str]]] = [
    ("accounts", "prefix", {}),
    ("balances", "account", {}),
    ("balances", "asset", {"account": "users:alice"}),
    ("entries", "account", {}),
    ("entries", "asset", {"account": "users:alice"}),
    ("entries", "bucket", {"account": "users:alice"}),
    ("entries", "from", {"account": "users:alice"}),
    ("transactions", "key", {}),
    ("transactions", "value", {"reference": "order"}),
    ("transactions", "reference", {"value": "o-1"}),
    ("events", "types", {}),
    ("events", "account", {}),
    ("holds", "account", {}),
    ("holds", "state", {}),
    ("trial-balance", "as_of", {}),
]


def test_filter_values_are_values_and_never_sql(crowd: Crowd) -> None:
    """Also. Filter values were put into statements as text. https://github.com/formancehq/ledger/pull/1349

    Each is refused, or finds nothing, for there is nothing of that name; the books are as they were.
    """
    crowd.admin.done(f"{MAIN}/transfers", pay(1, refs={"order": "o-1"}))
    for path, name, more in LISTS:
        for value in HOSTILE:
            answer = crowd.admin.get(f"{MAIN}/{path}", **more, **{name: value})
            assert answer.status_code in (200, 400, 404, 422), (path, name, value, answer.text)
            if answer.status_code == 200:
                found = answer.json()
                shown = [*found.get("items", ()), *found.get("balances", ())]
                assert not shown, (path, name, value)
    for value in HOSTILE:
        body = pay(1, payee=value, refs={"order": value}, metadata={"note": value}, reason=value)
        assert crowd.admin.post(f"{MAIN}/transfers", body).status_code in (201, 400), value
        assert crowd.admin.post(f"{MAIN}/transfers", pay(1, reason=value)).status_code in (201, 400, 422)
    crowd.check_books()


def test_no_read_drops_a_filter_that_it_does_not_know(here: Served) -> None:
    """Also. An operator that was not known was dropped, and the answer was everything:
    https://github.com/blnkfinance/blnk (commit 8317d71).

    Every operation that reads is asked with a filter of no meaning.
    """
    reads = [one for one in OPERATIONS if one.method == "GET"]
    assert len(reads) > 20
    for operation in reads:
        path = operation.path
        for name in operation.parameters:
            path = path.replace(f"{{{name}}}", "main" if name == "ledger" else "1")
        for wrong in ("colour", "account[$gt]", "Limit", "account__like"):
            answer = here.admin.http.get(path, params={wrong: "x"})
            if answer.status_code == 429:  # of those that need no key, only so many are answered in a second
                continue
            assert answer.status_code == 400, (operation.id, wrong, answer.status_code)


def test_nobody_pays_himself(crowd: Crowd) -> None:
    """Also. A transfer to the same account was accepted. https://github.com/blnkfinance/blnk/issues/360"""
    to_himself = pay(1, payee="users:alice")
    legs = [{**to_himself}, pay(1)]
    for answer in (
        crowd.admin.post(f"{MAIN}/transfers", to_himself),
        crowd.admin.post("/transfers", to_himself),
        crowd.admin.post(f"{MAIN}/transactions", {"type": "transfer", "legs": legs}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "self_transfer")
    assert crowd.admin.get(MAIN).json()["events"] == 3


def test_every_change_of_a_balance_has_its_transaction(crowd: Crowd) -> None:
    """Also. With two currencies and a hold, balances moved and no transaction was written.
    https://github.com/blnkfinance/blnk/issues/55
    """
    crowd.admin.done(f"{MAIN}/mint", {"account": "users:bob", "asset": "EUR/2", "amount": "900"})
    held = crowd.admin.done(f"{MAIN}/holds", {"account": "users:alice", "asset": USD, "amount": "1000"})["seq"]
    legs = [{**pay(450, "users:bob", "users:alice"), "asset": "EUR/2"}, pay(500)]
    crowd.admin.done(f"{MAIN}/transactions", {"type": "transfer", "legs": legs})
    crowd.admin.done(f"{MAIN}/holds/{held}/capture", {"splits": [{"to_account": "users:bob", "amount": "400"}]})
    for account in ("users:alice", "users:bob"):
        lines = crowd.admins[-1].get(f"{MAIN}/entries", account=account, limit=1_000).json()["items"]
        for found in crowd.admins[-1].get(f"{MAIN}/balances", account=account).json()["balances"]:
            own = [one for one in lines if (one["asset"], one["bucket"]) == (found["asset"], found["bucket"])]
            assert sum(int(one["amount"]) for one in own) == int(found["amount"])
            assert [one["version"] for one in own] == list(range(1, found["version"] + 1))
            for one in own:
                assert crowd.admin.get(f"{MAIN}/transactions/{one['seq']}").json()["hash"] == one["hash"]
    crowd.check_books()


def test_a_database_that_cuts_its_connections_costs_nobody_more_than_a_retry(shared: Crowd) -> None:
    """Also. A client that retried for ever, and operations whose outcome nobody knew (Jepsen's analysis of
    TigerBeetle 0.16.11, https://jepsen.io/analyses/tigerbeetle-0.16.11).

    Connections to the database are ended again and again while users post. Each gets an answer in time: it is done, or
    503 and when to come back; with the same key it is done once.
    """
    cut = threading.Event()

    def cut_them() -> None:
        with psycopg.connect(shared.url, autocommit=True) as hand:
            for _ in range(CUTS):
                time.sleep(0.2)  # so that something is under way; nothing depends on what
                hand.execute(OURS, ["tallystick"])
        cut.set()

    def post(teller: Teller, number: int) -> list[Any]:
        found: list[Any] = []
        while not cut.is_set() or len(found) < 3:
            found.append(until_done(teller, f"cut {number}.{len(found)}"))
        return found

    cutter = threading.Thread(target=cut_them, daemon=True)
    cutter.start()
    found = [one for some in shared.at_once(8, post) for one in some]
    cutter.join(SECONDS)
    assert len({one["id"] for one in found}) == len(found)
    assert balance(shared.admin, "users:alice") == 100_000 - len(found)
    shared.check_books()


def until_done(teller: Teller, key: str) -> Any:
    """What a payment is answered in the end, asked again with its key as long as it is told to."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        answer: httpx2.Response = teller.post(f"{MAIN}/transfers", pay(), key=key)
        if answer.status_code == 201:
            return answer.json()
        assert (answer.status_code, answer.json()["retryable"]) == (503, True), answer.text
        assert int(answer.headers["retry-after"]) >= 1
    raise AssertionError(f"{key} was not done within {SECONDS} s")
