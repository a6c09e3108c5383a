"""`tally keys`: how the first key is made, and how each one ends."""

from __future__ import annotations

from pathlib import Path

import pytest

import tallystick
from tallystick.access import ROLES, Keyring
from tallystick.cli import keys as command
from tallystick.control import open_control
from tallystick.errors import Unauthenticated
from tests.cli.conftest import Tally
from tests.conftest import NewUrl
from tests.support.stores import LASTING

DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


@pytest.fixture(params=LASTING)
def tally(request: pytest.FixtureRequest, new_url: NewUrl, tmp_path: Path) -> Tally:
    """A place with a ledger and no key."""
    found = Tally(tmp_path, new_url(request.param))
    found("create")
    return found


@pytest.fixture
def on_file(tmp_path: Path) -> Tally:
    found = Tally(tmp_path, str(tmp_path / "ledger.db"))
    found("create")
    return found


def subject_of(tally: Tally, token: str) -> str:
    control = open_control(tally.file, create=False)
    try:
        return Keyring(control).authenticate(token).subject
    finally:
        control.close()


def test_the_first_key_is_made_rotated_and_revoked(tally: Tally) -> None:
    assert tally.json("keys", "list") == []
    made = tally.json("keys", "create", "ops", "--role", "admin")
    assert (made["subject"], made["role"], "secret_hash" in made) == ("ops", "admin", False)
    assert subject_of(tally, made["token"]) == "ops"
    rotated = tally.json("keys", "rotate", made["id"], "--keep", "0")
    assert subject_of(tally, rotated["token"]) == "ops"
    with pytest.raises(Unauthenticated):
        subject_of(tally, made["token"])
    assert tally.json("keys", "revoke", rotated["id"])["revoked"]
    with pytest.raises(Unauthenticated):
        subject_of(tally, rotated["token"])
    assert tally.json("keys", "list") == []
    states = {row["id"]: row["state"] for row in tally.json("keys", "list", "--all")}
    assert states == {made["id"]: "expired", rotated["id"]: "revoked"}


def test_the_secret_is_shown_once_and_lies_in_no_file(on_file: Tally) -> None:
    result = on_file.run("keys", "create", "ops", "--role", "reader")
    token = next(line.split()[1] for line in result.stdout.splitlines() if line.startswith("token"))
    assert "cannot be shown again" in result.stderr
    assert token not in on_file("keys", "list", "--all")
    secret = token[17:].encode()
    for path in on_file.folder.iterdir():
        assert secret not in path.read_bytes()


def test_a_key_with_a_mandate_says_what_it_may_spend(on_file: Tally) -> None:
    words = ["--mandate", "agents:bot", "USD/2", "--per-act", "5", "--per-day", "50.25", "--payee", "shops:*"]
    more = ["--scope", "post:main:agents:bot", "--signer", DID, "--rate", "9", "--expires", "2999-01-01"]
    made = on_file.json("keys", "create", "bot", *words, *more)
    assert made["mandate"] == {
        "ledger": "main",
        "account": "agents:bot",
        "asset": "USD/2",
        "max_per_act": "500",
        "max_per_day": "5025",
        "payees": ["shops:*"],
    }
    shown = on_file("keys", "list")
    for text in ("post:main:agents:bot", "5.00 at once", "50.25 a day", "to shops:*", DID, "9 requests a second"):
        assert text in shown
    minor = on_file.json("keys", "create", "b2", *words, *more, "--minor", "--per-day", "7")["mandate"]
    assert (minor["max_per_act"], minor["max_per_day"]) == ("5", "7")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("sweep", "--role", "admin"), "SUBJECT"),
        (("a", "--scope", "drop"), "--scope"),
        (("a", "--scope", "read:main:users*"), "--scope"),
        (("a", "--role", "root"), "--role"),
        (("a", "--expires", "soon"), "--expires"),
        (("a", "--expires", "2001-01-01"), "--expires"),
        (("a", "--signer", "did:web:x"), "--signer"),
        (("a", "--rate", "1000001"), "--rate"),
        (("a", "--per-day", "5"), "--mandate"),
        (("a", "--role", "admin", "--mandate", "agents:a", "USD/2"), "--mandate"),
        (("a", "--scope", "post", "--mandate", "agents a", "USD/2"), "--mandate"),
        (("a", "--scope", "post", "--mandate", "agents:a", "usd"), "--mandate"),
        (("a", "--scope", "post", "--mandate", "agents:a", "USD/2", "--per-act", "1.001"), "--per-act"),
        (("a", "--scope", "post", "--mandate", "agents:a", "USD/2", "--payee", "a*b"), "--payee"),
    ],
)
def test_what_is_wrong_is_said_by_its_option(on_file: Tally, words: tuple[str, ...], hint: str) -> None:
    result = on_file.run("keys", "create", *words)
    assert result.exit_code == 2
    assert hint in result.stderr
    assert on_file.json("keys", "list", "--all") == []


def test_a_key_that_is_not_there_is_said_so(on_file: Tally) -> None:
    for word in ("rotate", "revoke"):
        assert on_file.refused("keys", word, "nobody")["code"] == "not_found"
    assert not (on_file.folder / "ledger.db-service").exists()  # looking makes nothing


def test_where_there_is_no_ledger_no_key_is_made(tmp_path: Path) -> None:
    nowhere = Tally(tmp_path, str(tmp_path / "mistyped.db"))
    for words in (("create", "ops"), ("list",), ("revoke", "x")):
        assert nowhere.refused("keys", *words, code=3)["code"] == "ledger_not_found"
    assert list(tmp_path.iterdir()) == []


def test_a_key_without_any_scope_is_pointed_out(on_file: Tally) -> None:
    assert "may do nothing" in on_file.run("keys", "create", "ops").stderr


def test_keys_are_made_while_a_ledger_is_written(on_file: Tally) -> None:
    with tallystick.open(on_file.file) as database:
        database.ledger("main").mint("users:a", "USD/2", 1, key="m")
        assert on_file.json("keys", "create", "ops", "--role", "admin")["id"]


def test_the_roles_on_the_command_line_are_those_there_are() -> None:
    assert set(command.ROLES) == set(ROLES)
