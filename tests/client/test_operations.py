"""The client and the service know the same operations, and mean the same by each."""

from __future__ import annotations

import collections
import inspect
from typing import Any

import msgspec
import pytest

from tallystick.client.asking import Call, Dated, Flow, Keyed, Listing, Notes
from tallystick.client.cells import CellNotes
from tallystick.client.clients import AsyncClient, AsyncLedger, Client, Ledger, LedgerCalls, ServiceCalls
from tallystick.service.operations import Operation
from tallystick.service.routes import OPERATIONS

SHORT = "a short form of an operation that the client has; a client names its ledger"
SURFACE = "the same commands in the words of other systems, for their clients; this one speaks the ledger's own"
PAGE = "a part of the page for people's browsers"
TILES = "for the tools of transparency logs, which ask by the log's prefix and need no client"

LEFT_OUT = {
    "get_default_balances": SHORT,
    "transfer_by_default": SHORT,
    "get_buckets": SHORT,
    "transfer_between_buckets": SHORT,
    "create_service_account": SURFACE,
    "get_service_account": SURFACE,
    "get_service_balance": SURFACE,
    "post_service_transaction": SURFACE,
    "get_service_transaction": SURFACE,
    "reverse_service_transaction": SURFACE,
    "list_service_entries": SURFACE,
    "get_docs": PAGE,
    "get_docs_script": PAGE,
    "get_docs_style": PAGE,
    "get_tile": TILES,
    "get_tile_2": TILES,
    "get_tile_3": TILES,
    "get_tile_4": TILES,
}
"""The operations that no call of the client asks for, and why."""

Described = Call[..., Any] | Listing[..., Any] | Flow[..., Any]


def calls() -> dict[str, Described]:
    """Every call of the client, by its name."""
    found: dict[str, Described] = {}
    for kind in (LedgerCalls, ServiceCalls):
        for name, value in inspect.getmembers_static(kind):
            if isinstance(value, (Call, Listing, Flow)):
                found[f"{kind.__name__}.{name}"] = value
    return found


def row(call: Described) -> tuple[str, str]:
    return call.target.method, call.target.path


BY_ROW = {(operation.method, operation.path): operation for operation in OPERATIONS}


def test_every_operation_is_asked_for_by_exactly_one_call_or_is_left_out_for_a_reason() -> None:
    asked = collections.Counter(row(call) for call in calls().values())
    wanted = [(found.method, found.path) for found in OPERATIONS if found.id not in LEFT_OUT]
    assert sorted(set(wanted) - set(asked)) == [], "operations that no call asks for"
    assert [found for found, times in asked.items() if times > 1] == []


def test_no_call_asks_for_what_the_service_does_not_know() -> None:
    assert [name for name, call in calls().items() if row(call) not in BY_ROW] == []


def test_what_is_left_out_is_there_and_is_asked_for_by_no_call() -> None:
    asked = {row(call) for call in calls().values()}
    by_id = {operation.id: operation for operation in OPERATIONS}
    assert set(LEFT_OUT) - set(by_id) == set()
    assert [id for id in LEFT_OUT if (by_id[id].method, by_id[id].path) in asked] == []


@pytest.mark.parametrize("name", sorted(calls()))
def test_a_call_reads_what_its_operation_answers(name: str) -> None:
    call = calls()[name]
    operation = BY_ROW[row(call)]
    if call.target.answer == dict[str, Any]:
        assert operation.answer == dict[str, Any] or operation.group == "Extensions for agents"
    elif call.target.answer in (bytes, str):
        assert operation.answer in (None, str, msgspec.Raw)
    else:
        assert shape(call.target.answer) == shape(operation.answer)


def shape(kind: Any) -> Any:
    """The JSON schema of a type, words apart."""
    return worded(msgspec.json.schema(kind))


def worded(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: worded(value) for name, value in schema.items() if name not in ("description", "title")}
    return [worded(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", sorted(calls()))
def test_a_call_can_say_all_that_its_operation_can_be_told(name: str) -> None:
    call = calls()[name]
    operation = BY_ROW[row(call)]
    parameters = set(inspect.signature(call.make).parameters) - {"self"}
    missing = told(operation) - {RENAMED.get((name, found), found) for found in parameters}
    for notes in (Notes, Dated, Keyed, CellNotes):
        if f"Unpack[{notes.__name__}]" in call.make.__annotations__.values():
            missing -= set(notes.__annotations__)
    assert missing == set()


RENAMED = {
    ("LedgerCalls.entries", "start"): "from",
    ("LedgerCalls.entries", "end"): "to",
}


def told(operation: Operation) -> set[str]:
    """The names of an operation's query and body."""
    kinds = [operation.query]
    if isinstance(operation.body, type) and issubclass(operation.body, msgspec.Struct):
        kinds.append(operation.body)
    return {found.encode_name for kind in kinds for found in msgspec.structs.fields(kind)}


def test_both_clients_have_the_same_calls_with_words_and_signatures() -> None:
    for name, call in calls().items():
        method = name.partition(".")[2]
        assert inspect.getdoc(call), name
        for kind in (Client, AsyncClient) if name.startswith("Service") else (Ledger, AsyncLedger):
            assert getattr(kind, method) is call
    with Client("http://localhost") as client:
        shown = client.ledger("main").transfer
        assert shown.__doc__ == "One account pays another."
        assert list(inspect.signature(shown).parameters)[:2] == ["from_account", "to_account"]
        assert inspect.signature(shown).return_annotation == "PostedAnswer"
