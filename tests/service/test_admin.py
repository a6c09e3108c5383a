"""Keys, jobs and reports over HTTP: what operators do, and what nobody else may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tallystick.access.keys import Keyring
from tallystick.clock import add_seconds
from tallystick.control import JobRun, Mandate, Scope
from tallystick.control.memory import MemoryControl
from tallystick.errors import InvalidInput
from tallystick.service.settings import Settings
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
KEYS = "/v1/keys"
REPORTS = f"{MAIN}/reports"
USD = "USD/2"
READ_USERS = {"verb": "read", "ledger": "main", "account_prefix": "users:"}


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ---------------------------------------------------------------- keys are made


def test_a_key_that_was_made_opens_what_it_was_given(served: Served) -> None:
    made = served.admin.done(KEYS, {"subject": "shop", "scopes": [READ_USERS]})
    caller = served.stranger(made["token"])

    assert caller.get(f"{MAIN}/balances", account="users:alice").is_success
    assert caller.get(f"{MAIN}/balances", account="shops:one").status_code == 403
    shown = served.admin.get(f"{KEYS}/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "token"}
    assert made["token"] not in served.admin.get(KEYS).text


def test_a_repeat_makes_no_second_key_and_shows_no_token(served: Served) -> None:
    body = {"subject": "shop", "scopes": [READ_USERS]}
    first = served.admin.post(KEYS, body, key="once")
    again = served.admin.post(KEYS, body, key="once")

    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {**first.json(), "token": ""}
    assert len(served.control.keys(subject="shop")) == 1


def test_many_repeats_at_once_make_one_key_with_one_token(served: Served) -> None:
    def ask(_: int) -> str:
        return str(served.admin.done(KEYS, {"subject": "shop", "role": "reader"}, key="once")["token"])

    with ThreadPoolExecutor(8) as pool:
        tokens = [token for token in pool.map(ask, range(8)) if token]
    assert len(tokens) == 1
    assert len(served.control.keys(subject="shop")) == 1
    assert served.stranger(tokens[0]).get(f"{MAIN}/balances", account="users:alice").is_success


def test_another_request_under_the_same_key_is_a_conflict(here: Served) -> None:
    first = here.admin.done(KEYS, {"subject": "shop", "role": "reader"}, key="once")
    other = here.admin.post(KEYS, {"subject": "shop", "role": "writer"}, key="once")

    assert code(other) == (409, "idempotency_conflict")
    assert first["id"] in other.json()["detail"]
    assert len(here.control.keys(subject="shop")) == 1


def test_a_late_repeat_is_answered_though_the_key_has_expired_since(here: Served) -> None:
    body = {"subject": "shop", "role": "reader", "expires": add_seconds(here.service.clock(), 0.3)}
    made = here.admin.done(KEYS, body, key="once")
    while here.service.clock() <= made["expires"]:
        pass
    assert here.admin.done(KEYS, body, key="once")["id"] == made["id"]
    assert here.admin.post(KEYS, body, key="other").status_code == 422


def test_the_same_idempotency_key_of_two_callers_makes_two_keys(here: Served) -> None:
    body = {"subject": "shop", "role": "reader"}
    made = [caller.done(KEYS, body, key="once")["id"] for caller in (here.admin, here.caller(role="admin"))]
    assert made[0] != made[1]


def test_a_mandate_is_kept_with_its_amounts_as_digits(here: Served) -> None:
    mandate = {"ledger": "main", "account": "users:alice", "asset": USD, "max_per_act": "500", "payees": ["shops:*"]}
    scopes = [{"verb": "post", "ledger": "main", "account_prefix": "users:alice"}]
    made = here.admin.done(KEYS, {"subject": "agent", "scopes": scopes, "mandate": mandate})

    assert made["mandate"] == {**mandate, "max_per_day": None, "expires": ""}
    found = here.control.key(made["id"])
    assert found is not None
    assert found.mandate == Mandate("main", "users:alice", USD, 500, None, ("shops:*",))


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""},
        {"subject": "local"},
        {"subject": "a" * 101},
        {"role": "king"},
        {"scopes": [{"verb": "rule"}]},
        {"scopes": [READ_USERS] * 101},
        {"expires": "2020-01-01T00:00:00Z"},
        {"expires": "soon"},
        {"requests_per_second": -1},
        {"signer": "did:key:nobody"},
        {"mandate": {"ledger": "main", "account": "users:alice", "asset": USD}},
        {"colour": "red"},
    ],
)
def test_what_cannot_be_a_key_is_refused(here: Served, change: dict[str, Any]) -> None:
    before = len(here.control.keys())
    answer = here.admin.post(KEYS, {"subject": "shop", "role": "admin", **change})
    assert answer.status_code in (400, 422), answer.text
    assert len(here.control.keys()) == before


# ---------------------------------------------------------------- keys are ended


def test_a_revoked_key_is_refused_at_once(served: Served) -> None:
    made = served.admin.done(KEYS, {"subject": "shop", "role": "reader"})
    caller = served.stranger(made["token"])
    assert caller.get(f"{MAIN}/balances", account="users:alice").is_success

    revoked = served.admin.done(f"{KEYS}/{made['id']}/revoke", {})
    assert revoked["revoked"]
    assert caller.get(f"{MAIN}/balances", account="users:alice").status_code == 401
    again = served.admin.post(f"{KEYS}/{made['id']}/revoke", {})
    assert (again.json(), again.headers["idempotency-replayed"]) == (revoked, "true")


def test_a_rotated_key_goes_on_beside_the_new_one_for_a_while(served: Served) -> None:
    made = served.admin.done(KEYS, {"subject": "shop", "scopes": [READ_USERS]})
    place = f"{KEYS}/{made['id']}/rotate"
    new = served.admin.done(place, {"keep_seconds": 600}, key="once")
    again = served.admin.done(place, {"keep_seconds": 600}, key="once")

    for token in (made["token"], new["token"]):
        assert served.stranger(token).get(f"{MAIN}/balances", account="users:alice").is_success
    assert again == {**new, "token": ""}
    assert (new["subject"], new["scopes"]) == (made["subject"], made["scopes"])
    assert len(served.control.keys(subject="shop")) == 2
    assert served.admin.get(f"{KEYS}/{made['id']}").json()["expires"] == add_seconds(new["created"], 600)
    served.admin.done(f"{KEYS}/{new['id']}/rotate", {"keep_seconds": 0})
    assert served.stranger(new["token"]).get(f"{MAIN}/balances", account="users:alice").status_code == 401


def test_one_idempotency_key_rotates_one_key(here: Served) -> None:
    first, second = (here.admin.done(KEYS, {"subject": "shop", "role": "reader"}) for _ in range(2))
    here.admin.done(f"{KEYS}/{first['id']}/rotate", {}, key="once")
    answer = here.admin.post(f"{KEYS}/{second['id']}/rotate", {}, key="once")
    assert code(answer) == (409, "idempotency_conflict")
    assert here.control.key(second["id"]).expires == ""  # type: ignore[union-attr]


def test_a_rotation_that_was_interrupted_is_brought_to_its_end_by_its_repeat() -> None:
    """The new key was kept, and the process died before the old one was given its end."""

    class Dies(MemoryControl):
        dead = False

        def replace_key(self, key: Any) -> None:
            if self.dead:
                raise ConnectionResetError
            super().replace_key(key)

    control = Dies()
    keyring = Keyring(control)
    _, old = keyring.create("shop", role="reader")
    control.dead = True
    with pytest.raises(ConnectionResetError):
        keyring.rotate(old.id, keep_seconds=10, new_id="a" * 12)
    control.dead = False
    token, new = keyring.rotate(old.id, keep_seconds=10, new_id="a" * 12)
    assert (token, new.id, len(control.keys())) == ("", "a" * 12, 2)
    assert control.key(old.id).expires == add_seconds(new.created, 10)  # type: ignore[union-attr]


@pytest.mark.parametrize("id", ["a", "A" * 12, "a" * 13, "a-" * 6])
def test_an_id_that_no_key_can_have_makes_none(id: str) -> None:
    with pytest.raises(InvalidInput):
        Keyring(MemoryControl()).create("shop", role="reader", id=id)


# ---------------------------------------------------------------- nobody gives away more than he has


@pytest.fixture
def tenant(here: Served) -> Caller:
    """Who may make keys for the ledger main, and reads and posts there."""
    verbs = ("keys", "read", "post")
    return here.caller(subject="tenant", scopes=tuple(Scope(verb, "main") for verb in verbs), requests_per_second=50)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "reader"},
        {"role": "admin"},
        {"scopes": [{"verb": "read"}]},
        {"scopes": [{"verb": "read", "ledger": "other"}]},
        {"scopes": [{"verb": "issue", "ledger": "main"}]},
        {"scopes": [READ_USERS, {"verb": "audit", "ledger": "main"}]},
        {"scopes": []},
        {"subject": "admin"},
        {"subject": "tenant2"},
        {"requests_per_second": 51},
        {"requests_per_second": 0},
    ],
)
def test_who_makes_keys_gives_no_more_than_he_has(here: Served, tenant: Caller, change: dict[str, Any]) -> None:
    body = {"subject": "tenant:desk", "scopes": [READ_USERS], "requests_per_second": 50}
    assert tenant.post(KEYS, body).status_code == 201
    assert tenant.post(KEYS, {**body, "subject": "tenant"}).status_code == 201
    answer = tenant.post(KEYS, {**body, **change})
    assert code(answer) == (403, "forbidden")


def test_a_key_that_ends_makes_none_that_outlives_it(here: Served) -> None:
    ends = add_seconds(here.service.clock(), 3_600)
    caller = here.caller(role="admin", expires=ends)
    assert caller.post(KEYS, {"subject": "shop", "role": "reader", "expires": ends}).status_code == 201
    for later in ({}, {"expires": add_seconds(ends, 1)}):
        assert code(caller.post(KEYS, {"subject": "shop", "role": "reader", **later})) == (403, "forbidden")
    eternal = here.admin.done(KEYS, {"subject": "shop", "role": "reader"})
    assert code(caller.post(f"{KEYS}/{eternal['id']}/rotate", {})) == (403, "forbidden")


def test_keys_that_reach_further_look_like_none(here: Served, tenant: Caller) -> None:
    own = tenant.done(KEYS, {"subject": "tenant:desk", "scopes": [READ_USERS], "requests_per_second": 1})
    scopes = (Scope("read", "main"), Scope("read", "other"))
    wider = here.service.keyring.create("wider", scopes=scopes)[1].id
    nothing = here.service.keyring.create("nothing", role="public")[1].id

    for id in (wider, nothing, "a" * 12, "x"):
        missing = tenant.get(f"{KEYS}/{id}")
        assert missing.status_code == 404
        assert missing.json()["detail"] == f"there is no key {id}"
        assert tenant.post(f"{KEYS}/{id}/revoke", {}).status_code == 404
        assert tenant.post(f"{KEYS}/{id}/rotate", {}).status_code == 404
    listed = [key["id"] for key in tenant.get(KEYS).json()["items"]]
    assert own["id"] in listed
    assert not {wider, nothing} & set(listed)
    assert tenant.post(f"{KEYS}/{own['id']}/revoke", {}).is_success


def test_another_subjects_key_may_be_ended_and_not_taken_over(here: Served, tenant: Caller) -> None:
    """Rotating it would give the tenant a token that speaks as somebody else."""
    other = here.service.keyring.create("other", scopes=(Scope("read", "main"),), requests_per_second=1)[1].id
    assert code(tenant.post(f"{KEYS}/{other}/rotate", {})) == (403, "forbidden")
    assert tenant.post(f"{KEYS}/{other}/revoke", {}).is_success


def test_keys_are_for_those_with_the_verb_alone(here: Served) -> None:
    for role in ("writer", "reader", "auditor"):
        caller = here.caller(role=role)
        assert caller.get(KEYS).status_code == 403
        assert caller.post(KEYS, {"subject": "shop", "role": "reader"}).status_code == 403
    assert here.stranger().get(KEYS).status_code == 401


def test_keys_are_listed_page_by_page_with_their_filter(here: Served, tenant: Caller) -> None:
    made = {
        tenant.done(KEYS, {"subject": f"tenant:{number % 2}", "scopes": [READ_USERS], "requests_per_second": 1})["id"]
        for number in range(10)
    }
    for number in range(10):
        here.service.keyring.create(f"hidden{number}", role="admin")

    def listed(caller: Caller, **query: Any) -> list[str]:
        seen, more = [], {}
        while True:
            page = caller.get(KEYS, limit=3, **(more or query)).json()
            assert len(page["items"]) <= 3
            seen += [key["id"] for key in page["items"]]
            if not page["cursor"]:
                return seen
            more = {"cursor": page["cursor"]}

    ids = listed(tenant)
    assert ids == sorted(ids)
    assert made < set(ids)
    assert len(ids) == len(set(ids)) == 11, "ten, and its own"
    assert len(listed(tenant, subject="tenant:1")) == 5
    assert len(listed(here.admin)) == len(here.control.keys())


def test_the_default_rate_is_no_more_than_a_tenant_may_give() -> None:
    with serving("memory://", Settings(requests_per_second=40)) as here:
        scopes = (Scope("keys", "main"), Scope("read", "main"))
        tenant = here.caller(subject="tenant", scopes=scopes)
        body = {"subject": "tenant:desk", "scopes": [READ_USERS]}
        assert tenant.post(KEYS, body).status_code == 201
        assert tenant.post(KEYS, {**body, "requests_per_second": 40}).status_code == 201
        assert tenant.post(KEYS, {**body, "requests_per_second": 41}).status_code == 403


# ---------------------------------------------------------------- jobs


def test_the_last_run_of_each_job_is_shown_to_who_may_audit_its_ledger(here: Served) -> None:
    for job, ledger in (("expiry", "main"), ("expiry", "other"), ("pruning", "*")):
        for started in ("2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"):
            here.control.keep_run(JobRun(job=job, ledger=ledger, started=started, outcome="done", holder="me"))

    def seen(caller: Caller, **query: Any) -> list[tuple[str, str]]:
        return [(run["job"], run["ledger"]) for run in caller.get("/v1/jobs", **query).json()["items"]]

    assert seen(here.admin) == [("expiry", "main"), ("expiry", "other"), ("pruning", "*")]
    assert seen(here.admin, job="pruning") == [("pruning", "*")]
    assert seen(here.caller(scopes=(Scope("audit", "main"),))) == [("expiry", "main")]
    assert seen(here.caller(scopes=(Scope("audit", "main", "users:"),))) == []
    assert here.caller(role="reader").get("/v1/jobs").status_code == 403
    assert here.admin.get("/v1/jobs").json()["items"][0]["started"].startswith("2026-01-02")
    first = here.admin.get("/v1/jobs", limit=2).json()
    second = here.admin.get("/v1/jobs", limit=2, cursor=first["cursor"]).json()
    assert [len(first["items"]), len(second["items"]), second["cursor"]] == [2, 1, ""]


def test_leases_are_shown_to_who_may_audit_everything(here: Served) -> None:
    for name in ("job:expiry:main", "job:snapshots:main", "deliver:ep_1"):
        here.control.acquire(name, "me", 60)
    first = here.admin.get("/v1/jobs/leases", limit=2).json()
    second = here.admin.get("/v1/jobs/leases", limit=2, cursor=first["cursor"]).json()
    names = [lease["name"] for page in (first, second) for lease in page["items"]]
    assert [name for name in names if name != "keys"] == ["deliver:ep_1", "job:expiry:main", "job:snapshots:main"]
    assert here.caller(scopes=(Scope("audit", "main"),)).get("/v1/jobs/leases").status_code == 403


# ---------------------------------------------------------------- reports


def test_a_ledger_is_reconciled_when_it_is_asked_for(served: Served) -> None:
    made = served.admin.done(REPORTS, None)

    assert made["ok"] is True
    assert made["report"]["head"] == {"seq": served.ledger.head.seq, "hash": served.ledger.head.hash}
    assert served.admin.get(f"{REPORTS}/{made['id']}").json() == made
    assert served.admin.get(f"{REPORTS}/latest").json() == made


def test_a_reconciliation_that_was_asked_for_twice_is_done_once(here: Served) -> None:
    first = here.admin.post(REPORTS, key="once")
    again = here.admin.post(REPORTS, key="once")
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert here.admin.done(REPORTS, None)["id"] != first.json()["id"]
    assert here.caller(role="auditor").done(REPORTS, None, key="once")["id"] != first.json()["id"]
    assert len(here.control.reports()) == 3


def test_two_reconciliations_of_a_ledger_are_not_done_at_once(here: Served) -> None:
    """The runner of the nightly one has the same lease."""
    lease = here.control.acquire("job:reconciliation:main", "the runner", 60)
    assert lease is not None
    answer = here.admin.post(REPORTS)
    assert code(answer) == (409, "reconciliation_under_way")
    assert (answer.json()["retryable"], answer.headers["retry-after"]) == (True, "5")
    assert here.control.reports() == []
    here.control.release(lease)
    assert here.admin.post(REPORTS).status_code == 201


def test_reports_are_listed_newest_first(here: Served) -> None:
    ids = [here.admin.done(REPORTS, None)["id"] for _ in range(5)]
    here.control.keep_report("other", here.service.clock(), True, {})
    seen, more = [], {}
    while True:
        page = here.admin.get(REPORTS, limit=2, **more).json()
        seen += [report["id"] for report in page["items"]]
        if not page["cursor"]:
            break
        more = {"cursor": page["cursor"]}
    assert seen == ids[::-1]


def test_reports_are_for_those_who_may_audit_the_whole_ledger(here: Served) -> None:
    other = here.control.keep_report("other", here.service.clock(), True, {})
    here.admin.done(REPORTS, None)
    for scope in (Scope("read", "main"), Scope("audit", "main", "users:")):
        caller = here.caller(scopes=(scope,))
        for place in (REPORTS, f"{REPORTS}/latest", f"{REPORTS}/1"):
            assert caller.get(place).status_code == 403
        assert caller.post(REPORTS).status_code == 403
    assert code(here.admin.get(f"{REPORTS}/{other}")) == (404, "not_found")
    assert code(here.admin.get(f"{REPORTS}/99")) == (404, "not_found")


def test_before_the_first_report_there_is_no_latest(here: Served) -> None:
    assert code(here.admin.get(f"{REPORTS}/latest")) == (404, "not_found")
