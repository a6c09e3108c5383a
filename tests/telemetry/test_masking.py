"""No token, secret or body ever stands in a log, wherever it was put: values, exceptions, libraries' records."""

from __future__ import annotations

import base64
import logging
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tallystick.control.records import ApiKey, Endpoint
from tallystick.telemetry import logs
from tallystick.telemetry.masking import MASK, is_secret_field, masked, masked_text
from tests.telemetry.conftest import Written

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
WORD = st.text(ALPHABET, min_size=20, max_size=43)
URLSAFE = st.text(ALPHABET + "_-", min_size=43, max_size=43)
BASE64 = st.binary(min_size=24, max_size=64).map(lambda raw: base64.b64encode(raw).decode())
ID = st.text(ALPHABET, min_size=12, max_size=12)
PLAIN_WORD = st.text("ghijklmnopq ", max_size=12)

Secret = tuple[str, str]
"""(the text that holds it, what must not be seen)."""

SECRETS: st.SearchStrategy[Secret] = st.one_of(
    st.tuples(ID, URLSAFE).map(lambda made: (f"tsk_{made[0]}_{made[1]}", made[1])),
    BASE64.map(lambda made: (f"whsec_{made}", made)),
    BASE64.map(lambda made: (f"whsk_{made}", made)),
    WORD.map(lambda made: (f"Authorization: Bearer {made}", made)),
    WORD.map(lambda made: (f"authorization: basic {made}", made)),
    WORD.map(lambda made: (f"Authorization: Digest username=tally, response={made}", made)),
    WORD.map(lambda made: (f"Cookie: a=b; session={made}", made)),
    WORD.map(lambda made: (f"curl -H 'X-Auth: basic {made}'", made)),
    WORD.map(lambda made: (f"amqp://tally:{made}:/@'#?{made}@db.example/books", made)),
    WORD.map(lambda made: (f"eyJhbGciOiJFZERTQSJ9.{made}.{made}", made)),
    WORD.map(lambda made: (f"postgresql://tally:{made}@db.example:5432/books", made)),
    WORD.map(lambda made: (f"host=db user=tally password={made} dbname=books", made)),
    WORD.map(lambda made: (f"password='{made} and {made}'", made)),
    WORD.map(lambda made: (f'{{"client_secret": "{made}"}}', made)),
    WORD.map(lambda made: (f"GET /v1/balances?access_token={made}&limit=1", made)),
    WORD.map(lambda made: (f"-----BEGIN PRIVATE KEY-----\n{made}\n-----END PRIVATE KEY-----", made)),
)

quietly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Holder(Struct):
    """A value of a type that logging knows nothing of."""

    held: Any


class Plain:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<Plain {self.text}>"


WRAPPERS = (
    lambda value: value,
    lambda value: [value],
    lambda value: {"deep": {"deeper": [1, (value,)]}},
    lambda value: {value: "as a name"},
    lambda value: frozenset({value}),
    Holder,
    Plain,
    lambda value: [Holder({"inner": [value]})],
    ValueError,
    lambda value: [[value, value], {"a": Plain(value)}],
)


@quietly
@given(SECRETS, PLAIN_WORD, PLAIN_WORD, st.sampled_from(WRAPPERS))
def test_no_secret_is_seen_wherever_it_was_put(
    written: Written, secret: Secret, before: str, after: str, wrap: Any
) -> None:
    text, hidden = secret
    whole = f"{before} {text} {after}"
    logs.logger().info(whole, value=wrap(whole), again=wrap(text))
    logging.getLogger("library").warning("%s and %r", wrap(whole), wrap(text))
    assert hidden not in written.getvalue()
    written.truncate(0)
    written.seek(0)


@quietly
@given(SECRETS)
def test_no_secret_is_seen_in_an_exceptions_text(written: Written, secret: Secret) -> None:
    text, hidden = secret
    try:
        try:
            raise KeyError(text)
        except KeyError as cause:
            raise ExceptionGroup(text, [ValueError(text), OSError(5, text)]) from cause
    except ExceptionGroup as error:
        error.add_note(text)
        logs.logger().exception("failed", problem=error)
        logging.getLogger("library").exception("failed: %s", error)
        logging.getLogger("library").error("failed", exc_info=error, stack_info=True)
    assert hidden not in written.getvalue()
    written.truncate(0)
    written.seek(0)


SECRET_NAMES = (
    "password", "Authorization", "X-Api-Key", "client_secret", "cookie", "secrets", "token", "body", "webhook_secret",
    "db.password", "SET-COOKIE", "payload", "access_token", "secret_hash",
)  # fmt: skip


@quietly
@given(WORD, st.sampled_from(SECRET_NAMES))
def test_what_stands_under_a_secret_name_is_masked_whatever_it_is(written: Written, value: str, name: str) -> None:
    assert is_secret_field(name)
    logs.logger().info("x", **{name: value})
    logs.logger().info("x", headers={name: [value], "nested": {name: {"a": value}}})
    logs.logger().info("x", headers=[(name, value), (name.encode(), value.encode())])
    assert value not in written.getvalue()
    assert MASK in written.getvalue()
    written.truncate(0)
    written.seek(0)


def test_warnings_are_masked_too(written: Written) -> None:
    warnings.warn("postgresql://tally:hidden@db is old", stacklevel=1)
    assert "hidden" not in written.getvalue()
    assert "tally:***@db" in written.getvalue()


def test_the_operators_records_show_no_secret() -> None:
    secrets = ("whsec_" + "QUJD" * 8, "whsk_" + "REVG" * 8)
    endpoint = Endpoint(id="e1", ledger="main", url="https://user:hidden@example.com/x", secrets=secrets)
    shown = str(masked(endpoint))
    assert "QUJD" not in shown
    assert "REVG" not in shown
    assert "hidden" not in shown
    assert "example.com" in shown
    key = ApiKey(id="abcdefghijkl", secret_hash="0123456789abcdef" * 4, subject="billing")
    assert "0123456789abcdef" not in str(masked(key))


def test_what_identifies_a_key_stays() -> None:
    assert masked_text("tsk_abcdefghijkl_" + "s" * 43) == "tsk_abcdefghijkl_***"
    assert masked_text("Bearer tsk_abcdefghijkl_" + "s" * 43) == "Bearer ***"
    assert masked_text("tsk_short") == "tsk_***"


@pytest.mark.parametrize(
    "text",
    [
        "main/12345", "users:alice", "https://example.com/hooks?kind=a", "2026-01-01T00:00:00.000000Z", "did:key:z6Mk",
        "insufficient_funds", "key=invoice-7", "a basic question", "", "whpk_QUJD", "the bearer of news",
        "mail billing@example.com at 10:30", "basic questions",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert masked_text(text) == text


@pytest.mark.parametrize("name", ["key", "idempotency_key", "keys_version", "somebody", "status", "tokenizer", "pad"])
def test_names_of_no_secrets_are_none(name: str) -> None:
    assert not is_secret_field(name)
    assert masked({name: "value"}) == {name: "value"}


@given(SECRETS, PLAIN_WORD)
def test_masking_twice_changes_nothing(secret: Secret, before: str) -> None:
    once = masked_text(f"{before} {secret[0]}")
    assert masked_text(once) == once


@given(st.text("abcghklmnopqrstuvwxyzABCGHKLM0123456789 _./-@#{}\n\t"))
def test_a_text_without_a_mark_stays(text: str) -> None:
    assume("---" not in text)
    assume("tsk_" not in text)
    assert masked_text(text) == text
