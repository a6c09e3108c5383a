"""Boundaries: every operation of the service, and everyone who should not get through it.

All is made from the table of operations, so a new route is tried the day it is written. What a route cannot be tried
with here is said in a list, with the test that does it; a route that is in neither fails.

The world: a platform's ledger, in which ``users:alice:`` is one tenant and ``users:bob`` another. What bob has bears
marks (amounts, ids, names) that appear nowhere else, so an answer to alice that holds one of them is a leak; and what
is asked about bob must be answered as the same about somebody who is not there.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import httpx2
import msgspec
import pytest

from tallystick.access.signatures import did_key
from tallystick.control import Mandate, Scope
from tallystick.control.records import Verb
from tallystick.delivery.operations import new_endpoint
from tallystick.service.operations import Operation
from tallystick.service.routes import OPERATIONS
from tallystick.service.settings import Settings
from tests.support.service import Caller, Served, serving

VERBS: tuple[Verb, ...] = get_args(Verb)
ALICE, BOB, GHOST = "users:alice:main", "users:bob", "users:zed"
NDJSON = "application/x-ndjson"
PLAIN = {"from_account": ALICE, "to_account": "users:carol", "asset": "USD/2", "amount": "1"}
PAY = {"command": "transfer", **PLAIN}

BOBS = 48_271_913
"""Bob's balance; what else is his has other numbers that are found nowhere else."""
HELD, STAKED, STAKED_ON_GAME, PAID = 7_654_321, 6_543_217, 5_432_176, 4_321_765
CEILING = 91_827_364
MARKS = ("48271913", "7654321", "6543217", "5432176", "4321765", "91827364", "bobs-own", "bobs_own")

_BODIES: dict[str, Any] = {
    "post_stream": PAY,
    "verify_receipt": {"receipt": "none", "keys": []},
    "erase_texts": {"transaction": "main/{transaction}"},
}
"""Bodies of operations that have no example."""

_PARAMETERS = frozenset(
    (
        *(
            "ledger",
            "account",
            "member",
            "transaction",
            "hold",
            "stake",
            "bet",
            "event",
            "clearing",
            "cell",
            "proposal",
        ),
        *("level", "tile", "tile2", "tile3", "tile4", "round", "attestation", "report", "job"),
        *("key", "endpoint", "delivery", "batch"),
    )
)
"""What may stand in a path. A new one needs a value in ``World.place``."""

HERE = "tests.service.test_boundaries"
ELSEWHERE: dict[str, str] = {
    "verify_receipt": f"{HERE}::test_a_receipt_that_is_shown_is_judged_by_itself",
}
"""Operations that cannot be tried like all others about bob's data: the test that does, as ``module::name``."""

_numbers = itertools.count(1)


class World:
    """A service with two tenants, and what the second one has."""

    def __init__(self, served: Served) -> None:
        self.served = served
        admin, main = served.admin, "/v1/ledgers/main"
        dollars = {"asset": "USD/2"}
        self.bobs: dict[str, int] = {}

        def done(what: str, path: str, body: Any) -> None:
            self.bobs[what] = admin.done(f"{main}{path}", body, key=f"bobs-own-{what}")["seq"]

        done("mint", "/mint", {"account": BOB, **dollars, "amount": str(BOBS + 4 * 10**7 - 50_000)})
        admin.done(f"{main}/mint", {"account": ALICE, **dollars, "amount": str(10**8)})
        done("account", "/accounts/users:bob/limits", {**dollars, "ceiling": str(CEILING)})
        note = {"refs": {"order": "bobs-own-order"}, "reason": "bobs-own-reason", "metadata": {"note": "bobs-own-note"}}
        done("hold", "/holds", {"account": BOB, **dollars, "amount": str(HELD), **note, "expires_in_seconds": 9_999})
        done("stake", "/stakes", {"account": BOB, **dollars, "amount": str(STAKED), "refs": {"escrow": "bobs-own-es"}})
        done(
            "bet", "/bets", {"account": BOB, **dollars, "amount": str(STAKED_ON_GAME), "refs": {"round": "bobs-own-r"}}
        )
        paid = {"from_account": BOB, "to_account": "users:carol", **dollars, "amount": str(PAID), **note}
        done("transaction", "/transfers", paid)
        key = served.service.keyring.create("bobs-own-key", scopes=(Scope("read", "main", BOB),))[1]
        endpoint = new_endpoint(ledger="main", url="https://bobs-own.example/hook", owner="bobs-own-key")
        served.control.add_endpoint(endpoint)
        self.texts = {"key": key.id, "endpoint": endpoint.id}
        self.alices = {
            "hold": admin.done(f"{main}/holds", {"account": ALICE, **dollars, "amount": "9"})["seq"],
            "stake": admin.done(
                f"{main}/stakes", {"account": ALICE, **dollars, "amount": "9", "refs": {"escrow": "e"}}
            )["seq"],
            "bet": admin.done(f"{main}/bets", {"account": ALICE, **dollars, "amount": "9", "refs": {"round": "r"}})[
                "seq"
            ],
            "transaction": admin.done(f"{main}/transfers", {**PLAIN, "refs": {"order": "alices-order"}})["seq"],
        }
        rest = served.ledger.balance(BOB, "USD/2") - BOBS
        served.ledger.burn(BOB, "USD/2", rest, key="bobs-own-burn")
        assert served.ledger.balance(BOB, "USD/2") == BOBS

    @property
    def head(self) -> int:
        return self.served.ledger.head.seq

    def records(self) -> Any:
        """What an operator keeps beside the ledgers, apart from what happens by itself."""
        control = self.served.control
        return (control.keys(), control.endpoints(), control.reports(), sorted(self.served.database.ledgers()))

    def place(self, name: str, whose: str) -> str:
        """What stands in a path for a parameter: bob's, alice's or nobody's."""
        if name == "ledger":
            return "main"
        if name in ("account", "member"):
            return {"bob": BOB, "alice": ALICE, "nobody": GHOST}[whose]
        if name in self.texts:
            return self.texts[name] if whose == "bob" else "aaaaaaaaaaaa"
        if whose == "nobody":
            return "999999"
        found = self.bobs if whose == "bob" else self.alices
        return str(found.get(name, found["transaction"]))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with serving("memory://", Settings(unknown_tokens_per_second=0, public_requests_per_second=0)) as served:
        yield World(served)


# ---------------------------------------------------------------- how an operation is asked


def moved(value: Any, whose: str) -> Any:
    """An example, with the accounts of the documentation changed to those of whom it is asked about."""
    to = {"bob": BOB, "alice": ALICE, "nobody": GHOST}[whose]
    if isinstance(value, dict):
        return {name: moved(item, whose) for name, item in value.items()}
    if isinstance(value, list):
        return [moved(item, whose) for item in value]
    if isinstance(value, str) and re.fullmatch(r"(users|members):[a-z]+(:[a-z]+)?|house:main", value):
        return to if value in ("users:alice", "members:ben", "members:ann", "house:main", ALICE) else "users:carol"
    return value


def body_of(operation: Operation, world: World, whose: str) -> Any:
    found = operation.example if operation.body is not None else None
    if operation.body is not None and found is None:
        found = _BODIES[operation.id] if operation.id in _BODIES else _nothing(operation)
    text = json.dumps(moved(found, whose)).replace("{transaction}", world.place("transaction", whose))
    return json.loads(text)


def _nothing(operation: Operation) -> Any:
    """An empty body, for an operation that is content with it; another one needs an example, or one in _BODIES."""
    msgspec.json.decode(b"{}", type=operation.body)
    return {}


def path_of(operation: Operation, world: World, whose: str, *, ledger: str = "main") -> str:
    path = operation.path
    for name in operation.parameters:
        assert name in _PARAMETERS, f"{operation.id}: say in _PARAMETERS and World.place what {name} is"
        path = path.replace("{" + name + "}", ledger if name == "ledger" else world.place(name, whose))
    return path


def queries_of(operation: Operation, whose: str) -> list[dict[str, str]]:
    """What may be asked of an operation about somebody: its example, and each of its filters that names someone."""
    account = {"bob": BOB, "alice": ALICE, "nobody": GHOST}[whose]
    own = {"bob": "bobs-own-order", "alice": "alices-order", "nobody": "nobodys-order"}[whose]
    names = {found.encode_name for found in msgspec.structs.fields(operation.query)}
    needed = {
        found.encode_name: moved((operation.example or {}).get(found.encode_name, "USD/2"), whose)
        for found in msgspec.structs.fields(operation.query)
        if found.required
    }
    asked = [needed]
    if operation.body is None and operation.example:
        asked.append({name: str(value) for name, value in moved(operation.example, whose).items()})
    for name in names & {"account", "account_id", "member"}:
        asked.append({**needed, name: account})
    if "prefix" in names:
        asked += [{**needed, "prefix": account}, {**needed, "prefix": account[:8]}]
    if {"reference", "value"} <= names:
        asked.append({**needed, "reference": "order", "value": own})
    if "key" in names:
        asked.append({**needed, "key": own})
    if "after" in names:
        asked.append({**needed, "after": "-1"})
    if "dry_run" in names:
        asked.append({**needed, "dry_run": "true"})
    return [dict(found) for found in dict.fromkeys(tuple(sorted(one.items())) for one in asked)]


def ask(
    caller: Caller, operation: Operation, path: str, body: Any, query: Mapping[str, str] = {}, *, key: str = ""
) -> httpx2.Response:
    """One request; of a stream that would not end, what comes at first."""
    headers, content = {}, None
    if operation.writes:
        headers["idempotency-key"] = key or f"boundary-{next(_numbers)}"
    if operation.body is not None:
        is_lines = NDJSON in (operation.request_type, operation.media_type)
        headers["content-type"] = NDJSON if is_lines else "application/json"
        content = json.dumps(body).encode() + (b"\n" if is_lines else b"")
    with caller.http.stream(operation.method, path, params=dict(query), headers=headers, content=content) as found:
        if found.status_code == 200 and operation.media_type == "text/event-stream":
            found._content = next(found.iter_bytes())  # the rest has no end
        else:
            found.read()
        return found


def plain(answer: httpx2.Response, *names: str) -> Any:
    """An answer without what must differ between two: who or what was asked for, and the number of the request."""
    text = answer.text.replace(answer.headers["x-request-id"], "<request>")
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "<it>", text)
    text = re.sub(r'"cursor":"[^"]+"', '"cursor":"<cursor>"', text)
    kept = {
        name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id", "content-length")
    }
    return answer.status_code, text, kept


def marks_in(answer: httpx2.Response) -> list[str]:
    """What of bob's is in an answer, its headers and cursors included."""
    text = answer.text + json.dumps(dict(answer.headers))
    for cursor in re.findall(r'"cursor":"([^"]+)"', answer.text):
        text += msgspec.json.decode(json.dumps(_opened(cursor)).encode(), type=str)
    return [mark for mark in MARKS if mark in text]


def _opened(cursor: str) -> str:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[16:].decode("utf-8", "replace")


def alice_only(world: World, *verbs: Verb, **more: Any) -> Caller:
    """A key with verbs (all, if none is named) on alice's accounts alone."""
    scopes = tuple(Scope(verb, "main", "users:alice:") for verb in verbs or VERBS)
    return world.served.caller(scopes=scopes, **more)


def each(*operations: Operation) -> Any:
    return pytest.mark.parametrize("operation", operations, ids=[found.id for found in operations])


GUARDED = [found for found in OPERATIONS if found.verb is not None]
OPEN = [found for found in OPERATIONS if found.verb is None]
IN_LEDGERS = [found for found in GUARDED if "ledger" in found.parameters]
WRITES = [found for found in OPERATIONS if found.writes]
ABOUT_SOMEBODY = [found for found in GUARDED if found.id not in ELSEWHERE]

PUBLIC = frozenset(
    (
        *("get_log", "prove_inclusion", "prove_consistency", "list_checkpoints", "get_latest_checkpoint"),
        *("get_checkpoint_note", "get_tile", "get_tile_2", "get_tile_3", "get_tile_4"),
        *("get_health", "get_readiness", "get_openapi", "get_docs", "get_docs_style", "get_docs_script"),
        *("get_billing_extension", "get_agent_card"),
    )
)
"""What anyone may ask: hashes, and what the service says of itself."""


# ---------------------------------------------------------------- the table itself


def test_every_operation_is_tried_here_or_by_a_test_that_is_there() -> None:
    ids = [found.id for found in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for id, test in ELSEWHERE.items():
        module, _, name = test.partition("::")
        assert id in ids, f"{id} is no operation any more"
        assert inspect.isfunction(getattr(importlib.import_module(module), name, None)), f"{id}: there is no {test}"


def test_what_anyone_may_ask_is_known_by_name_and_writes_nothing() -> None:
    assert {found.id for found in OPEN} <= PUBLIC
    assert not [found.id for found in OPEN if found.writes]


def test_nothing_is_read_by_a_method_that_writes_and_no_method_that_reads_writes() -> None:
    for found in OPERATIONS:
        assert found.method in ("GET", "POST", "PATCH", "DELETE")
        assert (found.kind == "act") <= found.writes, found.id
        assert not (found.method == "GET" and found.body is not None), found.id


# ---------------------------------------------------------------- who asks


@each(*GUARDED)
def test_without_a_key_nothing_is_answered(world: World, operation: Operation) -> None:
    before = (world.head, world.records())
    answer = ask(world.served.stranger(), operation, path_of(operation, world, "bob"), body_of(operation, world, "bob"))

    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (world.head, world.records()) == before


@pytest.fixture(scope="module")
def strangers(world: World) -> list[Caller]:
    """Tokens that are none, or no longer: made up, of another secret, cut, revoked, expired, of no scheme we know."""
    served = world.served
    token, key = served.service.keyring.create("revoked", role="admin")
    served.service.keyring.revoke(key.id)
    late, expiring = served.service.keyring.create("expired", role="admin")
    served.control.replace_key(msgspec.structs.replace(expiring, expires="2020-01-01T00:00:00.000000Z"))
    served.service.keyring._changed()
    good = served.admin.token
    made_up = ["nonsense", "tsk_" + "a" * 12 + "_" + "b" * 43, good[:-1], good[:-1] + "!", good + "A", good.upper()]
    return [served.stranger(found) for found in [token, late, *made_up]]


@each(*OPERATIONS)
def test_a_wrong_an_expired_and_a_revoked_key_open_nothing(
    world: World, strangers: list[Caller], operation: Operation
) -> None:
    path, body = path_of(operation, world, "bob"), body_of(operation, world, "bob")
    before = (world.head, world.records())
    for stranger in strangers:
        answer = ask(stranger, operation, path, body)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), stranger.token
        assert stranger.token not in answer.text
    assert (world.head, world.records()) == before


@each(*GUARDED)
def test_a_key_without_any_scope_may_do_nothing(world: World, operation: Operation) -> None:
    nobody = world.served.caller(role="public", subject="nobody")
    before = (world.head, world.records())
    for query in queries_of(operation, "bob"):
        answer = ask(nobody, operation, path_of(operation, world, "bob"), body_of(operation, world, "bob"), query)
        assert answer.status_code in (400, 403, 404), answer.text
        assert answer.status_code != 400 or answer.json()["path"] in query
        assert not marks_in(answer)
    assert (world.head, world.records()) == before


@each(*GUARDED)
def test_a_key_of_another_ledger_sees_none(world: World, operation: Operation) -> None:
    """Not by status, words or headers can it tell a ledger that is there from one that is not."""
    elsewhere = world.served.caller(scopes=tuple(Scope(verb, "elsewhere") for verb in VERBS), subject="elsewhere")
    before = (world.head, world.records())
    body = body_of(operation, world, "bob")
    for query in queries_of(operation, "bob"):
        here = ask(elsewhere, operation, path_of(operation, world, "bob"), body, query)
        if "ledger" in operation.parameters:
            absent = ask(elsewhere, operation, path_of(operation, world, "bob", ledger="nowhere"), body, query)
            assert here.status_code == 404, here.text
            assert plain(here, "main", "nowhere") == plain(absent, "main", "nowhere")
        elif operation.any_ledger:
            assert here.status_code in (200, 403, 404), here.text
            assert here.status_code != 200 or "main" not in here.text
        else:
            assert here.status_code in (403, 404), here.text
        assert not marks_in(here)
    assert (world.head, world.records()) == before


@each(*GUARDED)
def test_a_key_with_every_other_verb_is_refused(world: World, operation: Operation) -> None:
    others = world.served.caller(scopes=tuple(Scope(v) for v in VERBS if v != operation.verb), subject="others")
    before = (world.head, world.records())
    for query in queries_of(operation, "alice"):
        answer = ask(others, operation, path_of(operation, world, "alice"), body_of(operation, world, "alice"), query)
        assert answer.status_code in (403, 404), answer.text
    assert (world.head, world.records()) == before


# ---------------------------------------------------------------- one tenant and another


@each(*ABOUT_SOMEBODY)
def test_of_another_tenant_nothing_is_told_and_nothing_is_changed(world: World, operation: Operation) -> None:
    """Whatever alice asks about bob: nothing of his is in the answer, nothing happens, and it is the answer that she
    gets for somebody who is not there."""
    alice = alice_only(world, subject="alice-asks")
    names = [
        GHOST,
        BOB,
        "999999",
        "aaaaaaaaaaaa",
        *world.texts.values(),
        *map(str, world.bobs.values()),
        "bobs-own-order",
        "nobodys-order",
        GHOST[:8],
        BOB[:8],
    ]
    before = (world.head, world.records())
    for his, nobodys in zip(queries_of(operation, "bob"), queries_of(operation, "nobody"), strict=True):
        found = ask(alice, operation, path_of(operation, world, "bob"), body_of(operation, world, "bob"), his)
        absent = ask(
            alice, operation, path_of(operation, world, "nobody"), body_of(operation, world, "nobody"), nobodys
        )
        assert found.status_code < 500
        assert not marks_in(found), found.text
        if operation.writes and operation.media_type != NDJSON:
            assert found.status_code in (400, 403, 404), found.text
        assert plain(found, *names) == plain(absent, *names)
    assert (world.head, world.records()) == before


CONDITIONED = [
    found
    for found in OPERATIONS
    if found.body is not None
    and isinstance(found.body, type)
    and "conditions" in {field.name for field in msgspec.structs.fields(found.body)}
]


@each(*CONDITIONED)
def test_a_condition_on_anothers_balance_is_no_way_to_learn_it(world: World, operation: Operation) -> None:
    alice = alice_only(world, subject="alice-conditions")
    before = world.head
    answers = []
    for account in (BOB, GHOST):
        for bound in ({"at_least": "1"}, {"at_most": "1"}, {"version": 1}):
            body = {
                **body_of(operation, world, "alice"),
                "conditions": [{"account": account, "asset": "USD/2", **bound}],
            }
            for query in queries_of(operation, "alice"):
                found = ask(alice, operation, path_of(operation, world, "alice"), body, query)
                assert found.status_code in (403, 404), found.text
                assert not marks_in(found)
                answers.append((str(sorted(query)), plain(found, account)))
    assert len({found for _, (_, found, _) in answers}) == 1
    assert world.head == before


# ---------------------------------------------------------------- lists, streams, and what two tenants share


def is_page(operation: Operation) -> bool:
    return "cursor" in {found.encode_name for found in msgspec.structs.fields(operation.query)}


@each(*[found for found in GUARDED if is_page(found)])
def test_the_cursor_of_a_wider_key_leads_a_narrower_one_nowhere(world: World, operation: Operation) -> None:
    """Not even where both speak for the same subject, so that the cursor itself is good."""
    wide = world.served.caller(role="admin", subject="twin")
    path = path_of(operation, world, "bob")
    for query in queries_of(operation, "bob"):
        page = ask(wide, operation, path, None, {**query, "limit": "1"})
        if page.status_code != 200 or not page.json()["cursor"]:
            continue
        cursor = page.json()["cursor"]
        for narrow in (alice_only(world, subject="twin"), alice_only(world, subject="another")):
            found = ask(narrow, operation, path, None, {"cursor": cursor})
            assert found.status_code in (200, 400, 403), found.text
            assert not [mark for mark in MARKS if mark in found.text]
            assert found.status_code != 200 or BOB not in found.text


def test_a_stream_has_what_the_key_may_read_and_nothing_else(world: World) -> None:
    alice = alice_only(world, subject="alice-streams")
    last = world.served.admin.done("/v1/ledgers/main/transfers", {**PLAIN, "amount": "3"})["seq"]
    text = ""
    with alice.http.stream("GET", "/v1/ledgers/main/events/stream", params={"after": -1}) as found:
        for line in found.iter_lines():
            text += line
            if line.startswith("data:") and f'"seq":{last},' in line:
                break
    assert ALICE in text
    assert not [mark for mark in MARKS if mark in text]
    assert f'"{BOB}"' not in text


def test_of_a_payment_to_another_the_payer_does_not_learn_what_the_payee_has(world: World) -> None:
    alice = alice_only(world, subject="alice-pays")
    body = {**PLAIN, "to_account": BOB, "amount": "2", "refs": {"order": "order-of-both"}}
    before = world.served.ledger.balance(BOB, "USD/2")
    seq = alice.done("/v1/ledgers/main/transfers", body)["seq"]
    after = world.served.ledger.balance(BOB, "USD/2")
    assert after == before + 2
    main = "/v1/ledgers/main"
    answers = [
        alice.get(f"{main}/transactions/{seq}"),
        alice.get(f"{main}/transactions", reference="order", value="order-of-both"),
        alice.get(f"{main}/events", after=seq - 1),
        alice.get(f"{main}/events", account=ALICE, after=seq - 1),
        alice.get(f"{main}/entries", account=ALICE),
        alice.get(f"/v1/transactions/{seq}"),
        alice.get("/v1/entries", account_id=ALICE),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert str(before) not in answer.text
        assert str(after) not in answer.text
    assert alice.get(f"{main}/transactions/{seq}/receipt").status_code == 403
    assert alice.get(f"{main}/events/{seq}/raw").status_code == 403
    world.served.ledger.burn(BOB, "USD/2", 2, key="bobs-own-two")


def ways_to_pay(to: str, amount: str, **more: Any) -> list[tuple[str, Any]]:
    """Every way in which a transfer can be asked for, as path and body."""
    main, body = "/v1/ledgers/main", {**PLAIN, "to_account": to, "amount": amount}
    leg = {**body}
    return [
        (f"{main}/transfers", {**body, **more}),
        (f"{main}/transfers?dry_run=true", {**body, **more}),
        (f"{main}/transactions", {"type": "transfer", "legs": [leg], **more}),
        (f"{main}/transactions/bulk", {"commands": [{"command": "transfer", **body, **more}]}),
        (f"{main}/transactions/bulk", {"atomic": True, "commands": [{"command": "transfer", **body, **more}]}),
        (f"{main}/transactions/stream", {"command": "transfer", **body, **more}),
        ("/transfers", {**body, **more}),
        (
            "/v1/transfers",
            {
                "currency": "USD/2",
                "from": {"account": ALICE},
                "to": {"account": to},
                "amount_minor": amount,
                "metadata": more.get("metadata", {}),
            },
        ),
        (
            "/v1/transactions",
            {
                "currency": "USD/2",
                "entries": [
                    {"account_id": ALICE, "direction": "debit", "amount": amount},
                    {"account_id": to, "direction": "credit", "amount": amount},
                ],
                "metadata": more.get("metadata", {}),
            },
        ),
    ]


def paid(caller: Caller, path: str, body: Any, *, key: str = "") -> httpx2.Response:
    kind = NDJSON if path.endswith("/stream") else "application/json"
    headers = {"idempotency-key": key or f"boundary-{next(_numbers)}", "content-type": kind}
    return caller.http.post(path, content=json.dumps(body) + "\n", headers=headers)


@pytest.mark.parametrize("way", range(9))
def test_a_payee_at_its_ceiling_does_not_tell_what_it_has(world: World, way: int) -> None:
    alice = alice_only(world, subject="alice-tops-up")
    path, body = ways_to_pay(BOB, "50000000")[way]
    before = world.head
    answer = paid(alice, path, body)

    assert "ceiling_exceeded" in answer.text
    assert not marks_in(answer), answer.text
    assert str(BOBS + 50_000_000) not in answer.text
    assert str(CEILING - BOBS) not in answer.text
    assert world.head == before


@pytest.mark.parametrize("way", range(9))
def test_the_marks_of_a_signature_are_put_on_an_event_by_a_signature_alone(world: World, way: int) -> None:
    """Also for a key that may do everything, in every way to pay."""
    path, body = ways_to_pay("users:carol", "1", metadata={"signed.by": "did:key:zSomebody"})[way]
    before = world.head
    answer = paid(world.served.admin, path, body)

    assert "signed." in answer.text, answer.text
    assert "invalid_input" in answer.text
    assert world.head == before


def test_a_key_that_was_used_by_a_wider_key_of_the_same_subject_tells_nothing_of_it(world: World) -> None:
    wide, narrow = world.served.caller(role="admin", subject="twins"), alice_only(world, subject="twins")
    body = {**PLAIN, "from_account": BOB, "reason": "bobs-own-reason"}
    wide.done("/v1/ledgers/main/transfers", body, key="bobs-own-key-1")
    world.served.ledger.mint(BOB, "USD/2", 1, key="bobs-own-back")
    conflict = narrow.post("/v1/ledgers/main/transfers", PLAIN, key="bobs-own-key-1")
    replay = narrow.post("/v1/ledgers/main/transfers", body, key="bobs-own-key-1")

    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")
    assert BOB not in conflict.text
    assert "bobs-own-reason" not in conflict.text
    assert replay.status_code == 403
    assert narrow.get("/v1/ledgers/main/transactions", key="bobs-own-key-1").json()["items"] == []


def test_what_alice_paid_to_bob_she_cannot_take_back(world: World) -> None:
    alice = alice_only(world, "read", "post", subject="alice-regrets")
    seq = alice.done("/v1/ledgers/main/transfers", {**PLAIN, "to_account": BOB})["seq"]
    before = world.head
    for path in (
        f"/v1/ledgers/main/transactions/{seq}/reverse",
        f"/v1/ledgers/main/transactions/{seq}/reverse?dry_run=true",
        f"/v1/transactions/{seq}/reverse",
    ):
        assert alice.post(path, {}).status_code == 403
    batch = {"commands": [{"command": "reverse", "transaction": f"main/{seq}"}]}
    assert alice.post("/v1/ledgers/main/transactions/bulk", batch).status_code == 403
    assert world.head == before
    world.served.ledger.burn(BOB, "USD/2", 1, key="bobs-own-one")


TAKES = [
    {"command": "transfer", "from_account": BOB, "to_account": ALICE, "asset": "USD/2", "amount": "1"},
    {"command": "post", "type": "transfer", "legs": [{**PLAIN, "from_account": BOB, "to_account": ALICE}]},
    {"command": "post", "type": "transfer", "legs": [PLAIN, {**PLAIN, "from_account": BOB, "to_account": ALICE}]},
    {"command": "hold", "account": BOB, "asset": "USD/2", "amount": "1"},
    {"command": "capture", "hold": "{hold}", "splits": [{"to_account": ALICE}]},
    {"command": "release", "hold": "{hold}"},
    {"command": "hold_top_up", "hold": "{hold}", "amount": "1"},
    {"command": "hold_extend", "hold": "{hold}", "expires_in_seconds": 1},
    {"command": "hold_expire", "hold": "{hold}"},
    {"command": "capture", "hold": "{stake}", "splits": [{"to_account": ALICE}]},
    {"command": "stake_slash", "stake": "{stake}", "to_account": ALICE},
    {"command": "stake_release", "stake": "{stake}"},
    {"command": "stake_slash", "stake": "{hold}", "to_account": ALICE},
    {"command": "bet_settlement", "bet": "{bet}", "house": ALICE, "payout": "0", "refs": {"round": "bobs-own-r"}},
    {"command": "bet_settlement", "bet": "{own-bet}", "house": BOB, "payout": "5", "refs": {"round": "r"}},
    {"command": "bet_rollback", "bet": "{bet}", "refs": {"round": "bobs-own-r"}},
    {"command": "reverse", "transaction": "{transaction}"},
    {"command": "reverse", "transaction": "{hold}"},
    {"command": "finalize_charge", "charge": "{transaction}"},
    {"command": "commitment_create", "member": BOB, "asset": "USD/2", "amount": "1", "refs": {"commitment": "c"}},
    {"command": "commitment_fulfil", "member": ALICE, "asset": "USD/2", "refs": {"commitment": "c"},
     "legs": [{**PLAIN, "from_account": BOB, "to_account": ALICE}]},
    {"command": "open_account", "account": "users:bobby"},
    {"command": "freeze_account", "account": BOB},
    {"command": "unfreeze_account", "account": BOB},
    {"command": "exclude_account", "account": BOB, "settle_to": ALICE},
    {"command": "exclude_account", "account": ALICE, "settle_to": BOB},
    {"command": "close_account", "account": ALICE, "settle_to": BOB},
    {"command": "set_limit", "account": BOB, "asset": "USD/2", "limit": "1"},
    {"command": "transfer", **PLAIN, "from_account": "@issuance", "to_account": ALICE},
    {"command": "transfer", **PLAIN, "from_account": "@fees", "to_account": ALICE},
    {"command": "transfer", **PLAIN, "to_account": "@issuance"},
    {"command": "transfer", **PLAIN, "from_account": "users:alice"},
    {"command": "transfer", **PLAIN, "from_account": "users:alicemain"},
    {"command": "transfer", **PLAIN, "conditions": [{"account": BOB, "asset": "USD/2", "at_least": "1"}]},
]  # fmt: skip
"""What alice must not have done, as commands of a batch: to take from bob or the ledger, or to decide about him."""


@pytest.mark.parametrize("command", TAKES, ids=[f"{at}-{found['command']}" for at, found in enumerate(TAKES)])
def test_no_command_takes_from_another_however_it_is_put(world: World, command: Any) -> None:
    """In a batch, in a stream of lines, and among others that she may have."""
    alice = alice_only(world, subject="alice-takes")
    text = json.dumps(command).replace("{own-bet}", f"main/{world.alices['bet']}")
    for name, seq in world.bobs.items():
        text = text.replace("{" + name + "}", f"main/{seq}")
    asked, before = json.loads(text), world.head
    for commands in ([asked], [{"command": "transfer", **PLAIN}, asked]):
        for atomic in (True, False):
            answer = alice.post("/v1/ledgers/main/transactions/bulk", {"atomic": atomic, "commands": commands})
            own = len(commands) - 1 if not atomic else 0
            results = answer.json().get("results", [{"problem": answer.json()}])
            assert results[-1]["problem"]["status"] in (403, 404, 422), answer.text
            assert results[-1]["problem"]["code"] in ("forbidden", "not_found", "batch_aborted"), answer.text
            assert not marks_in(answer)
            assert world.head in (before, before + own)
            before = world.head
    line = paid(alice, "/v1/ledgers/main/transactions/stream", asked)
    problem = json.loads(line.text)["problem"]
    assert (problem["status"], problem["code"]) in ((403, "forbidden"), (404, "not_found"))
    assert world.head == before


def test_a_receipt_that_is_shown_is_judged_by_itself(world: World) -> None:
    """Checking says what the receipt says, and nothing of the ledger beyond that it has no log."""
    alice = alice_only(world, subject="alice-checks")
    answers = [
        alice.post("/v1/ledgers/main/verify", {"receipt": f"main/{world.bobs['transaction']}"}),
        alice.post("/v1/ledgers/main/verify", {"receipt": "main/999999"}),
    ]
    assert plain(answers[0])[:2] == plain(answers[1])[:2]


# ---------------------------------------------------------------- keys that are held to something


@each(*WRITES)
def test_a_mandate_over_nothing_lets_nothing_through(world: World, operation: Operation) -> None:
    agent = world.served.caller(
        subject="agent",
        scopes=tuple(Scope(verb, "main") for verb in ("read", "post", "audit")),
        mandate=Mandate("main", ALICE, "USD/2", 0, 0),
    )
    before = (world.head, world.records())
    for whose in ("alice", "bob"):
        for query in queries_of(operation, whose):
            answer = ask(agent, operation, path_of(operation, world, whose), body_of(operation, world, whose), query)
            assert answer.status_code < 500
            if operation.id not in SPENDS_NOTHING and not operation.is_batch:
                assert answer.status_code in (400, 403, 404, 409, 422), answer.text
    if operation.id not in SPENDS_NOTHING:
        assert (world.head, world.records()) == before


SPENDS_NOTHING = frozenset({"release_hold", "verify_receipt", "reconcile"})
"""What a mandate is not asked about: what gives back, and checks."""


@each(*WRITES)
def test_a_key_that_must_sign_does_nothing_unsigned(world: World, operation: Operation) -> None:
    signer = did_key(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    caller = world.served.caller(role="admin", subject="signs", signer=signer)
    before = (world.head, world.records())
    for query in queries_of(operation, "alice"):
        answer = ask(caller, operation, path_of(operation, world, "alice"), body_of(operation, world, "alice"), query)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text
    assert (world.head, world.records()) == before


WIDER = [
    {"role": "admin"},
    {"role": "reader"},
    {"scopes": [{"verb": "read"}]},
    {"scopes": [{"verb": "read", "ledger": "main"}]},
    {"scopes": [{"verb": "read", "ledger": "main", "account_prefix": "users:"}]},
    {"scopes": [{"verb": "read", "ledger": "main", "account_prefix": "users:alice"}]},
    {"scopes": [{"verb": "read", "ledger": "main", "account_prefix": BOB}]},
    {"scopes": [{"verb": "govern", "ledger": "main", "account_prefix": "users:alice:"}]},
    {"scopes": [{"verb": "read", "ledger": "elsewhere", "account_prefix": "users:alice:"}]},
    {"scopes": [{"verb": "read", "ledger": "main", "account_prefix": "users:alice:"}], "subject": "admin"},
]


@pytest.mark.parametrize("wider", WIDER, ids=range(len(WIDER)))
def test_nobody_makes_a_key_that_may_do_more_than_his_own(world: World, wider: dict[str, Any]) -> None:
    alice = alice_only(world, "read", "post", "keys", subject="alice-makes-keys")
    before = world.records()
    answer = alice.post("/v1/keys", {"subject": "alice-makes-keys:more", **wider})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), answer.text
    assert world.records() == before


def test_a_key_that_is_made_may_do_what_it_says_and_no_more(world: World) -> None:
    alice = alice_only(world, "read", "keys", subject="alice-shares")
    scope = {"verb": "read", "ledger": "main", "account_prefix": "users:alice:"}
    token = alice.done("/v1/keys", {"subject": "alice-shares:more", "scopes": [scope]})["token"]
    made = world.served.stranger(token)

    assert made.get("/v1/ledgers/main/balances", account=ALICE).status_code == 200
    assert made.get("/v1/ledgers/main/balances", account=BOB).status_code == 403
    assert made.post("/v1/keys", {"subject": "alice-shares:more", "scopes": [scope]}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {"url": "https://hooks.example.com/x"},
        {"url": "https://hooks.example.com/x", "account_prefix": "users:"},
        {"url": "https://hooks.example.com/x", "account_prefix": BOB},
        {"url": "https://hooks.example.com/x", "account_prefix": "users:alice:"},
        {"url": "https://hooks.example.com/x", "account_prefix": BOB, "mapping": "billing"},
        {"url": "https://hooks.example.com/x", "mapping": "billing"},
        {"url": "https://sqs.eu-west-1.amazonaws.com/1/q", "kind": "sqs"},
        {"url": "nats://127.0.0.1/subject", "kind": "nats"},
        {"url": "file:///etc/passwd", "kind": "file"},
    ],
)
def test_no_endpoint_is_told_what_its_maker_may_not_read(world: World, body: dict[str, Any]) -> None:
    alice = alice_only(world, subject="alice-listens")
    before = world.records()
    answer = alice.post("/v1/ledgers/main/endpoints", body)

    assert answer.status_code in (400, 403, 422), answer.text
    assert world.records() == before


def test_what_the_whole_process_shows_is_for_keys_without_a_prefix(world: World) -> None:
    narrow = world.served.caller(scopes=(Scope("audit", "*", "users:alice:"),), subject="narrow-auditor")
    assert narrow.get("/metrics").status_code == 403
    assert world.served.caller(role="auditor").get("/metrics").status_code == 200
