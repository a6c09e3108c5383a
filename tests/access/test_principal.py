"""What a principal may do: nothing that was not granted, and no further than the text of a prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.access import ROLES, VERBS, Principal, check_mandate, check_scope, format_scope, parse_scope
from tallystick.access.principal import MAX_PAYEES, role_scopes
from tallystick.control.records import Mandate, Scope
from tallystick.errors import Forbidden, InvalidInput
from tallystick.money import MAX_AMOUNT


def who(*scopes: str, mandate: Mandate | None = None) -> Principal:
    return Principal("acme", tuple(map(parse_scope, scopes)), "k" * 12, mandate)


def test_without_scopes_nothing_is_allowed() -> None:
    nobody = who()
    for verb in VERBS:
        assert not nobody.may(verb, "main")
        assert nobody.prefixes(verb, "main") is None
        assert not nobody.covers(verb, "main", "users:alice")
        with pytest.raises(Forbidden):
            nobody.require(verb, "main")
        with pytest.raises(Forbidden):
            nobody.require_whole(verb, "main")


def test_a_scope_is_for_its_verb_its_ledger_and_its_prefix() -> None:
    tenant = who("read:main:users:alice:", "post:main:users:alice:cash")
    assert tenant.covers("read", "main", "users:alice:cash")
    assert tenant.covers("post", "main", "users:alice:cash")
    assert not tenant.covers("post", "main", "users:alice:safe")
    assert not tenant.covers("issue", "main", "users:alice:cash")
    assert not tenant.may("read", "other")
    assert not tenant.may("read", "mai")
    assert not tenant.may("read", "*")
    tenant.require("read", "main", ["users:alice:cash", "users:alice:safe"])
    with pytest.raises(Forbidden, match="users:bob"):
        tenant.require("read", "main", ["users:alice:cash", "users:bob"])
    with pytest.raises(Forbidden, match="some accounts only"):
        tenant.require_whole("read", "main")


def test_a_prefix_is_an_account_with_all_that_is_beneath_it() -> None:
    alice, beneath = who("read:main:users:alice"), who("read:main:users:alice:")
    for name, covered in (("users:alice", (True, False)), ("users:alice:savings", (True, True))):
        assert (alice.covers("read", "main", name), beneath.covers("read", "main", name)) == covered
    for name in ("users:alice2", "users:alic", "USERS:ALICE", "@users:alice", "users", ""):
        assert not alice.covers("read", "main", name)
        assert not beneath.covers("read", "main", name)


def test_the_star_is_every_ledger_and_no_beginning_of_a_name() -> None:
    everywhere = who("read")
    assert everywhere.may("read", "main")
    assert everywhere.may("read", "*")
    assert who("read:*:users:").prefixes("read", "other") == ("users:",)
    everywhere.require_whole("read", "anything")
    for text in (
        "read:main*",
        "read:*main",
        "read:",
        "read::users:",
        "",
        ":",
        "*",
        "READ",
        "read :main",
        "delete:main",
    ):
        with pytest.raises(InvalidInput):
            parse_scope(text)


@pytest.mark.parametrize("prefix", ["users:*", "*", "users alice", "users/alice", "users:é", "a" * 256, "users:\n"])
def test_a_prefix_that_no_address_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput):
        check_scope(Scope("read", "main", prefix))


def test_the_longest_prefix_is_an_address_long() -> None:
    assert check_scope(Scope("read", "main", "a" * 255)).account_prefix == "a" * 255


def test_prefixes_are_as_few_as_will_do() -> None:
    scopes = ["read:main:users:alice:", "read:main:users:", "read:*:shops:", "read:other:", "read:main:users:alice:x"]
    assert who(*scopes).prefixes("read", "main") == ("shops:", "users:")
    assert who(*scopes, "read:main").prefixes("read", "main") == ("",)
    assert who(*scopes).prefixes("post", "main") is None


def begins(account: str, prefix: str) -> bool:
    """Whether an account begins with all the parts of a prefix, compared part by part."""
    parts, wanted = account.split(":"), prefix.split(":")
    if not prefix:
        return True
    if not wanted[-1]:
        return parts[: len(wanted) - 1] == wanted[:-1] and len(parts) >= len(wanted)
    return parts[: len(wanted)] == wanted


@given(
    st.lists(st.text("ab:", max_size=4), max_size=6),
    st.text("ab:", max_size=6),
)
def test_prefixes_cover_just_what_the_scopes_cover(prefixes: list[str], account: str) -> None:
    found = Principal("x", tuple(Scope("read", "main", prefix) for prefix in prefixes))
    least = found.prefixes("read", "main") or ()
    assert any(begins(account, prefix) for prefix in prefixes) == found.covers("read", "main", account)
    assert any(begins(account, prefix) for prefix in least) == found.covers("read", "main", account)
    assert not any(one != other and begins(one, other) for one in least for other in least)
    assert len(set(least)) == len(least)


def test_roles_are_what_the_manual_says() -> None:
    assert set(ROLES) == {"admin", "writer", "reader", "auditor", "public"}
    assert Principal("x", role_scopes("admin")).may("keys", "*")
    writer = Principal("x", role_scopes("writer"))
    assert [verb for verb in VERBS if writer.may(verb, "main")] == ["read", "post", "issue"]
    assert [verb for verb in VERBS if Principal("x", role_scopes("auditor")).may(verb, "m")] == ["read", "audit"]
    assert role_scopes("public") == ()
    assert role_scopes("root") == ()


def test_scopes_are_written_as_they_are_read() -> None:
    for text in ("read", "read:main", "post:main:users:alice:", "audit:*:did:key:z6Mk", "read:main:@fees"):
        assert format_scope(parse_scope(text)) == text
    assert format_scope(Scope("read", "*", "")) == "read"


def test_a_subject_named_by_an_issuer_is_not_one_of_ours() -> None:
    ours, theirs = Principal("acme", (), "k" * 12), Principal("acme", ())
    assert (ours.actor, ours.source) == ("key:acme", "acme")
    assert (theirs.actor, theirs.source) == ("oidc:acme", "oidc:acme")


def test_nobody_gives_away_more_than_he_has() -> None:
    manager = who("keys:main:users:", "read:main:users:", "post:main")
    manager.require_grant([parse_scope("read:main:users:alice:")])
    manager.require_grant([parse_scope("post:main:users:")])
    for text in ("read:main", "read:*:users:", "issue:main:users:", "post:main", "read:main:user", "keys"):
        with pytest.raises(Forbidden):
            manager.require_grant([parse_scope(text)])
    with pytest.raises(Forbidden):
        who("read:main").require_grant([parse_scope("read:main")])
    held = Mandate("main", "users:a", "USD/2")
    with pytest.raises(Forbidden, match="mandate"):
        who("keys", "read", mandate=held).require_grant([parse_scope("read")])


def mandate(**changes: object) -> Mandate:
    fields: dict[str, object] = {"ledger": "main", "account": "agents:a", "asset": "USD/2", **changes}
    return Mandate(**fields)  # type: ignore[arg-type]


def test_a_mandate_is_checked_whole() -> None:
    whole = mandate(max_per_act=0, max_per_day=MAX_AMOUNT, payees=("shops:*", "@fees", "*"), expires="2027-01-01")
    assert check_mandate(whole).expires == "2027-01-01T00:00:00.000000Z"
    assert len(check_mandate(mandate(payees=("shops:a",) * MAX_PAYEES)).payees) == MAX_PAYEES


@pytest.mark.parametrize(
    "changes",
    [
        {"ledger": "*"},
        {"account": "@issuance"},
        {"account": "@external:bank"},
        {"account": "agents:*"},
        {"account": ""},
        {"asset": "USD/x"},
        {"max_per_act": -1},
        {"max_per_day": MAX_AMOUNT + 1},
        {"max_per_day": True},
        {"payees": ("shops:*:x",)},
        {"payees": ("sh*ops*",)},
        {"payees": ("",)},
        {"payees": ("shops:a",) * (MAX_PAYEES + 1)},
        {"expires": "tomorrow"},
    ],
)
def test_a_mandate_that_cannot_be_kept_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        check_mandate(mandate(**changes))
