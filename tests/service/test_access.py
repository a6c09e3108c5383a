"""Who comes in over HTTP, how often, with whose signature, and how far a mandate reaches."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.access.limits import RateLimits
from tallystick.access.signatures import check_event, sign_request
from tallystick.clock import add_seconds
from tallystick.control import Mandate, Scope
from tallystick.journal.log_inclusion import did_key
from tallystick.service.settings import Settings
from tests.access.conftest import Hands
from tests.access.test_oidc import AUDIENCE, RSA_OTHER, Issuer
from tests.access.test_oidc import token as token_of
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
TRANSFERS = f"{MAIN}/transfers"
PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "100"}
DEADLINE_SECONDS = 20


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def timed(clock: Hands) -> Iterator[Served]:
    """A service whose clock is put forward by hand."""
    with serving("memory://", clock=clock) as found:
        yield found


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def key_id(caller: Caller) -> str:
    return caller.token.split("_")[1]


# ---------------------------------------------------------------- keys


def test_events_say_who_asked_and_under_whose_keys(served: Served) -> None:
    paid = served.caller(subject="shop", role="writer").done(TRANSFERS, PAY, key="order-1")

    found = served.ledger.transaction(paid["seq"]).event
    assert (found.actor, found.source, found.idem) == ("key:shop", "shop", "order-1")


def test_a_rotated_key_goes_on_for_a_while_and_its_idempotency_keys_go_over_to_the_new_one(
    timed: Served, clock: Hands
) -> None:
    old = timed.caller(subject="shop", role="writer")
    paid = old.done(TRANSFERS, PAY, key="order-1")
    rotated = timed.admin.done(f"/v1/keys/{key_id(old)}/rotate", {"keep_seconds": 60})
    new = timed.stranger(rotated["token"])

    again = new.post(TRANSFERS, PAY, key="order-1")
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (paid["id"], "true")
    clock.forward(59)
    assert old.get(f"{MAIN}/accounts").is_success
    clock.forward(1)
    assert code_of(old.get(f"{MAIN}/accounts")) == (401, "unauthenticated")
    assert new.get(f"{MAIN}/accounts").is_success


def test_a_revoked_key_is_refused_at_once_and_for_good(served: Served) -> None:
    caller = served.caller(role="writer")
    caller.done(TRANSFERS, PAY, key="order-1")
    served.admin.done(f"/v1/keys/{key_id(caller)}/revoke", {})

    for answer in (caller.post(TRANSFERS, PAY, key="order-1"), caller.get(f"{MAIN}/accounts")):
        assert code_of(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    refused = served.admin.post(f"/v1/keys/{key_id(caller)}/rotate", {})
    assert refused.status_code == 422
    assert served.ledger.balance("users:bob", "USD/2") == 50_100


def test_a_key_ends_with_its_expiry(timed: Served, clock: Hands) -> None:
    caller = timed.caller(role="reader", expires=add_seconds(clock(), 10))
    clock.forward(9.999999)
    assert caller.get(f"{MAIN}/accounts").is_success
    clock.forward(0.000001)
    assert code_of(caller.get(f"{MAIN}/accounts")) == (401, "unauthenticated")


def test_a_key_with_another_ones_id_or_a_changed_secret_is_none(here: Served) -> None:
    one, other = here.caller(role="admin"), here.caller(role="admin")
    crossed = f"tsk_{key_id(one)}_{other.token.split('_', 2)[2]}"
    last = "A" if one.token[-1] != "A" else "B"
    for wrong in (crossed, one.token[:-1] + last, one.token[:-1], one.token + "A", one.token.upper(), "tsk_"):
        for _ in range(2):  # what was refused is not remembered as anything else
            assert code_of(here.stranger(wrong).get(f"{MAIN}/accounts")) == (401, "unauthenticated")
    assert one.get(f"{MAIN}/accounts").is_success


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer,", "Basic YTpi", "tsk_aaaaaaaaaaaa_b", "Bearer \xe9"])
def test_an_authorization_that_is_none_is_told_so(here: Served, header: str) -> None:
    answer = httpx2.get(f"{here.base}{MAIN}/accounts", headers={"authorization": header.encode("latin-1")})
    assert code_of(answer) == (401, "unauthenticated")


def test_a_key_that_may_do_nothing_sees_nothing(here: Served) -> None:
    caller = here.caller(role="public")
    for answer in (
        caller.get(f"{MAIN}/accounts"),
        caller.get("/v1/ledgers/none/accounts"),
        caller.post(TRANSFERS, PAY),
    ):
        assert answer.status_code in (403, 404)
    assert caller.get("/health").is_success


# ---------------------------------------------------------------- how often


def test_each_key_has_its_rate_and_who_exceeds_it_is_told_when_to_come_back(here: Served) -> None:
    stopwatch = Hands()
    here.service.limits = RateLimits(0, monotonic=stopwatch.monotonic)
    slow, other = here.caller(role="writer", requests_per_second=1), here.caller(role="writer")

    for number in range(2):  # what two seconds give may come at once
        slow.done(TRANSFERS, PAY, key=f"order-{number}")
    answer = slow.post(TRANSFERS, PAY, key="order-2")
    assert code_of(answer) == (429, "rate_limited")
    assert answer.json()["retryable"]
    assert int(answer.headers["retry-after"]) == answer.json()["retry_after_seconds"] == 1
    assert slow.get(f"{MAIN}/accounts").status_code == 429
    assert other.get(f"{MAIN}/accounts").is_success

    stopwatch.forward(1)
    again = slow.post(TRANSFERS, PAY, key="order-2")
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers
    assert here.ledger.balance("users:bob", "USD/2") == 50_300


def test_keys_of_one_subject_share_its_rate(here: Served) -> None:
    here.service.limits = RateLimits(0, monotonic=Hands().monotonic)
    callers = [here.caller(subject="shop", role="reader", requests_per_second=1) for _ in range(2)]

    found = [caller.get(f"{MAIN}/accounts").status_code for caller in callers * 2]
    assert found == [200, 200, 429, 429]


def test_a_key_without_a_rate_has_the_services(here: Served) -> None:
    here.service.limits = RateLimits(2, monotonic=Hands().monotonic)
    caller = here.caller(role="reader")

    assert [caller.get(f"{MAIN}/accounts").status_code for _ in range(5)] == [200] * 4 + [429]


def test_who_asks_without_a_key_is_limited_by_his_address(here: Served) -> None:
    here.service.public_limits = RateLimits(1, monotonic=Hands().monotonic)

    def ask(address: str) -> int:
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=address)) as http:
            return int(http.get(f"{here.base}/health").status_code)

    assert [ask("127.0.0.1") for _ in range(3)] == [200, 200, 429]
    assert ask("127.0.0.2") == 200
    assert here.admin.get("/health").is_success


# ---------------------------------------------------------------- an identity provider


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def trusting(issuer: Issuer) -> Iterator[Served]:
    """A service that trusts the issuer."""
    with serving("memory://", Settings(oidc_issuer=issuer.url, oidc_audience=AUDIENCE)) as found:
        yield found


def token(issuer: Issuer, **changes: Any) -> str:
    return token_of(iss=issuer.url, **{"exp": int(time.time()) + 600, **changes})


def test_a_token_of_the_issuer_opens_what_its_scopes_say(trusting: Served, issuer: Issuer) -> None:
    alice = trusting.stranger(token(issuer, scope="openid tally:read:main:users:alice tally:post:main:users:alice"))

    paid = alice.done(TRANSFERS, PAY, key="order-1")
    found = trusting.ledger.transaction(paid["seq"]).event
    assert (found.actor, found.source) == ("oidc:alice", "oidc:alice")
    assert alice.get(f"{MAIN}/balances", account="users:alice").is_success
    assert alice.get(f"{MAIN}/balances", account="users:bob").status_code in (403, 404)
    assert alice.post(TRANSFERS, {**PAY, "from_account": "users:bob"}).status_code in (403, 404)
    assert alice.post(f"{MAIN}/mint", {"account": "users:alice", "asset": "USD/2", "amount": "1"}).status_code == 403
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


def test_a_subject_of_the_issuer_is_not_the_subject_of_a_key(trusting: Served, issuer: Issuer) -> None:
    key = trusting.caller(subject="alice", role="writer")
    guest = trusting.stranger(token(issuer, tallystick_role="writer"))

    first, second = key.done(TRANSFERS, PAY, key="order-1"), guest.done(TRANSFERS, PAY, key="order-1")
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "another"},
        {"exp": 1},
        {"iss": "https://eve.example"},
        {"nbf": 2**40},
        {"key": RSA_OTHER},
        {"header": {"alg": "none"}},
    ],
)
def test_a_token_that_is_not_for_us_and_for_now_opens_nothing(
    trusting: Served, issuer: Issuer, changes: dict[str, Any]
) -> None:
    given = {"iss": issuer.url, "exp": int(time.time()) + 600, "tallystick_role": "admin", **changes}
    caller = trusting.stranger(token_of(**given))
    assert code_of(caller.get(f"{MAIN}/accounts")) == (401, "unauthenticated")
    assert code_of(caller.post(TRANSFERS, PAY)) == (401, "unauthenticated")


def test_a_service_that_trusts_no_issuer_takes_no_tokens(here: Served, issuer: Issuer) -> None:
    caller = here.stranger(token(issuer, tallystick_role="admin"))
    assert code_of(caller.get(f"{MAIN}/accounts")) == (401, "unauthenticated")
    assert issuer.asked == []


def test_an_issuer_that_is_away_lets_nobody_in_and_keys_go_on(trusting: Served, issuer: Issuer) -> None:
    issuer.answer("/realm/keys", {}, 503)
    answer = trusting.stranger(token(issuer, tallystick_role="admin")).get(f"{MAIN}/accounts")

    assert code_of(answer) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert issuer.url not in answer.text
    assert trusting.admin.get(f"{MAIN}/accounts").is_success


# ---------------------------------------------------------------- signed requests

SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"\x06" * 32)
DID = did_key(SIGNER.public_key().public_bytes_raw())
BODY = json.dumps(PAY).encode()
HANDS_EPOCH = 1_795_251_600
"""The time of ``Hands``, as signatures tell it."""


def signed(key: Ed25519PrivateKey = SIGNER, path: str = TRANSFERS, body: bytes = BODY, *, created: int | None = None,
           idempotency_key: str = "order-1") -> dict[str, str]:  # fmt: skip
    return sign_request(key, "POST", path, body, idempotency_key, created=created)


def send(caller: Caller, headers: dict[str, str], path: str = TRANSFERS, body: bytes = BODY) -> httpx2.Response:
    return caller.http.post(path, content=body, headers={"content-type": "application/json", **headers})


def test_the_event_of_a_signed_request_shows_a_stranger_who_asked(served: Served) -> None:
    paid = send(served.caller(role="writer"), signed())

    assert paid.status_code == 201, paid.text
    event = served.ledger.transaction(paid.json()["seq"]).event
    assert check_event(event) == DID
    assert json.loads(event.data["metadata"]["signed.body"]) == PAY


def test_a_key_with_a_signer_takes_no_write_that_its_signer_did_not_sign(here: Served) -> None:
    bound = here.caller(role="admin", signer=DID)

    refused = [
        bound.post(TRANSFERS, PAY),
        send(bound, signed(STRANGER)),
        bound.post(f"{MAIN}/transfers?dry_run=true", PAY),
        bound.post(f"{MAIN}/batches", {"mode": "independent", "commands": [{"transfer": PAY}]}),
        bound.post("/v1/keys", {"subject": "more", "role": "admin"}),
    ]
    assert all(answer.status_code in (400, 401, 404) for answer in refused), [answer.text for answer in refused]
    assert here.ledger.balance("users:bob", "USD/2") == 50_000
    assert not here.control.keys(subject="more")
    assert bound.get(f"{MAIN}/accounts").is_success
    assert send(bound, signed()).status_code == 201


@pytest.mark.parametrize("change", ["body", "key", "path", "digest", "method", "signature", "only one header"])
def test_a_signed_request_that_was_altered_is_refused(here: Served, change: str) -> None:
    caller, headers, path, body = here.caller(role="writer"), signed(), TRANSFERS, BODY
    if change == "body":
        body = BODY.replace(b'"100"', b'"999"')
    elif change == "key":
        headers["Idempotency-Key"] = "order-2"
    elif change == "path":
        path = "/v1/ledgers/other/transfers"
        here.database.ledger("other").mint("users:alice", "USD/2", 500, key="funds")
    elif change == "digest":
        body = BODY.replace(b'"100"', b'"999"')
        headers["Content-Digest"] = signed(body=body)["Content-Digest"]
    elif change == "method":
        headers = sign_request(SIGNER, "PUT", TRANSFERS, BODY, "order-1")
    elif change == "signature":
        headers["Signature"] = signed(STRANGER)["Signature"]
    else:
        del headers["Signature"]

    assert code_of(send(caller, headers, path, body)) == (401, "unauthenticated")
    assert here.ledger.balance("users:bob", "USD/2") == 50_000


def test_a_signed_request_sent_again_or_signed_again_later_is_answered_as_the_first_time(
    timed: Served, clock: Hands
) -> None:
    caller = timed.caller(role="writer", signer=DID)
    headers = signed(created=HANDS_EPOCH)
    first = send(caller, headers)
    assert first.status_code == 201, first.text

    clock.forward(300)
    again = send(caller, headers)
    clock.forward(1)
    late = send(caller, headers)
    anew = send(caller, signed(created=HANDS_EPOCH + 301))
    other = send(caller, signed(body=BODY.replace(b"100", b"200"), created=HANDS_EPOCH + 301),
                 body=BODY.replace(b"100", b"200"))  # fmt: skip

    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    assert code_of(late) == (401, "unauthenticated")
    assert (anew.json()["id"], anew.headers["idempotency-replayed"]) == (first.json()["id"], "true")
    assert code_of(other) == (409, "idempotency_conflict")
    assert timed.ledger.balance("users:bob", "USD/2") == 50_100


def test_one_signed_request_sent_many_times_at_once_is_carried_out_once(served: Served) -> None:
    caller, headers = served.caller(role="writer"), signed()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: send(caller, headers), range(16)))

    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert served.ledger.balance("users:bob", "USD/2") == 50_100


def test_a_dry_run_is_signed_as_such_and_is_no_leave_to_post(here: Served) -> None:
    caller, tried = here.caller(role="writer", signer=DID), f"{TRANSFERS}?dry_run=true"
    headers = signed(path=tried)

    assert send(caller, headers, tried).status_code == 201
    assert code_of(send(caller, headers)) == (401, "unauthenticated")
    assert code_of(send(caller, signed(), tried)) == (401, "unauthenticated")
    assert here.ledger.balance("users:bob", "USD/2") == 50_000


def test_nobody_puts_another_ones_signed_request_on_an_event_of_his_own(here: Served) -> None:
    paid = send(here.caller(role="writer"), signed())
    kept = here.ledger.transaction(paid.json()["seq"]).event.data["metadata"]

    answer = here.admin.post(TRANSFERS, {**PAY, "amount": "9000", "metadata": kept})
    assert answer.status_code in (400, 422)
    assert here.ledger.balance("users:bob", "USD/2") == 50_100


def test_only_single_postings_can_be_signed(here: Served) -> None:
    body = json.dumps({"subject": "more", "role": "reader"}).encode()
    answer = send(here.admin, signed(path="/v1/keys", body=body), "/v1/keys", body)
    assert (answer.status_code, answer.json()["path"]) == (400, "Signature")


# ---------------------------------------------------------------- mandates

PURSE = ("main", "users:alice", "USD/2")


def agent(served: Served, subject: str, **limits: Any) -> Caller:
    scopes = (Scope("post", "main", "users:alice"), Scope("read", "main", "users:alice"))
    return served.caller(subject=subject, scopes=scopes, mandate=Mandate(*PURSE, **limits))


def test_a_mandate_says_what_is_left_and_until_when(timed: Served, clock: Hands) -> None:
    spender = agent(timed, "agent", max_per_act=600, max_per_day=1_000)
    spender.done(TRANSFERS, {**PAY, "amount": "600"})

    act = spender.post(TRANSFERS, {**PAY, "amount": "601"})
    assert code_of(act) == (422, "mandate_exceeded")
    assert (act.json()["needed"], act.json()["found"]) == ("at most 600", "601")
    day = spender.post(TRANSFERS, {**PAY, "amount": "401"})
    assert code_of(day) == (422, "mandate_exceeded")
    data = day.json()["data"]
    assert (data["limit"], data["asked"], data["left"]) == ("1000", "401", "400")
    assert data["resets"] == "2026-11-22T00:00:00.000000Z"
    spender.done(TRANSFERS, {**PAY, "amount": "400"})
    clock.forward(86_400)
    spender.done(TRANSFERS, {**PAY, "amount": "600"})
    assert timed.ledger.balance("users:bob", "USD/2") == 51_600


def test_many_at_one_mandate_spend_it_to_the_last_unit_and_no_further(served: Served) -> None:
    """16 callers with keys of one subject; each is told exactly whether his posting went through."""
    callers = [agent(served, "agent", max_per_day=1_000) for _ in range(16)]
    start = threading.Barrier(16)

    def spend(number: int) -> list[httpx2.Response]:
        start.wait(DEADLINE_SECONDS)
        return [
            callers[number].post(TRANSFERS, {**PAY, "amount": str(40 + number % 3)}, key=f"{number}-{turn}")
            for turn in range(3)
        ]

    with ThreadPoolExecutor(16) as pool:
        answers = [answer for found in pool.map(spend, range(16)) for answer in found]

    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) == {201, 422}, [answer.text for answer in answers if answer.status_code not in (201, 422)]
    spent = served.ledger.balance("users:bob", "USD/2") - 50_000
    assert spent == sum(-entry.amount for answer in answers if answer.status_code == 201
                        for entry in served.ledger.transaction(answer.json()["seq"]).entries
                        if entry.account == "users:alice")  # fmt: skip
    assert 1_000 - 40 < spent <= 1_000
    for answer in answers:
        if answer.status_code == 422:
            problem = answer.json()
            assert problem["code"] == "mandate_exceeded"
            assert int(problem["data"]["left"]) < int(problem["data"]["asked"])
    events = [event for event in served.ledger.events(-1, 1_000) if event.actor == "key:agent"]
    assert len(events) == seen[201]
    assert {event.source for event in events} == {"agent"}


def test_an_act_under_a_mandate_asked_again_gives_the_first_answer_also_when_nothing_is_left(served: Served) -> None:
    spender = agent(served, "agent", max_per_day=100)
    first = spender.done(TRANSFERS, PAY, key="order-1")

    assert code_of(spender.post(TRANSFERS, PAY, key="order-2")) == (422, "mandate_exceeded")
    again = spender.post(TRANSFERS, PAY, key="order-1")
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first["id"], "true")


def test_a_mandate_reaches_no_further_than_its_account_payees_and_acts(here: Served) -> None:
    spender = agent(here, "agent", max_per_day=1_000, payees=("users:bob", "shops:*"))
    refused = [
        spender.post(TRANSFERS, {**PAY, "to_account": "users:eve"}),
        spender.post(TRANSFERS, {**PAY, "from_account": "users:bob", "to_account": "users:alice"}),
        spender.post(f"{MAIN}/mint", {"account": "users:alice", "asset": "USD/2", "amount": "1"}),
        spender.post("/v1/keys", {"subject": "agent", "role": "admin"}),
        spender.post("/v1/ledgers/other/transfers", PAY),
    ]
    assert all(answer.status_code in (403, 404) for answer in refused), [answer.text for answer in refused]
    spender.done(TRANSFERS, {**PAY, "to_account": "shops:7"})
    assert here.ledger.balance("users:alice", "USD/2") == 99_900


def test_a_dry_run_under_a_mandate_spends_nothing_of_it(here: Served) -> None:
    spender = agent(here, "agent", max_per_day=100)
    for _ in range(3):
        assert spender.post(f"{TRANSFERS}?dry_run=true", PAY).status_code == 201
    assert code_of(spender.post(f"{TRANSFERS}?dry_run=true", {**PAY, "amount": "101"})) == (422, "mandate_exceeded")
    spender.done(TRANSFERS, PAY)


def test_a_hold_counts_when_it_is_made_and_no_more_when_it_is_released(here: Served) -> None:
    spender = agent(here, "agent", max_per_day=100)
    hold = spender.done(f"{MAIN}/holds", {"account": "users:alice", "asset": "USD/2", "amount": "100"})
    assert code_of(spender.post(TRANSFERS, PAY)) == (422, "mandate_exceeded")
    spender.done(f"{MAIN}/holds/{hold['seq']}/release", {})
    spender.done(TRANSFERS, PAY)
