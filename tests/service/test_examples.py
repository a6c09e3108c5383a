"""Every operation's example works: all of them, one after the other, on a ledger that was just made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tallystick.clock import add_seconds, system_clock
from tallystick.evidence.home import LogHome
from tallystick.service.openapi import document, problems_of
from tallystick.service.operations import Operation
from tallystick.service.problems import STATUSES, TITLES
from tallystick.service.routes import GROUPS, OPERATIONS
from tallystick.service.settings import Settings
from tallystick.wire.cells import HOURS
from tests.support.service import Served, serving

MAIN = "/v1/ledgers/main"
DOCUMENT = document(GROUPS)
STREAMS = {"stream_events", "post_stream", "post_bulk", "get_billing_event"}
"""They send their answer piece by piece, and are tried where they are tested; so is a post to a receiver."""
OUTSIDE = {"ping_endpoint"}

TRIED = [operation for operation in OPERATIONS if operation.id not in STREAMS | OUTSIDE]


class Clock:
    """The time, and as much later as a test wants."""

    def __init__(self) -> None:
        self.later = 0

    def __call__(self) -> str:
        return add_seconds(system_clock(), self.later)


class Walk:
    """A service that all examples are asked of, and what they need to be there."""

    def __init__(self, served: Served, clock: Clock, checkpoint: Callable[[], object]) -> None:
        self.served = served
        self.clock = clock
        self.checkpoint = checkpoint
        self.numbers = 0

    def places(self, operation: Operation) -> dict[str, str]:
        """What stands in the path of an operation's example, made for it where it must be."""
        usual = {"ledger": "main", "account": "users:alice", "member": "members:ben", **self._tile()}
        found = {**usual, **self._made(operation)}
        return {name: found[name] for name in operation.parameters}

    def _made(self, operation: Operation) -> dict[str, str]:
        own = getattr(self, f"_for_{operation.id}", None)
        if own is not None:
            return dict(own())
        if set(operation.parameters) & _MAKERS.keys():
            name = next(name for name in operation.parameters if name in _MAKERS)
            return {name: _MAKERS[name](self)}
        return {}

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        self.numbers += 1
        return dict(self.served.admin.done(path, body, key=f"made-{self.numbers}"))

    def hold(self, seconds: int = 3_600) -> str:
        body = {"account": "users:alice", "asset": "USD/2", "amount": "50", "expires_in_seconds": seconds}
        return str(self.post(f"{MAIN}/holds", **body)["seq"])

    def stake(self) -> str:
        body = {"account": "users:alice", "asset": "USD/2", "amount": "300", "refs": {"escrow": "escrow-1"}}
        return str(self.post(f"{MAIN}/stakes", **body)["seq"])

    def bet(self) -> str:
        body = {"account": "users:alice", "asset": "USD/2", "amount": "50", "refs": {"round": "round-1"}}
        return str(self.post(f"{MAIN}/bets", **body)["seq"])

    def transaction(self) -> str:
        body = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "500"}
        return str(self.post(f"{MAIN}/transfers", **body)["seq"])

    def key(self) -> str:
        return str(self.post("/v1/keys", subject="made", role="reader")["id"])

    def endpoint(self) -> str:
        return str(self.post(f"{MAIN}/endpoints", url="https://hooks.example.com/tally")["id"])

    def report(self) -> str:
        return str(self.served.admin.get(f"{MAIN}/reports").json()["items"][0]["id"])

    def _for_finalize_charge(self) -> dict[str, str]:
        place = f"{MAIN}/holds/{self.hold()}/capture"
        return {"transaction": str(self.post(place, splits=[{"to_account": "users:bob"}])["seq"])}

    def _for_expire_hold(self) -> dict[str, str]:
        hold = self.hold(seconds=1)
        self.clock.later += 2
        return {"hold": hold}

    def _for_freeze_account(self) -> dict[str, str]:
        return {"account": "users:bob"}

    _for_unfreeze_account = _for_freeze_account

    def _for_exclude_account(self) -> dict[str, str]:
        self.post(f"{MAIN}/accounts", account="members:ed", limits={"CREDIT/2": "1000"})
        return {"account": "members:ed"}

    def _for_close_account(self) -> dict[str, str]:
        self.post(f"{MAIN}/accounts", account="users:eve")
        return {"account": "users:eve"}

    def _for_remove_member(self) -> dict[str, str]:
        self.post(f"{MAIN}/cell/members", member="members:flo", limit="2000")
        return {"member": "members:flo"}

    def _for_set_limit(self) -> dict[str, str]:
        return {"account": "members:ben"}

    def _for_get_receipt(self) -> dict[str, str]:
        transaction = self.transaction()
        self.checkpoint()
        return {"transaction": transaction}

    def _for_get_netting_batch(self) -> dict[str, str]:
        return {"batch": next(one for one in OPERATIONS if one.id == "settle").example["netting_batch"]}

    def _tile(self) -> dict[str, str]:
        width = self.served.ledger.head.seq
        return {"level": "0", "tile": "000.p", "tile2": str(width), "tile3": "0", "tile4": "0"}

    def _for_get_tile_2(self) -> dict[str, str]:
        self.checkpoint()
        return self._tile()


_MAKERS: dict[str, Callable[[Walk], str]] = {
    "hold": Walk.hold,
    "stake": Walk.stake,
    "bet": Walk.bet,
    "transaction": Walk.transaction,
    "event": lambda walk: "0",
    "key": Walk.key,
    "endpoint": Walk.endpoint,
    "report": Walk.report,
}
NOT_THERE = {"get_tile", "get_tile_3", "get_tile_4"}
"""Tiles that only a ledger of many events has."""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    home, clock = tmp_path_factory.mktemp("walk"), Clock()
    limits = Settings(
        unknown_tokens_per_second=0, public_requests_per_second=1_000_000, log_home=str(home), access_log=False
    )
    with serving("memory://", limits, clock=clock) as served:
        served.ledger.open_account("members:ben", limits={"CREDIT/2": 2_000, HOURS: 2_000}, key="ben")
        log = LogHome(home / "main").begin(served.ledger, "books.example/main")
        log.checkpoint()
        yield Walk(served, clock, log.checkpoint)


def _ask(walk: Walk, operation: Operation) -> httpx2.Response:
    path = operation.path
    for name, value in walk.places(operation).items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    if operation.body is not None:
        return walk.served.admin.send(operation.method, path, operation.example)
    if operation.writes:
        return walk.served.admin.http.request(operation.method, path, headers={"idempotency-key": operation.id})
    return walk.served.admin.get(path, **(operation.example or {}))


def _check(kind: str, operation: Operation, answer: httpx2.Response) -> None:
    """Raises ValidationError for an answer that is not what the document says."""
    responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    content = responses[str(answer.status_code)]["content"][kind]
    if kind == "application/json":
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(answer.json())


def test_all_examples_work_in_the_order_of_the_table(walk: Walk) -> None:
    wrong = []
    for operation in TRIED:
        try:
            answer = _ask(walk, operation)
        except (AssertionError, LookupError) as error:
            wrong.append((operation.id, "it could not be made ready", repr(error)[:300]))
            continue
        expected = 404 if operation.id in NOT_THERE else operation.status
        if answer.status_code != expected:
            wrong.append((operation.id, str(answer.status_code), answer.text[:300]))
        elif expected != 404:
            try:
                _check(operation.media_type, operation, answer)
            except ValidationError as error:
                wrong.append((operation.id, "not its schema", str(error)[:300]))
    assert not wrong, "\n".join(" | ".join(row) for row in wrong)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.body is not None], ids=lambda one: one.id)
def test_an_operation_with_a_body_has_an_example_that_its_schema_allows(operation: Operation) -> None:
    content = DOCUMENT["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]
    media = content[operation.request_type]
    lines = operation.request_type != "application/json" or isinstance(media["example"], str)
    if not lines:
        schema = {**media["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(media["example"])


def test_every_documented_status_can_be_explained() -> None:
    """Each is the status of an error, or one of those that the service itself gives."""
    own = {400, 401, 404, 405, 408, 413, 415, 422, 429, 500, 503}
    known = {*STATUSES.values(), *own}
    for operation in OPERATIONS:
        assert set(problems_of(operation)) <= known & TITLES.keys(), operation.id


def test_the_document_is_openapi_3_1_with_schemas_of_json_schema_2020_12() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert schema.get("description"), name
    ids = [operation.id for operation in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert all(operation.summary for operation in OPERATIONS)
