"""The OpenAPI document (3.1): made of the table of operations, so that it says what the service does.

Schemas are those of the types that requests are decoded with, so what the document allows is what is accepted, but for
what only the ledger can judge: those are the problems of 422 and 409.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from tallystick import __version__
from tallystick.erasable import MAX_ERASABLE
from tallystick.kernel.texts import MAX_KEY
from tallystick.service.operations import Group, Operation
from tallystick.service.problems import TITLES
from tallystick.wire.fields import Address, LedgerName
from tallystick.wire.problems import MEDIA_TYPE, Problem

_REF = "#/components/schemas/{name}"

_SEQ = {"type": "string", "pattern": "^(?:0|[1-9][0-9]{0,17})$", "examples": ["12"]}
_PATHS: dict[str, dict[str, Any]] = {
    "ledger": msgspec.json.schema(LedgerName),
    "account": msgspec.json.schema(Address),
}
"""The schemas of what stands in paths; what is not here is a sequence number."""

_TEXTS = {"key", "endpoint", "name", "member", "batch", "id"}
"""Names in paths that are ids of their own, and no sequence numbers."""

KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "A key of this request's own, unique for this API key. The same request under the same key gives the"
    " same answer for ever; another request under it is a conflict.",
    "schema": {"type": "string", "maxLength": MAX_KEY, "pattern": "^[!-~](?:[ -~]*[!-~])?$"},
}

_ALWAYS = (400, 401, 403, 422, 429, 500, 503)
_OF_PATHS = (404,)
_OF_BODIES = (408, 413, 415)
_OF_ACTS = (404, 409, 412, 413)

_DESCRIPTION = """
A double-entry ledger whose every movement is written once, chained, and can be checked by strangers.

Amounts are whole minor units, as strings of digits. Every write bears an `Idempotency-Key`: repeat a request that got
no answer with the same key, and it is carried out once. A refusal changes nothing and does not use up the key. Errors
are problem documents (RFC 9457) with a stable `code`; `retryable` says whether the same request may go through later.
""".strip()


def document(groups: tuple[Group, ...], *, url: str = "/") -> dict[str, Any]:
    """The whole document, as plain data."""
    operations = [operation for group in groups for operation in group.operations]
    schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallystick",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "tags": [{"name": group.name} for group in groups if group.operations],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`tsk_...`), or a token of an issuer that the service trusts.",
                }
            },
            "responses": {f"Problem{status}": _problem(status, schemas) for status in sorted(TITLES)},
        },
    }


class _Schemas:
    """The schemas of all types, by type: where each is referred to."""

    def __init__(self, types: list[Any]) -> None:
        found, components = msgspec.json.schema_components(types, ref_template=_REF)
        self.components = {name: _in_markdown(schema) for name, schema in components.items()}
        if "Erasable" in self.components:
            text = self.components["Erasable"]["properties"]["erasable"]
            text.update(minLength=1, maxLength=MAX_ERASABLE)
        self._refs = dict(zip(map(repr, types), found, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type."""
        return self._refs[repr(kind)]


def _schemas(operations: list[Operation]) -> _Schemas:
    types: dict[str, Any] = {repr(Problem): Problem}
    for operation in operations:
        for kind in (operation.body, operation.answer, operation.query):
            if kind is not None:
                types[repr(kind)] = kind
    return _Schemas(list(types.values()))


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.group],
        "summary": operation.summary.replace("``", "`"),
        "description": _description(operation),
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, schemas),
    }
    if operation.verb is None:
        found["security"] = []
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(operation.body)}
        if operation.example is not None:
            content["example"] = operation.example
        found["requestBody"] = {"required": True, "content": {operation.request_type: content}}
    return found


def _description(operation: Operation) -> str:
    needs = f"Needs the verb `{operation.verb}`." if operation.verb else "Needs no key."
    return f"{operation.description}\n\n{needs}".strip().replace("``", "`")


def _in_markdown(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with the docstring of its type as the document's own text has it."""
    if "description" not in schema:
        return schema
    return {**schema, "description": inspect.cleandoc(schema["description"]).replace("``", "`")}


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": path_schema(name)} for name in operation.parameters
    ]
    query = schemas.components.get(schemas.of(operation.query)["$ref"].rpartition("/")[2], {})
    examples = operation.example if operation.body is None and isinstance(operation.example, dict) else {}
    for name, schema in query.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": name in query.get("required", ()), "schema": schema}
        if name in examples:
            parameter["example"] = examples[name]
        found.append(parameter)
    return [*found, KEY_HEADER] if operation.writes else found


def path_schema(name: str) -> dict[str, Any]:
    """The schema of a name in a path."""
    if name in _PATHS:
        return _PATHS[name]
    return {"type": "string", "minLength": 1, "maxLength": 128} if name in _TEXTS else _SEQ


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}}}
    if operation.writes:
        headers["Idempotency-Replayed"] = {
            "description": "`true` if this is the answer of an earlier request under the same key.",
            "schema": {"type": "string", "const": "true"},
        }
    content = {"schema": schemas.of(operation.answer)} if operation.answer is not None else {}
    if operation.answer_example is not None:
        content["example"] = operation.answer_example
    answer = {"description": "Done.", "headers": headers, "content": {operation.media_type: content}}
    return {
        str(operation.status): answer,
        **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in problems_of(operation)},
    }


def problems_of(operation: Operation) -> tuple[int, ...]:
    """The statuses with which an operation may be refused."""
    found = set(_ALWAYS)
    if operation.verb is None:
        found -= {403}
    if operation.parameters or operation.in_ledger:
        found.update(_OF_PATHS)
    if operation.body is not None:
        found.update(_OF_BODIES)
    if operation.writes:
        found.update(_OF_ACTS)
    return tuple(sorted(found))


def _problem(status: int, schemas: _Schemas) -> dict[str, Any]:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    return {"description": TITLES[status], "headers": headers, "content": {MEDIA_TYPE: {"schema": schemas.of(Problem)}}}
