"""The OpenAPI document tells the truth: what it allows is taken, what it forbids is refused, and what is answered is
what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import (
    ChecksConfig,
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)

from tallystick.service.openapi import document
from tallystick.service.routes import GROUPS, OPERATIONS
from tallystick.service.settings import Settings
from tests.support.service import Served, serving

EXAMPLES = 6
"""Beside these come some dozens of cases that go through every bound of every field."""
MANY_EXAMPLES = 300

APART = [operation.id for operation in OPERATIONS if operation.kind == "stream" and operation.verb is not None]
"""What is sent piece by piece has tests of its own."""

JUDGED = ["2xx", "401", "404", "409", "412", "422"]
"""What may become of a request that is as the document wants it: the ledger alone knows the rest. Never 400."""

REFUSED = ["400", "401", "404", "405", "409", "413", "415", "422"]
"""What may become of one that is not; never 2xx."""


COMMON = {"conditions", "metadata"}
"""Fields that every command has; tried with some of them, unless there is more time."""
WITH_COMMON = {"TransferRequest", "CaptureRequest", "OpenAccountRequest"}


def _document(*, thorough: bool) -> dict[str, Any]:
    found = document(GROUPS)
    if not thorough:
        for name, schema in found["components"]["schemas"].items():
            if name not in WITH_COMMON and "conditions" in schema.get("properties", {}):
                schema["properties"] = {key: of for key, of in schema["properties"].items() if key not in COMMON}
    return found


def _schema(*, thorough: bool) -> Any:
    project = ProjectConfig(
        checks=ChecksConfig.from_dict(
            {
                "positive_data_acceptance": {"expected-statuses": JUDGED},
                "negative_data_rejection": {"expected-statuses": REFUSED},
            }
        ),
        generation=GenerationConfig(deterministic=True, allow_x00=True),
        phases=PhasesConfig(coverage=CoveragePhaseConfig(unexpected_methods=None if thorough else {"PUT"})),
    )
    config = SchemathesisConfig(projects=ProjectsConfig(default=project))
    return schemathesis.openapi.from_dict(_document(thorough=thorough), config=config).exclude(operation_id=APART)


SOME = _schema(thorough=False)
ALL = _schema(thorough=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """One service for all operations."""
    limits = Settings(unknown_tokens_per_second=0, public_requests_per_second=1_000_000, access_log=False)
    with serving("memory://", limits) as found:
        yield found


@pytest.fixture
def lenient(shared: Served) -> Iterator[Served]:
    """The service, whose rules are afterwards what they were."""
    yield shared
    shared.ledger.set_policy({"strict": False}, key=f"lenient {shared.ledger.head.seq}")


def _check(case: Any, served: Served) -> None:
    if case.meta.generation.mode.is_positive:
        case.body = _with_whole_numbers(case.body)
        if case.query:
            case.query.pop("cursor", None)  # only the service itself writes one
    case.call_and_validate(base_url=served.base, headers={"Authorization": f"Bearer {served.admin.token}"})


def _with_whole_numbers(value: Any) -> Any:
    """To JSON Schema 2.0 is an integer; the service takes no number with a point, whatever stands behind it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    return [_with_whole_numbers(item) for item in value] if isinstance(value, list) else value


def _many(examples: int) -> Any:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@SOME.parametrize()
@_many(EXAMPLES)
def test_every_operation_does_what_the_document_says(case: Any, lenient: Served) -> None:
    _check(case, lenient)


@pytest.mark.soak
@ALL.parametrize()
@_many(MANY_EXAMPLES)
def test_every_operation_does_so_however_often_it_is_tried(case: Any, lenient: Served) -> None:
    _check(case, lenient)


# ---------------------------------------------------------------- what a refusal says


PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "1"}


@pytest.mark.parametrize(
    ("path", "body", "place", "words"),
    [
        ("transfers", {**PAY, "colour": "red"}, "colour", "there is no such field; there are from_account, to_a"),
        ("transfers", {"asset": "USD/2"}, "from_account", "it is missing"),
        ("transfers", {**PAY, "asset": "usd"}, "asset", "it is not an asset such as USD/2"),
        ("transfers", {**PAY, "asset": "USD/2\n"}, "asset", "it is not an asset such as USD/2"),
        ("transfers", {**PAY, "from_account": "a b"}, "from_account", "it is not an address such as users:alice"),
        ("transfers", {**PAY, "from_account": "did:x"}, "from_account", "it is not an address such as users:alice"),
        ("transfers", {**PAY, "from_account": "a" * 256}, "from_account", "it has at most 255 characters"),
        ("transfers", {**PAY, "amount": "0"}, "amount", "it is not a whole number of minor units, 1 to"),
        ("transfers", {**PAY, "amount": str(2**63)}, "amount", "it is not a whole number of minor units, 1 to"),
        ("transfers", {**PAY, "amount": "1\n"}, "amount", "it is not a whole number of minor units, 1 to"),
        ("transfers", {**PAY, "refs": {"ordr": "7"}}, "refs", "one of its names is not one of escrow, trial"),
        ("transfers", {**PAY, "metadata": {"": "7"}}, "metadata", "one of its names is not a name of 1 to 64"),
        ("transfers", {**PAY, "metadata": {f"n{n}": "" for n in range(65)}}, "metadata", "it has at most 64 entries"),
        ("transfers", {**PAY, "conditions": [{"account": "a", "colour": 1}]}, "conditions[0].colour", "there are acc"),
        ("transactions", {"type": "transfer", "legs": [PAY] * 101}, "legs", "it has at most 100 items"),
        ("policy", {"changes": {"strikt": True}}, "changes.strikt", "there is no such field; there are strict, limit"),
        ("periods/close", {"until": "yesterday"}, "until", "it is not a time such as 2026-11-21T09:00:00Z"),
    ],
)
def test_a_refusal_says_where_and_what_it_should_have_been(
    shared: Served, path: str, body: dict[str, Any], place: str, words: str
) -> None:
    answer = shared.admin.post(f"/v1/ledgers/main/{path}", body)

    assert (answer.status_code, answer.json()["path"]) == (400, place)
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "place", "words"),
    [
        ({"account": "users:alice", "as_of": "now"}, "as_of", "a time such as"),
        ({"account": "users:alice", "colour": "red"}, "colour", "there are account, asset, bucket"),
        ({}, "account", "it is missing"),
    ],
)
def test_a_refused_query_says_so_too(shared: Served, query: dict[str, str], place: str, words: str) -> None:
    answer = shared.admin.get("/v1/ledgers/main/balances", **query)

    assert (answer.status_code, answer.json()["path"]) == (400, place)
    assert words in answer.json()["detail"]


def test_limits_are_taken_and_what_lies_beyond_is_not(shared: Served) -> None:
    """Both sides of what the schemas bound."""
    largest = {**PAY, "amount": str(2**63 - 1)}
    assert shared.admin.post("/v1/ledgers/main/transfers", largest).status_code == 422
    notes = {f"n{n}": "x" * 1_024 for n in range(60)}
    at, over = {**PAY, "metadata": notes}, {**PAY, "metadata": {**notes, "n0": "x" * 1_025}}
    assert shared.admin.post("/v1/ledgers/main/transfers?dry_run=true", at).is_success
    assert shared.admin.post("/v1/ledgers/main/transfers?dry_run=true", over).status_code == 400


def test_what_only_the_ledger_knows_is_not_called_malformed(shared: Served) -> None:
    """The thirtieth of February has the form of a day, and a period cannot end in the future."""
    place = "/v1/ledgers/main/periods/close"
    assert shared.admin.post(place, {"until": "2026-02-30"}).status_code == 422
    assert shared.admin.post(place, {"until": "9999-01-01"}).status_code == 422


def test_every_method_of_a_path_is_named(shared: Served) -> None:
    answer = shared.admin.http.request("OPTIONS", "/v1/ledgers/main/holds")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, OPTIONS, POST")
