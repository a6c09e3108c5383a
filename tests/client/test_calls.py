"""Every call, made by both clients of a service that really listens: they answer the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tallystick.client import ServiceError, minor, refusal_of
from tallystick.commands import Condition, Hold, Leg, Split, Transfer
from tallystick.erasable import Erasable
from tallystick.errors import ConditionFailed, InsufficientFunds, NotFound
from tallystick.service.settings import Settings
from tallystick.wire.cells import BalanceUpdateRequest, ReserveRequest
from tallystick.wire.operators import ScopeRequest
from tests.client.support import Asker, Async, Session, Sync
from tests.client.test_operations import calls
from tests.support.service import Served, serving

ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"
NOW = "2026-03-01T12:00:00.000000Z"
ESCROW, ROUND = {"escrow": "escrow-1"}, {"round": "round-1"}
PROMISE = {"commitment": "promise-1"}
TO_BOB = Leg(ALICE, BOB, USD, 5)

UPDATE = BalanceUpdateRequest("members:cem", -5, "SPOT_TRANSACTION_PAYER")

Step = tuple[Any, ...]


def call(name: str, /, *args: Any, refused: str = "", **named: Any) -> Step:
    """A call that is made, and the code that it is refused with."""
    return name, args, named, refused


STORY: list[Step] = [
    call("L.transfer", ALICE, BOB, USD, 1250, reason="lunch", refs={"order": "order-7"}, metadata={"note": "x"}),
    call("L.transfer", ALICE, BOB, USD, 1250, dry_run=True),
    call("L.transfer", ALICE, BOB, USD, 10**9, refused="insufficient_funds"),
    call("L.transact", "transfer", [TO_BOB, Leg(ALICE, "users:carol", USD, 7)], reason=Erasable("private")),
    call("L.reverse", "main/3", 50, reason="refund"),
    call("L.reverse", 10**6, refused="transaction_not_found"),
    call("L.hold", ALICE, USD, 500, expires_in_seconds=3600, key="hold"),
    call("L.top_up", "main/6", 100),
    call("L.extend", 6, expires_in_seconds=7200),
    call("L.capture", "main/6", [Split(BOB, 100), Split("users:carol")], key="capture"),
    call("L.billing_event", "main/6"),
    call("L.finalize_charge", "main/9"),
    call("L.hold", ALICE, USD, 40),
    call("L.release", "main/11"),
    call("L.expire", "main/11", refused="hold_not_open"),
    call("L.get_hold", "main/6"),
    call("L.holds", ALICE, state="captured"),
    call("L.stake_lock", ALICE, USD, 300, refs=ESCROW),
    call("L.stake_release", "main/13", 100, refs=ESCROW),
    call("L.stake_slash", "main/13", BOB, 50, reason="late", refs=ESCROW),
    call("L.get_stake", 13),
    call("L.stakes"),
    call("L.bet_stake", ALICE, USD, 50, refs=ROUND),
    call("L.bet_settle", "main/16", 0, house="house:main", refs=ROUND),
    call("L.bet_stake", ALICE, USD, 60, refs=ROUND),
    call("L.bet_rollback", "main/18", refs=ROUND),
    call("L.get_bet", "main/16"),
    call("L.bets", ALICE),
    call("L.open_account", "members:ben", limits={"CREDIT/2": 2_000}, owner="did:web:ben.example"),
    call("L.set_policy", {"commitment_mode": "SOFT"}),
    call("L.commitment_create", "members:ben", "CREDIT/2", 100, refs=PROMISE),
    call("L.commitment_fulfil", "members:ben", "CREDIT/2", 40, refs=PROMISE),
    call("L.commitment_cancel", "members:ben", "CREDIT/2", refs=PROMISE),
    call("L.commitments"),
    call("L.mint", ALICE, USD, 100, effective="2026-02-28T00:00:00Z"),
    call("L.burn", ALICE, USD, 10),
    call("L.deposit", ALICE, USD, 5000, rail="bank", refs={"external_ref": "bank-1"}),
    call("L.withdraw", ALICE, USD, 50, refs={"external_ref": "bank-2"}),
    call("L.fee", ALICE, USD, 25),
    call("L.fee_transfer", BOB, USD, 5, refs=ESCROW),
    call("L.fee_burn", USD, 5, refs=ESCROW),
    call("L.promo_mint", ALICE, USD, 200),
    call("L.promo_burn", ALICE, USD, 20),
    call("L.bonus", BOB, USD, 10, from_account=ALICE),
    call("L.freeze", BOB, reason="fraud"),
    call("L.transfer", BOB, ALICE, USD, 1, refused="account_frozen"),
    call("L.unfreeze", BOB),
    call("L.set_limit", "members:ben", "CREDIT/2", 2_500),
    call("L.exclude", "members:ben"),
    call("L.open_account", "shops:old"),
    call("L.close_account", "shops:old"),
    call("L.define_asset", "POINT/0", name="points"),
    call("L.define_type", "rent", requires=["external_ref"], summary="a tenant pays"),
    call("L.record_reserve", "bank:main", USD, 1_000_000, haircut_bps=500, provider="bank"),
    call("L.close_period", "2026-01-01T00:00:00Z"),
    call("L.post_many", [Transfer(key="", from_account=ALICE, to_account=BOB, asset=USD, amount=1)] * 2, key="batch"),
    call("L.post_many", [Hold(key="k", account=ALICE, asset=USD, amount=10**9)], atomic=True, refused="batch_aborted"),
    call("L.stream", [{"command": "transfer", "from_account": ALICE, "to_account": BOB, "asset": USD, "amount": "1"}]),
    call("L.standing"),
    call("L.balances", ALICE, asset=USD, bucket="available", as_of="2026-03-01T00:00:00Z"),
    call("L.available", ALICE, USD),
    call("L.trial_balance"),
    call("L.entries", ALICE, asset=USD, start="2026-01-01T00:00:00Z", end="2027-01-01T00:00:00Z", limit=3),
    call("L.accounts", "users:", limit=1),
    call("L.account", ALICE),
    call("L.account", "users:nobody", refused="not_found"),
    call("L.transaction", "main/3"),
    call("L.transaction", 10**6, refused="not_found"),
    call("L.find", reference="order", value="order-7"),
    call("L.find", key="hold"),
    call("L.events", types=["transfer", "hold"], after=2, limit=2),
    call("L.follow", after=-1, most=5),
    call("L.event_bytes", "main/3"),
    call("L.receipt", 3, refused="log_not_found"),
    call("L.log", refused="not_found"),
    call("L.prove_inclusion", 3, refused="not_found"),
    call("L.prove_consistency", 1, new=2, refused="not_found"),
    call("L.checkpoints", refused="not_found"),
    call("L.latest_checkpoint", refused="not_found"),
    call("L.checkpoint_note", refused="not_found"),
    call("L.verify", "not a receipt", keys=[], refused="invalid_input"),
    call("L.erase", transaction="main/4"),
    call("L.reports"),
    call("L.latest_report", refused="not_found"),
    call("L.reconcile"),
    call("L.report", 1),
    call("L.create_endpoint", "http://127.0.0.1:9/hook", types=["transfer"], key="endpoint"),
    call("L.endpoints"),
    call("L.endpoint", "?endpoint"),
    call("L.change_endpoint", "?endpoint", state="disabled"),
    call("L.enable_endpoint", "?endpoint"),
    call("L.rotate_secret", "?endpoint"),
    call("L.ping_endpoint", "?endpoint"),
    call("L.redeliver", "?endpoint", id="main/3"),
    call("L.deliveries", "?endpoint"),
    call("L.attempts", "?endpoint"),
    call("L.remove_endpoint", "?endpoint"),
    call("L.add_member", "members:cem", limit=1_000),
    call("L.member", "members:cem"),
    call("L.members"),
    call("L.can_spend", "members:cem", 5),
    call("L.set_member_limit", "members:cem", 600),
    call("L.freeze_member", "members:cem", note="late"),
    call("L.unfreeze_member", "members:cem"),
    call("L.update_reserve", ReserveRequest("members:cem", 50, "COMMITMENT_CREATE", "promise-2")),
    call("L.update_balances", [UPDATE], refused="cell_conservation_violation"),
    call("L.remove_member", "members:cem", refused="account_not_empty"),
    call("L.cell"),
    call("L.check_cell"),
    call("L.open_clearing_account", "north"),
    call("L.clearing_accounts"),
    call("L.settle", ALICE, "@clearing:north", USD, 5, netting_batch="batch-1"),
    call("L.netting_batch", "batch-1"),
    call("L.reserves"),
    call("L.coverage", asset=USD),
    call("C.ledgers"),
    call("C.create_ledger", "cell-north", policy={"commitment_mode": "SOFT"}),
    call("C.create_key", "shop", scopes=[ScopeRequest("read", "main", "users:")], key="new"),
    call("C.keys", subject="shop"),
    call("C.get_key", "?key"),
    call("C.rotate_key", "?key", keep_seconds=0),
    call("C.revoke_key", "?key"),
    call("C.jobs"),
    call("C.leases"),
    call("C.health"),
    call("C.ready"),
    call("C.metrics"),
    call("C.openapi"),
    call("C.billing_extension"),
]


def told(session: Session) -> list[Any]:
    """What becomes of the story: each answer, or the code of its refusal."""
    found: list[Any] = []
    ids = {"?endpoint": "", "?key": ""}
    for index, (name, args, named, refused) in enumerate(STORY):
        more = dict(named)
        most = more.pop("most", None)
        if name[2:] in WRITES:
            more.setdefault("key", f"story-{index}")
        given = [ids.get(arg, arg) if isinstance(arg, str) else arg for arg in args]
        try:
            answer = session.ask(use_of(name, given, more), most)
        except ServiceError as error:
            answer, code = (error.code, error.status, error.path), error.code
        else:
            code = ""
        assert code == refused, (name, answer)
        if name in ("L.create_endpoint", "C.create_key"):
            ids["?endpoint" if name.startswith("L") else "?key"] = answer.id
        found.append((name, msgspec.to_builtins(answer)))
    return found


WRITES = {name.partition(".")[2] for name, found in calls().items() if found.target.method != "GET"}


def use_of(name: str, args: list[Any], named: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda client: getattr(client.ledger("main") if name[0] == "L" else client, name[2:])(*args, **named)


SETTINGS = Settings(allow_private=True)
OWN = re.compile(r"[A-Za-z0-9_+/=\-]{20,}|\b[a-z0-9]{12}\b")
"""Ids and secrets, which are another service's own."""


@pytest.fixture(scope="module")
def stories() -> list[list[Any]]:
    """The story as each client tells it, to a service of its own whose clock stands still."""
    found = []
    for asker in (Sync(), Async()):
        with (
            serving("memory://", SETTINGS, clock=lambda: NOW) as served,
            asker.session(served.base, served.admin.token) as session,
        ):
            found.append(told(session))
    return found


def test_both_clients_answer_the_same(stories: list[list[Any]]) -> None:
    for one, other in zip(*stories, strict=True):
        if one[0] in ("C.metrics", "C.leases", "L.reconcile", "L.report", "L.reports", "L.latest_report"):
            assert type(one[1]) is type(other[1])
            continue
        assert OWN.sub("", repr(one)) == OWN.sub("", repr(other))


def test_the_story_makes_every_call(stories: list[list[Any]]) -> None:
    made = {("LedgerCalls." if name[0] == "L" else "ServiceCalls.") + name[2:] for name, _ in stories[0]}
    assert set(calls()) - made == set()


def test_amounts_are_strings_in_answers_and_integers_by_minor(here: Served, asker: Asker) -> None:
    found = asker.ask(here.base, here.admin.token, lambda client: client.ledger("main").balances(ALICE))
    assert found.balances[0].amount == "100000"
    assert minor(found.balances[0].amount) == here.ledger.balance(ALICE, USD) == 100_000


def test_a_condition_is_judged_with_the_posting_and_a_failure_is_the_callers(here: Served, asker: Asker) -> None:
    def use(client: Any, version: int) -> Any:
        held = Condition(ALICE, USD, version=version, at_least=5)
        return client.ledger("main").transfer(ALICE, BOB, USD, 1, conditions=[held])

    assert asker.ask(here.base, here.admin.token, lambda client: use(client, 1)).seq == 3
    with pytest.raises(ConditionFailed) as caught:
        asker.ask(here.base, here.admin.token, lambda client: use(client, 1))
    assert caught.value.data["actual"] == "2"


def test_a_refusal_in_a_batch_is_the_same_error_as_alone(here: Served, asker: Asker) -> None:
    command = Transfer(key="", from_account=ALICE, to_account=BOB, asset=USD, amount=10**9)
    found = asker.ask(here.base, here.admin.token, lambda client: client.ledger("main").post_many([command]))
    error = refusal_of(found.results[0])
    assert isinstance(error, InsufficientFunds)
    assert isinstance(error, ServiceError)
    assert error.needed == "1000000000 USD/2 available in available of users:alice"


def test_pages_are_followed_to_their_end_and_can_be_walked_from_a_cursor(here: Served, asker: Asker) -> None:
    for number in range(7):
        here.ledger.transfer(ALICE, BOB, USD, 1, key=f"t{number}")
    token = here.admin.token
    whole = asker.ask(here.base, token, lambda client: client.ledger("main").entries(ALICE, limit=3))
    assert [line.version for line in whole] == list(range(1, 9))
    pages = asker.ask(here.base, token, lambda client: client.ledger("main").entries(ALICE, limit=3).pages())
    assert [len(page.items) for page in pages] == [3, 3, 2]
    cursor = pages[0].cursor
    rest = asker.ask(here.base, token, lambda client: client.ledger("main").entries(ALICE, cursor=cursor, limit=3))
    assert [line.version for line in rest] == list(range(4, 9))


@pytest.mark.parametrize("address", ["..", ".", "a.b", "did:web:x%3A80", "@fees"])
def test_an_odd_address_in_a_path_is_itself(here: Served, asker: Asker, address: str) -> None:
    ask = lambda client: client.ledger("main").available(address, USD)  # noqa: E731
    assert asker.ask(here.base, here.admin.token, ask).account == address


def test_an_id_of_another_ledger_is_refused_before_it_is_asked_for(here: Served, asker: Asker) -> None:
    with pytest.raises(Exception, match="is not in the ledger main"):
        asker.ask(here.base, here.admin.token, lambda client: client.ledger("main").transaction("other/1"))


def test_a_key_that_may_not_see_an_account_is_refused_as_the_service_says(here: Served, asker: Asker) -> None:
    with pytest.raises(NotFound):
        asker.ask(here.base, here.admin.token, lambda client: client.ledger("nowhere").balances(ALICE))
