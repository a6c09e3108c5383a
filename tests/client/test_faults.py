"""Networks that fail, servers that are none: what was sent is carried out once, and the token stays where it is."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tallystick.client import AsyncClient, BadAnswer, Client, ClientError, NotAnswered, Retry, ServiceError
from tallystick.client.refusals import UnknownFault, UnknownRefusal
from tallystick.errors import Fault, InsufficientFunds, InvalidInput, RateLimited, Refusal, Unavailable
from tests.client.support import (
    ONCE,
    POSTED,
    TOKEN,
    Asker,
    CuttingProxy,
    Script,
    closed_port,
    json,
    problem,
    silent_server,
    took,
)
from tests.support.service import Served

URL = "http://ledger.example"
ALICE, BOB, USD = "users:alice", "users:bob", "USD/2"
DONE = httpx2.Response(201, content=POSTED)


def pay(client: Any, **notes: Any) -> Any:
    return client.ledger("main").transfer(ALICE, BOB, USD, 1250, **notes)


def error_of(asker: Asker, handler: Any, use: Any = pay, url: str = URL, **more: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        asker.ask(url, TOKEN, use, handler, **more)
    return caught.value


# ---------------------------------------------------------------- once


@pytest.mark.parametrize("after", [0, 1, 60, 300])
def test_a_connection_that_is_cut_before_its_answer_is_whole_posts_once(here: Served, asker: Asker, after: int) -> None:
    with CuttingProxy(here.base, cuts=2, after=after) as proxy:
        posted = asker.ask(proxy.url, here.admin.token, pay)
    assert posted.replayed is True
    assert here.ledger.head.seq == 4  # opened, two mints, and one transfer
    assert proxy.left == -1


def test_a_new_key_is_made_before_the_first_try_and_kept_for_every_other(asker: Asker) -> None:
    script = Script(httpx2.ReadError("cut"), httpx2.ConnectError("gone"), httpx2.Response(503), DONE)
    asker.ask(URL, TOKEN, pay, script)
    assert len(script.keys) == 4
    assert len(set(script.keys)) == 1
    other = Script(DONE)
    asker.ask(URL, TOKEN, pay, other)
    assert set(other.keys).isdisjoint(script.keys)


def test_the_key_of_a_request_that_came_to_nothing_is_on_its_error_and_asks_again(here: Served, asker: Asker) -> None:
    with CuttingProxy(here.base, cuts=1) as proxy:
        with pytest.raises(NotAnswered) as caught:
            asker.ask(proxy.url, here.admin.token, pay, retry=ONCE)
        lost = caught.value
        again = asker.ask(proxy.url, here.admin.token, lambda client: pay(client, key=lost.key))
    assert again.replayed is True
    assert here.ledger.head.seq == 4


def test_a_key_that_was_given_is_the_key(asker: Asker) -> None:
    script = Script(httpx2.Response(502), DONE)
    asker.ask(URL, TOKEN, lambda client: pay(client, key="order-7"), script)
    assert script.keys == ["order-7", "order-7"]


# ---------------------------------------------------------------- silence and garbage


def test_a_server_that_says_nothing_is_left_after_the_timeout(asker: Asker) -> None:
    with silent_server() as url:
        seconds = took(lambda: error_of(asker, None, url=url, timeout=0.1, retry=Retry(tries=2, first_seconds=0.0)))
        error = error_of(asker, None, url=url, timeout=0.05, retry=Retry(tries=2, first_seconds=0.0))
    assert isinstance(error, NotAnswered)
    assert isinstance(error, Unavailable)
    assert error.tries == 2
    assert error.retryable
    assert error.key
    assert 0.2 <= seconds < 10


def test_where_nobody_listens_nothing_was_carried_out_and_it_is_told(asker: Asker) -> None:
    error = error_of(asker, None, url=closed_port(), retry=ONCE)
    assert "no connection could be made" in str(error)
    assert error.request == "POST /v1/ledgers/main/transfers"


GARBAGE = [b"", b"<html>login</html>", b"\xff\xfe", b"[" * 100_000, b'{"id": 3}', b"null", b'{"id": "main/3"']


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:10]))
def test_garbage_is_no_answer(asker: Asker, body: bytes) -> None:
    script = Script(httpx2.Response(200, content=body))
    error = error_of(asker, script)
    assert isinstance(error, BadAnswer)
    assert (len(script.requests), error.status, error.key) == (1, 200, script.keys[0])
    assert "html" not in str(error)


@pytest.mark.parametrize(("status", "kind"), [(400, UnknownRefusal), (403, UnknownRefusal), (500, UnknownFault)])
def test_a_status_without_a_problem_document_is_an_error_of_its_own(asker: Asker, status: int, kind: Any) -> None:
    error = error_of(asker, Script(httpx2.Response(status, content=b"<html>secret</html>")))
    assert isinstance(error, kind)
    assert (error.code, error.status) == (f"http_{status}", status)
    assert "secret" not in str(error)


def test_an_answer_that_is_packed_or_has_no_end_is_none(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = error_of(asker, Script(httpx2.Response(200, headers={"content-encoding": "gzip"})), retry=ONCE)
    assert isinstance(packed, NotAnswered)
    monkeypatch.setattr("tallystick.client.sending.MAX_ANSWER_BYTES", len(POSTED))
    asker.ask(URL, TOKEN, pay, Script(DONE))
    large = error_of(asker, Script(httpx2.Response(201, content=POSTED + b" ")), retry=ONCE)
    assert "has more than" in str(large)


# ---------------------------------------------------------------- the token


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://thief.example/", "https://ledger.example/", "/elsewhere"])
def test_a_redirect_is_never_followed(asker: Asker, status: int, place: str) -> None:
    for use in (pay, lambda client: client.ledger("main").balances(ALICE)):
        script = Script(httpx2.Response(status, headers={"location": place}), DONE)
        error = error_of(asker, script, use)
        assert isinstance(error, BadAnswer)
        assert [str(request.url.host) for request in script.requests] == ["ledger.example"]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


FAILURES = [
    httpx2.ConnectError("refused"),
    httpx2.ReadTimeout("slow"),
    httpx2.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'"),
    httpx2.Response(200, content=b"<html>"),
    httpx2.Response(302),
    httpx2.Response(500, content=f"you sent {TOKEN}".encode()),
    json(422, problem(422, "insufficient_funds")),
    json(401, problem(401, "unauthenticated")),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda found: type(found).__name__)
def test_the_token_is_in_no_error_nor_in_what_the_error_came_of(asker: Asker, failure: Any) -> None:
    error = error_of(asker, Script(failure), retry=ONCE)
    for found in chain(error):
        assert not isinstance(found, httpx2.HTTPError), "it knows the request, with its headers"
        assert TOKEN not in f"{found!r} {found} {vars(found)}"
    assert TOKEN not in "".join(traceback.format_exception(error))
    assert TOKEN.encode() not in pickle.dumps(error)


def test_the_token_is_in_no_representation() -> None:
    shown = []
    client, other = Client(URL, TOKEN), AsyncClient(URL, TOKEN)
    for found in (client, other):
        ledger = found.ledger("main")
        shown += [repr(found), repr(ledger), repr(found._sender.settings), repr(found._sender.http.headers)]
        shown += [repr(ledger.accounts()), repr(ledger.transfer)]
    client.close()
    assert TOKEN not in " ".join(shown)
    with pytest.raises(InvalidInput) as caught:
        Client(URL, f"{TOKEN}\r\nx: y")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ledger.example",
        "ftp://ledger.example",
        "https://",
        "https://me:pass@ledger.example",
        "https://ledger.example?a=b",
        "https://ledger.example#a",
        "https://ledger.example:99999",
        "https://[::1",
    ],
)
def test_a_url_that_is_none_or_bears_a_secret_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Client(url, TOKEN)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("key", [" a", "a ", "a\nb", "ä", "x" * 256])
def test_a_key_that_no_header_can_have_is_refused_before_anything_is_sent(asker: Asker, key: str) -> None:
    script = Script(DONE)
    with pytest.raises(InvalidInput):
        asker.ask(URL, TOKEN, lambda client: pay(client, key=key), script)
    assert script.requests == []
    asker.ask(URL, TOKEN, lambda client: pay(client, key="x" * 255), script)


@pytest.mark.parametrize("amount", [12.5, "1250", True, 2**63, -(2**63)])
def test_an_amount_that_is_no_whole_number_of_minor_units_is_refused(asker: Asker, amount: Any) -> None:
    script = Script(DONE)
    with pytest.raises(InvalidInput):
        asker.ask(URL, TOKEN, lambda client: client.ledger("main").mint(ALICE, USD, amount), script)
    assert script.requests == []


# ---------------------------------------------------------------- what errors know


def test_a_problem_is_the_librarys_error_with_all_that_it_knows(asker: Asker) -> None:
    data = {"account": ALICE, "balance": "1000", "self": "1", "problem": "2"}
    told = problem(422, "insufficient_funds", path="amount", needed="1250 USD/2", found="1000 USD/2", data=data)
    error = error_of(asker, Script(json(422, told)))
    assert isinstance(error, InsufficientFunds)
    assert isinstance(error, ServiceError)
    assert isinstance(error, Refusal)
    assert str(error) == "it is insufficient_funds"
    assert (error.code, error.status, error.request_id) == ("insufficient_funds", 422, "r-1")
    assert (error.path, error.needed, error.found) == ("amount", "1250 USD/2", "1000 USD/2")
    assert (error.data, error.retryable, error.tries) == (data, False, 1)
    assert error.key


def test_a_code_that_is_not_known_here_is_a_refusal_or_a_fault(asker: Asker) -> None:
    refusal = error_of(asker, Script(json(422, problem(422, "of_tomorrow"))))
    fault = error_of(asker, Script(json(503, problem(503, "of_tomorrow", retryable=True))))
    assert (type(refusal), refusal.code, refusal.retryable) == (UnknownRefusal, "of_tomorrow", False)
    assert (type(fault), fault.code, fault.retryable) == (UnknownFault, "of_tomorrow", True)
    assert isinstance(fault, Fault)


def test_the_wait_that_a_limit_asks_for_is_known(asker: Asker) -> None:
    limited = json(429, problem(429, "rate_limited", retryable=True, retry_after_seconds=90), retry_after="90")
    error = error_of(asker, Script(limited))
    assert isinstance(error, RateLimited)
    assert isinstance(error, ServiceError)
    assert (error.retry_after_seconds, error.tries) == (90, 1)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda found: type(found).__name__)
def test_an_error_can_be_pickled_and_copied(asker: Asker, failure: Any) -> None:
    error = error_of(asker, Script(failure), retry=ONCE)
    for found in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(found) is type(error)
        assert (str(found), vars(found)) == (str(error), vars(error))
