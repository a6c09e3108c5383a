"""Hostile requests: malformed, ambiguous, huge, slow, or made to be understood in two ways.

None may bring about a posting that was not meant, an error of the service's own, a wait without end, or a leak.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tallystick.service.answering import MAX_QUERY
from tallystick.service.settings import Settings
from tallystick.telemetry import logs
from tests.support.processes import wait_until
from tests.support.service import Caller, Served, serving

MAIN = "/v1/ledgers/main"
PAY = {"from_account": "users:alice", "to_account": "users:bob", "asset": "USD/2", "amount": "7"}
SECONDS = 20
BODY_SECONDS = 0.3


@pytest.fixture(scope="module")
def here() -> Iterator[Served]:
    settings = Settings(
        body_seconds=BODY_SECONDS, public_requests_per_second=0, unknown_tokens_per_second=0, max_body=200_000
    )
    with serving("memory://", settings) as served:
        yield served


@pytest.fixture
def unchanged(here: Served) -> Iterator[Served]:
    """The service; nothing may be posted, and it must still answer afterwards."""
    before = here.ledger.head.seq
    yield here
    assert here.ledger.head.seq == before
    assert here.admin.get("/health").json() == {"status": "alive"}
    wait_until(lambda: here.service.under_way == 0, SECONDS, "the end of all requests")


@contextmanager
def connected(served: Served, seconds: float = SECONDS) -> Iterator[socket.socket]:
    host, port = served.base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as found:
        yield found


def raw(served: Served, request: bytes) -> bytes:
    """Everything that is answered to these bytes, until the service closes the connection."""
    with connected(served) as connection:
        connection.sendall(request)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


def head(
    served: Served,
    *more: bytes,
    method: bytes = b"POST",
    path: bytes = b"/v1/ledgers/main/transfers",
    key: bytes = b"hostile",
    close: bool = True,
) -> bytes:
    """The head of a request of the admin's, which other header lines follow."""
    lines = [
        method + b" " + path + b" HTTP/1.1",
        b"Host: ledger",
        b"Authorization: Bearer " + served.admin.token.encode(),
        b"Content-Type: application/json",
        *([b"Idempotency-Key: " + key] if key else []),
        *([b"Connection: close"] if close else []),
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


BODY = json.dumps(PAY).encode()


# ---------------------------------------------------------------- two readings of one request


@pytest.mark.parametrize(
    "lines",
    [
        (sized(BODY), b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", sized(BODY)),
        (sized(BODY), b"Content-Length: 0"),
        (b"Content-Length: 0", sized(BODY)),
        (b"Content-Length: +%d" % len(BODY),),
        (b"Content-Length: 0x10",),
        (b"Content-Length: -1",),
        (b"Content-Length: 99999999999999999999999",),
        (b"Transfer-Encoding: identity, chunked", sized(BODY)),
        (b"Transfer-Encoding : chunked", sized(BODY)),
        (b"Transfer-Encoding: xchunked", sized(BODY)),
        (sized(BODY), b" folded: line"),
        (sized(BODY), b"no colon"),
        (sized(BODY), b"X-Bad\x00Name: x"),
        (sized(BODY), b"Idempotency-Key: other"),
        (sized(BODY), b"Authorization: Bearer tsk_aaaaaaaaaaaa_" + b"b" * 43),
        (sized(BODY), b"Content-Type: text/plain"),
        (sized(BODY), b"Content-Encoding: gzip", b"Content-Encoding: identity"),
    ],
    ids=lambda found: b" ".join(found).decode("latin-1")[:60].replace("\x00", "0"),
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(unchanged: Served, lines: tuple[bytes, ...]) -> None:
    """What it brings in its body, as another request, is not asked either."""
    answer = raw(unchanged, head(unchanged, *lines) + BODY)
    assert statuses(answer), answer
    assert all(400 <= status < 500 for status in statuses(answer)), answer


def test_a_request_in_the_body_of_another_is_not_asked(unchanged: Served) -> None:
    inner = head(unchanged, sized(BODY), key=b"smuggled") + BODY
    outer = head(unchanged, sized(inner), method=b"GET", path=b"/v1/ledgers/main/balances?account=users:alice", key=b"")
    assert statuses(raw(unchanged, outer + inner)) == [400]
    chunked = b"0\r\n\r\n" + inner
    both = head(unchanged, sized(chunked), b"Transfer-Encoding: chunked") + chunked
    assert statuses(raw(unchanged, both)) == [400]
    assert unchanged.ledger.by_key("smuggled", "admin") is None


def test_pipelined_requests_are_answered_in_their_order(here: Served) -> None:
    asked = [head(here, sized(BODY), key=b"pipe-%d" % number, close=number == 29) + BODY for number in range(30)]
    before = here.ledger.head.seq
    answer = raw(here, b"".join(asked))

    assert statuses(answer) == [201] * 30
    found = [int(seq) for seq in re.findall(rb'"seq":(\d+)', answer)]
    assert found == list(range(before, before + 30))


@pytest.mark.parametrize("cut", [1, len(BODY) // 2, len(BODY)])
def test_a_body_that_breaks_off_is_no_request(unchanged: Served, cut: int) -> None:
    """Not even where what came is a whole document."""
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, b"Content-Length: %d" % (len(BODY) + 1)) + BODY[:cut])
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, b"Transfer-Encoding: chunked") + b"%x\r\n" % len(BODY) + BODY[:cut])
    wait_until(lambda: unchanged.service.under_way == 0, SECONDS, "the end of both requests")


def test_a_protocol_that_is_asked_for_instead_is_not_spoken(unchanged: Served) -> None:
    for protocol in (b"h2c", b"websocket"):
        asked = head(unchanged, b"Connection: Upgrade", b"Upgrade: " + protocol, sized(BODY), close=False) + BODY
        with connected(unchanged) as connection:
            connection.sendall(asked)
            assert statuses(connection.recv(65_536))[0] in (400, 408)
    assert 101 not in statuses(raw(unchanged, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))


# ---------------------------------------------------------------- what is no JSON, or no one JSON


def refused(served: Served, body: bytes, *statuses: int, path: str = f"{MAIN}/transfers") -> Any:
    headers = {"idempotency-key": "hostile", "content-type": "application/json"}
    answer = served.admin.http.post(path, content=body, headers=headers)
    assert answer.status_code in (statuses or (400,)), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()


def with_amount(text: str) -> bytes:
    return json.dumps({**PAY, "amount": "@"}).replace('"@"', text).encode()


@pytest.mark.parametrize(
    "number",
    ["1e400", "-1e400", "1e2", "1.0", "-0", "0", "-7", "9223372036854775808", "9" * 400, "00", "+7", "0x7", ".5",
     "7.", "NaN", "Infinity", "null", "true", "[7]", '{"n":7}', '"\uff11\uff12"', '"\u0667"', '"+7"', '" 7"', '"7 "',
     '"7\\n"', '"7\\u0000"', '"1e2"', '"7.0"', '"-0"', '"-7"', '""', '"9223372036854775808"', '"0x7"', '"7_0"',
     '"' + "9" * 5_000 + '"'],
    ids=range(36),
)  # fmt: skip
def test_what_is_no_amount_is_refused(unchanged: Served, number: str) -> None:
    refused(unchanged, with_amount(number))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        BODY + b"x",
        BODY + BODY,
        BODY[:-1] + b",}",
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        BODY.decode().encode("utf-32-le"),
        BODY.replace(b"users:bob", b"users:\xff"),
        BODY.replace(b"users:bob", b"users:\xc0\xaf"),
        BODY.replace(b"users:bob", b"users:\xed\xa0\x80"),
        BODY.replace(b"users:bob", b"users:\\ud800"),
        BODY.replace(b"users:bob", b"users:bob\\u0000"),
        BODY.replace(b"users:bob", b"users:bob\x00"),
        BODY.replace(b"users:bob", "users:b\u03bfb".encode()),
        BODY.replace(b"users:bob", b"users:../bob"),
        BODY.replace(b"USD/2", b"USD/2\\u0000"),
        b"[" * 10_000 + b"]" * 10_000,
        b'{"metadata":' * 10_000 + b"{}" + b"}" * 10_000,
        BODY[:-1] + b',"metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        b"// x\n" + BODY,
        gzip.compress(BODY),
    ],
    ids=range(26),
)
def test_what_is_no_json_or_no_text_is_refused(unchanged: Served, body: bytes) -> None:
    refused(unchanged, body)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (BODY[:-1] + b', "amount": "9"}', "amount"),
        (BODY[:-1] + b', "to_account":"users:alice"}', "to_account"),
        (BODY[:-1] + b', "am\\u006funt": "9"}', "amount"),
        (BODY[:-1] + b', "refs": {"order": "a", "order": "b"}}', "order"),
        (BODY[:-1] + b', "metadata": {"x": "\\"", "x": "b"}}', "x"),
    ],
)
def test_a_name_that_comes_twice_is_refused(unchanged: Served, body: bytes, path: str) -> None:
    """Who reads the first one and who reads the last would not mean the same posting."""
    problem = refused(unchanged, body)
    assert (problem["path"], problem["detail"]) == (path, f"{path}: it is given twice")


def test_the_same_name_in_two_objects_and_in_texts_is_not_twice(here: Served) -> None:
    leg = {**PAY, "amount": "1"}
    notes = {"a": '"amount":"9","amount":"9"', "amount": "9", "b": "\\", ":c": ":"}
    here.admin.done(f"{MAIN}/transactions", {"type": "transfer", "legs": [leg, leg], "metadata": notes})
    here.admin.done(f"{MAIN}/transfers", {**PAY, "metadata": {"x": "amount", ":y": ":", "amount": ":"}})


@pytest.mark.parametrize("text", ["\u0000", "a\u0000b", "\x07", "\x1b[2J", "\u202e", "\u2028", "😀" * 50])
@pytest.mark.parametrize("field", ["reason", "refs", "metadata"])
def test_odd_characters_are_kept_as_they_are_or_refused(served: Served, field: str, text: str) -> None:
    """On every kind of store: what is posted is what was asked for, to the letter."""
    value: Any = text if field == "reason" else {"order": text} if field == "refs" else {"note": text}
    answer = served.admin.post(f"{MAIN}/transfers", {**PAY, field: value})
    assert answer.status_code in (201, 400, 422), answer.text
    if answer.status_code == 201:
        found = served.admin.get(f"{MAIN}/transactions/{answer.json()['seq']}").json()
        assert (found["refs"] if field == "refs" else found["data"][field]) == value


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json; charset=utf-8", 201),
        ("application/json;charset=UTF-7", 201),  # RFC 8259: there is no such parameter, and JSON is UTF-8
        ("APPLICATION/JSON", 201),
        ("application/json-patch+json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("", 415),
    ],
)
def test_a_body_is_json_or_it_is_not_read(here: Served, kind: str, status: int) -> None:
    headers = {"content-type": kind, "idempotency-key": f"kind-{kind or 'none'}"}
    assert here.admin.http.post(f"{MAIN}/transfers", content=BODY, headers=headers).status_code == status


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x", ""])
def test_a_compressed_body_is_not_unpacked(unchanged: Served, coding: str) -> None:
    bomb = gzip.compress(b" " * 20_000_000 + BODY)
    for body in (bomb, BODY):
        headers = {"content-encoding": coding, "content-type": "application/json", "idempotency-key": "bomb"}
        answer = unchanged.admin.http.post(f"{MAIN}/transfers", content=body, headers=headers)
        assert (answer.status_code, answer.json()["path"]) == (415, "Content-Encoding")


# ---------------------------------------------------------------- paths, queries, headers


@pytest.mark.parametrize(
    "path",
    [
        f"{MAIN}/accounts/users:alice%00",
        f"{MAIN}/accounts/users:alice%2f..%2fusers:bob",
        f"{MAIN}/accounts/..",
        f"{MAIN}/accounts/%2e%2e",
        f"{MAIN}/accounts/%252e%252e",
        f"{MAIN}/accounts/users%253Aalice",
        f"{MAIN}/accounts/%ff%fe",
        f"{MAIN}/accounts/users:al%C0%AFice",
        f"{MAIN}/accounts/" + "a" * 5_000,
        f"{MAIN}/accounts/%0d%0aX-Injected:%20yes",
        f"{MAIN}/accounts/users:%EF%BD%81lice",
        "/v1/ledgers/main%00/accounts",
        "/v1/ledgers/MAIN/accounts",
        "/v1/ledgers/%20main/accounts",
        "/v1/ledgers/main;x=1/accounts",
        "/v1/ledgers/..%2fmain/accounts",
        "/v1/ledgers/*/accounts",
        "/v1/ledgers/%2a/trial-balance",
        f"{MAIN}/transactions/1%00",
        f"{MAIN}/transactions/%EF%BC%91",
        f"{MAIN}/transactions/-1",
        f"{MAIN}/transactions/1e1",
        f"{MAIN}/transactions/9223372036854775808",
        f"{MAIN}/transactions/{'9' * 4_000}",
        f"{MAIN}/holds/1.0",
        f"{MAIN}/events/1/raw/..",
        "/v1/../metrics/x",
    ],
)
def test_a_path_that_names_nothing_finds_nothing(unchanged: Served, path: str) -> None:
    target = path.encode()
    answer = raw(unchanged, head(unchanged, method=b"GET", path=target, key=b""))
    assert statuses(answer)[0] in (400, 404, 422), answer
    assert b"x-injected" not in answer.partition(b"\r\n\r\n")[0].lower()
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"http://elsewhere/health",
        b"//elsewhere/health",
        b"/health/../metrics",
        b"\xff",
        b"/\xffx",
        b"/he alth",
        b"/",
    ],
    ids=repr,
)
def test_odd_targets_reach_nothing_that_needs_a_key(unchanged: Served, target: bytes) -> None:
    answer = raw(unchanged, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(answer)[0] in (200, 400, 401, 404), answer
    assert b"tallystick_" not in answer


@pytest.mark.parametrize(
    "query",
    [
        "dry_run=yes",
        "dry_run=",
        "dry_run",
        "dry_run=true&dry_run=false",
        "dry_run=false;dry_run=true",
        "%64ry_run=false&dry_run=true",
        "DRY_RUN=true",
        "dry_run%00=true",
        "dry_run=true%00",
        "dry_run[]=true",
        "+dry_run=true",
        "dry_run=%C0%80",
        "dry_run=%ff",
        "&",
        "x" * (MAX_QUERY + 1),
        "&".join(f"a{number}=" for number in range(700)),
        "=".join("a" * 1_000),
    ],
    ids=range(17),
)
def test_a_query_that_is_not_exactly_understood_posts_nothing(unchanged: Served, query: str) -> None:
    """A posting that was meant to be tried out only must not happen because of how that was said."""
    answer = raw(unchanged, head(unchanged, sized(BODY), path=f"{MAIN}/transfers?{query}".encode()) + BODY)
    assert statuses(answer) == [400], answer


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"k" * 255, 201),
        (b"with spaces, commas; and = signs", 201),
        (b"' OR 1=1 --", 201),
        (b"../../etc/passwd", 201),
        (b"%00", 201),
        (b"k" * 256, 400),
        (b"", 400),
        (b"   ", 400),
        (b"tab\tkey", 400),
        (b"k\xc3\xa9y", 400),
        (b"\xff", 400),
        (b"nul\x00key", 400),
        (b"line\nkey", 400),
        (b"del\x7fkey", 400),
    ],
    ids=repr,
)
def test_odd_idempotency_keys_are_kept_as_they_are_or_refused(here: Served, key: bytes, status: int) -> None:
    before = here.ledger.head.seq
    asked = head(here, b"Idempotency-Key: " + key, sized(BODY), key=b"") + BODY
    assert statuses(raw(here, asked)) == [status]
    assert here.ledger.head.seq == before + (status == 201)
    if status == 201:
        assert statuses(raw(here, asked)) == [201]
        assert here.ledger.by_key(key.decode(), "admin") is not None
        assert here.ledger.head.seq == before + 1


@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-URL", "X-Rewrite-URL"]
)
def test_headers_do_not_change_what_is_asked(unchanged: Served, name: str) -> None:
    for value in ("POST", "DELETE", f"{MAIN}/transfers"):
        headers = {name: value, "idempotency-key": "override"}
        answer = unchanged.admin.http.get(f"{MAIN}/balances?account=users:alice", headers=headers)
        assert answer.json()["account"] == "users:alice"


@pytest.mark.parametrize("host", ["", "evil.example", "a" * 5_000, "x\tb", "localhost:99999", "@[::1]", "${jndi:x}"])
def test_the_host_that_is_named_changes_nothing_and_is_not_repeated(unchanged: Served, host: str) -> None:
    more = {"host": host, "x-forwarded-host": host, "x-forwarded-for": host, "forwarded": f"host={host}"}
    answer = unchanged.admin.http.get("/v1/nowhere", headers=more)
    assert answer.status_code in (400, 404)
    assert not host or host not in answer.text + str(dict(answer.headers))


@pytest.mark.parametrize("path", [f"{MAIN}/transfers", f"{MAIN}/balances", "/v1/ledgers/nowhere/transfers", "/metrics"])
def test_another_origin_is_given_no_leave(unchanged: Served, path: str) -> None:
    """OPTIONS tells methods, as it does of ledgers that are not there; nothing allows a browser's page to read."""
    headers = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    for answer in (
        unchanged.stranger().http.options(path, headers=headers),
        unchanged.admin.http.options(path, headers=headers),
        unchanged.admin.http.get(path, headers=headers),
    ):
        assert answer.status_code < 500
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "users:" not in answer.text
    here, nowhere = (unchanged.stranger().http.options(f"/v1/ledgers/{name}/transfers") for name in ("main", "nowhere"))
    assert (here.status_code, here.text) == (nowhere.status_code, nowhere.text)


@pytest.mark.parametrize(
    "method", ["TRACE", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE", "CONNECT", "get", "X"]
)
def test_other_methods_do_nothing(unchanged: Served, method: str) -> None:
    for path in (f"{MAIN}/transfers", f"{MAIN}/balances", "/health", "/v1/nowhere"):
        answer = raw(unchanged, head(unchanged, method=method.encode(), path=path.encode()))
        found = statuses(answer)[0]
        assert found in (200, 204, 400, 404, 405), answer
        assert unchanged.admin.token.encode() not in answer


def test_no_answer_is_kept_by_anyone_on_the_way(unchanged: Served) -> None:
    for path in (
        f"{MAIN}/balances?account=users:alice",
        f"{MAIN}/balances",
        "/v1/nowhere",
        "/health",
        f"{MAIN}/transfers",
    ):
        answer = unchanged.admin.http.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"]
        if answer.is_error:
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "given",
    [b"a\tb", b"a b", b"\xff\xfe", b"x" * 101, b"<script>", b'"}', b"%0d%0aX: y", b"${jndi:ldap://x}", b"--", b""],
)
def test_a_request_id_that_is_not_plain_is_replaced(unchanged: Served, given: bytes) -> None:
    for path in (b"/health", b"/v1/nowhere"):
        asked = head(unchanged, b"X-Request-Id: " + given, method=b"GET", path=path, key=b"")
        answer = raw(unchanged, asked)
        found = re.search(rb"(?i)x-request-id: ([^\r]*)\r\n", answer)
        assert found is not None, answer
        assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", found[1]), answer


# ---------------------------------------------------------------- too large, too slow, too many


def test_a_body_that_is_too_large_is_refused_before_it_is_read(unchanged: Served) -> None:
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, b"Content-Length: 100000000000"))
        assert statuses(connection.recv(65_536)) == [413]
    endless = head(unchanged, b"Transfer-Encoding: chunked") + (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 5
    with connected(unchanged) as connection:
        connection.sendall(endless)
        assert statuses(connection.recv(65_536)) == [413]


@pytest.mark.parametrize("first", [b"", b"{", BODY[:-1]])
@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(unchanged: Served, first: bytes, framing: str) -> None:
    """Not its first byte either."""
    piece = first if framing == "sized" else (b"%x\r\n%s\r\n" % (len(first), first) if first else b"")
    line = b"Content-Length: 500" if framing == "sized" else b"Transfer-Encoding: chunked"
    began = time.monotonic()
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, line, close=False) + piece)
        answer = everything(connection)  # until it is closed from there
    assert statuses(answer) == [408]
    assert BODY_SECONDS <= time.monotonic() - began < SECONDS / 2


def test_a_body_that_drips_is_not_waited_for(unchanged: Served) -> None:
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, b"Content-Length: 500", close=False))
        deadline, found = time.monotonic() + SECONDS, b""
        connection.settimeout(0.02)
        while not found and time.monotonic() < deadline:
            connection.sendall(b" ")
            try:
                found = connection.recv(65_536)
            except TimeoutError:
                continue
    assert statuses(found) == [408]


def test_a_slow_batch_gives_its_place_back(unchanged: Served) -> None:
    for _ in range(20):  # more than there are places
        with connected(unchanged) as connection:
            path = b"/v1/ledgers/main/transactions/bulk"
            connection.sendall(head(unchanged, b"Content-Length: 500", path=path, key=b"slow"))
    with connected(unchanged) as connection:
        connection.sendall(head(unchanged, b"Content-Length: 500", path=path, key=b"slow"))
        assert statuses(everything(connection)) == [408]


def test_many_open_connections_leave_the_others_their_turn(unchanged: Served) -> None:
    """400 that say nothing, and 400 that stop within their headers."""
    host, port = unchanged.base.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(400)]
    try:
        for connection in silent[::2]:
            connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
        assert unchanged.admin.get(f"{MAIN}/balances", account="users:alice").status_code == 200
        assert unchanged.service.under_way == 0
    finally:
        for connection in silent:
            connection.close()


def test_requests_beyond_the_limit_are_refused_at_once_and_said_to_be_repeatable() -> None:
    with serving("memory://", Settings(max_requests=3, body_seconds=SECONDS)) as served:
        before = served.ledger.head.seq
        with bodiless(served, 3) as waiting:
            wait_until(lambda: served.service.under_way == 3, SECONDS, "three requests under way")
            answer = served.admin.post(f"{MAIN}/transfers", PAY)
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert answer.headers["retry-after"]
            assert answer.json()["retryable"]
            assert len(waiting) == 3
        wait_until(lambda: served.service.under_way == 0, SECONDS, "the end of those that went away")
        assert served.ledger.head.seq == before
        served.admin.done(f"{MAIN}/transfers", PAY)


@contextmanager
def bodiless(served: Served, count: int) -> Iterator[list[socket.socket]]:
    """So many requests whose bodies do not come."""
    host, port = served.base.removeprefix("http://").split(":")
    found = [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(count)]
    try:
        for connection in found:
            connection.sendall(head(served, b"Content-Length: 9"))
        yield found
    finally:
        for connection in found:
            connection.close()


# ---------------------------------------------------------------- logs


SECRETS = ("S3cret-Reason", "S3cret-Note", "users:bob", "S3cret-Query")


def test_no_log_line_has_a_token_or_a_body_and_nobody_writes_lines_into_it() -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    logs.configure("debug", stream=stream)
    try:
        with serving("memory://", Settings(unknown_tokens_per_second=0, public_requests_per_second=0)) as served:
            tokens = [served.admin.token, served.admin.token[17:], "Zz9Zz9"]
            for caller in (served.admin, served.stranger("tsk_aaaaaaaaaaaa_" + "Zz9" * 14 + "Z"), served.stranger()):
                ask_everything(caller)
    finally:
        root.handlers[:] = handlers
        root.setLevel(before)

    # the client's own loggers, which are in this process too, say what it sends
    lines = [line for line in stream.getvalue().splitlines() if '"logger":"http' not in line]
    assert len([line for line in lines if '"event":"request"' in line]) > 10
    for secret in (*tokens, *SECRETS):
        assert not [line for line in lines if secret in line], secret
    events = [json.loads(line)["event"] for line in lines]
    assert "injected" not in events
    assert "surprise" not in events


def ask_everything(caller: Caller) -> None:
    body = {**PAY, "reason": "S3cret-Reason", "metadata": {"note": "S3cret-Note"}}
    caller.post(f"{MAIN}/transfers", body)
    caller.post(f"{MAIN}/transfers", {**body, "colour": "red"})
    caller.post(f"{MAIN}/transfers", {**body, "amount": "99999999999"})
    caller.post(f"{MAIN}/transactions/bulk", {"commands": [{"command": "transfer", **body}]})
    caller.http.get(f"{MAIN}/balances?account=users:carol&x=S3cret-Query")
    caller.http.get('/v1/ledgers/x%0a{"event":"injected"}/balances?account=users:carol')
    caller.http.get('/v1/nowhere%0d%0a{"event":"injected"}')
    if caller.token:
        headers = {"Authorization": f"Basic {caller.token}"}
        caller.http.get(f"{MAIN}/balances", headers=headers)
        caller.http.get(f"{MAIN}/balances?account=users:carol&token={caller.token}")


def test_what_goes_wrong_within_is_not_told_outside(
    here: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("postgresql://ledger:hunter2@db/ledger")

    monkeypatch.setattr(type(here.service), "balances", fail)
    answer = here.admin.get(f"{MAIN}/balances", account="users:alice")
    assert (answer.status_code, answer.json()["code"]) == (500, "surprise")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert "Traceback" not in answer.text


def test_the_same_key_many_times_at_once_posts_once(here: Served) -> None:
    before = here.ledger.head.seq
    answers: list[int] = []

    def ask() -> None:
        answers.append(here.admin.post(f"{MAIN}/transfers", PAY, key="at-once").status_code)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == [201] * 16
    assert here.ledger.head.seq == before + 1
