"""API keys: shown once, kept as a digest, refused as soon as they end."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from msgspec.structs import replace

from tallystick.access import TOKEN_LENGTH, Keyring, keys, parse_scope
from tallystick.control import ApiKey, Control, Mandate, open_control
from tallystick.errors import InvalidInput, NotFound, Unauthenticated, Unavailable
from tests.access.conftest import Hands
from tests.support.stores import on_lasting_stores

DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
READ = (parse_scope("read:main:users:"),)


def test_a_key_opens_for_its_subject_with_its_scopes(keyring: Keyring) -> None:
    token, key = keyring.create("acme", role="reader", scopes=READ, requests_per_second=7)
    found = keyring.authenticate(token)
    assert (found.subject, found.key_id, found.requests_per_second) == ("acme", key.id, 7)
    assert found.covers("read", "main", "users:alice")
    assert found.may("read", "other")
    assert not found.may("post", "main")


def test_the_secret_is_shown_once_and_never_kept(keyring: Keyring, control: Control) -> None:
    token, key = keyring.create("acme", role="reader")
    assert len(token) == TOKEN_LENGTH == 60
    secret = token.removeprefix(f"tsk_{key.id}_")
    assert len(secret) == 43
    kept = control.key(key.id)
    assert kept == key
    assert kept.secret_hash == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(kept)
    assert secret not in repr(vars(keyring))


def test_no_two_tokens_are_alike(keyring: Keyring) -> None:
    made = [keyring.create("acme", role="reader") for _ in range(50)]
    assert len({token for token, _ in made}) == len({key.id for _, key in made}) == 50


def test_a_token_that_was_tampered_with_is_refused(keyring: Keyring) -> None:
    token, key = keyring.create("acme", role="admin")
    other, _ = keyring.create("eve", role="reader")
    wrong = [
        "",
        "tsk_",
        key.id,
        token[:-1],
        token + "A",
        token + "\n",
        " " + token,
        token.upper(),
        "Bearer " + token,
        "xsk_" + token[4:],
        token[:16] + "-" + token[17:],
        other[:17] + token[17:],
        token[:17] + other[17:],
        token[:17] + "é" * 43,
        token[:17] + "\ud800" * 43,
        f"tsk_{'_' * 12}_{'A' * 43}",
        "tsk_../../../../_" + "A" * 43,
    ]
    wrong += [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(TOKEN_LENGTH)]
    for _ in range(2):  # before the key was met, and after
        for bad in wrong:
            with pytest.raises(Unauthenticated, match="not valid"):
                keyring.authenticate(bad)
        assert keyring.authenticate(token).subject == "acme"


def test_secrets_are_compared_in_constant_time(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    token, _ = keyring.create("acme", role="reader")
    asked: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        asked.append((one, other))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    with pytest.raises(Unauthenticated):
        keyring.authenticate(token)
    assert asked == [(hashlib.sha256(token[17:].encode()).digest(),) * 2]  # nothing else decides


def test_without_any_key_nobody_comes_in(keyring: Keyring) -> None:
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"tsk_{'a' * 12}_{'A' * 43}")


def test_a_key_without_role_or_scopes_may_do_nothing(keyring: Keyring) -> None:
    token, _ = keyring.create("acme")
    assert keyring.authenticate(token).scopes == ()


def test_an_expired_key_is_refused_from_its_very_instant(keyring: Keyring, clock: Hands) -> None:
    token, _ = keyring.create("acme", role="reader", expires="2026-11-21T09:00:10Z")
    clock.forward(9.999_999)
    assert keyring.authenticate(token)
    clock.forward(0.000_001)
    with pytest.raises(Unauthenticated, match="expired"):
        keyring.authenticate(token)


def test_a_revoked_key_is_refused_at_once(keyring: Keyring) -> None:
    token, key = keyring.create("acme", role="reader")
    keyring.authenticate(token)
    revoked = keyring.revoke(key.id)
    with pytest.raises(Unauthenticated, match="revoked"):
        keyring.authenticate(token)
    assert keyring.revoke(key.id) == revoked
    with pytest.raises(Unauthenticated, match="not valid"):  # who guesses learns nothing of it
        keyring.authenticate(token[:-1] + ("A" if token[-1] != "A" else "B"))


def test_a_key_revoked_elsewhere_is_refused_within_a_second(keyring: Keyring, control: Control, clock: Hands) -> None:
    token, key = keyring.create("acme", role="reader")
    keyring.authenticate(token)
    Keyring(control, clock).revoke(key.id)
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        keyring.authenticate(token)


def test_a_key_made_elsewhere_opens_within_a_second(keyring: Keyring, control: Control, clock: Hands) -> None:
    with pytest.raises(Unauthenticated):
        keyring.authenticate(f"tsk_{'a' * 12}_{'A' * 43}")
    token, _ = Keyring(control, clock).create("acme", role="reader")
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    assert keyring.authenticate(token).subject == "acme"


class Counting:
    """A store that counts what it is asked, and may be gone."""

    def __init__(self, inner: Control) -> None:
        self._inner = inner
        self.asked: list[str] = []
        self.gone = False

    def __getattr__(self, name: str) -> object:
        if self.gone:
            raise Unavailable(reason="gone")
        self.asked.append(name)
        return getattr(self._inner, name)


def test_a_known_key_asks_the_store_once_a_second_at_most(control: Control, clock: Hands) -> None:
    store = Counting(control)
    keyring = Keyring(store, clock, monotonic=clock.monotonic)  # type: ignore[arg-type]
    token, _ = keyring.create("acme", role="reader")
    store.asked.clear()
    for _ in range(100):
        keyring.authenticate(token)
    assert store.asked == ["keys_version", "key"]
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    for _ in range(100):
        keyring.authenticate(token)
    assert store.asked == ["keys_version", "key", "keys_version"]


def test_an_id_that_is_none_is_looked_up_once(control: Control, clock: Hands) -> None:
    store = Counting(control)
    keyring = Keyring(store, clock, monotonic=clock.monotonic)  # type: ignore[arg-type]
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            keyring.authenticate(f"tsk_{'a' * 12}_{'A' * 43}")
    assert store.asked == ["keys_version", "key"]


def test_when_the_store_is_gone_nobody_comes_in(control: Control, clock: Hands) -> None:
    store = Counting(control)
    keyring = Keyring(store, clock, monotonic=clock.monotonic)  # type: ignore[arg-type]
    token, _ = keyring.create("acme", role="reader")
    keyring.authenticate(token)
    store.gone = True
    assert keyring.authenticate(token)  # within the second
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    for _ in range(2):
        with pytest.raises(Unavailable):
            keyring.authenticate(token)
    store.gone = False
    assert keyring.authenticate(token)


def test_what_was_read_before_a_change_is_not_remembered_after_it(control: Control, clock: Hands) -> None:
    """The key is revoked in the instant between its reading and its being remembered."""
    keyring = Keyring(control, clock, monotonic=clock.monotonic)
    token, key = keyring.create("acme", role="reader")

    class Late:
        def __getattr__(self, name: str) -> object:
            return getattr(control, name)

        def key(self, id: str) -> ApiKey | None:
            found = control.key(id)
            if not done:
                done.append(True)
                late.revoke(key.id)
                with pytest.raises(Unauthenticated):
                    late.authenticate(token)
            return found

    done: list[bool] = []
    late = Keyring(Late(), clock, monotonic=clock.monotonic)  # type: ignore[arg-type]
    done.append(True)
    with pytest.raises(Unauthenticated):
        late.authenticate(f"tsk_{'a' * 12}_{'A' * 43}")
    done.clear()
    late.authenticate(token)  # it was asked before the key ended
    with pytest.raises(Unauthenticated):
        late.authenticate(token)


def test_what_is_remembered_is_bounded(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_CACHED_KEYS", 3)
    tokens = [keyring.create("acme", role="reader")[0] for _ in range(10)]
    for token in tokens * 2:
        assert keyring.authenticate(token).subject == "acme"
        assert len(keyring._known) <= 3
    for number in range(10):
        with pytest.raises(Unauthenticated):
            keyring.authenticate(f"tsk_{number:012}_{'A' * 43}")
        assert len(keyring._unknown) <= 3


# ---------------------------------------------------------------- rotation


def test_a_rotated_key_goes_on_for_a_day_beside_its_successor(keyring: Keyring, clock: Hands) -> None:
    mandate = Mandate("main", "users:a", "USD/2", 10, 20)
    scopes = (parse_scope("post:main:users:a"),)
    old, before = keyring.create("acme", scopes=scopes, mandate=mandate, requests_per_second=3)
    new, after = keyring.rotate(before.id)
    assert new != old
    assert replace(after, id=before.id, secret_hash=before.secret_hash) == before
    assert keyring.authenticate(old).source == keyring.authenticate(new).source
    clock.forward(86_400)
    assert keyring.authenticate(new)
    with pytest.raises(Unauthenticated, match="expired"):
        keyring.authenticate(old)


def test_a_rotation_may_end_the_old_key_at_once(keyring: Keyring) -> None:
    old, before = keyring.create("acme", role="reader")
    new, _ = keyring.rotate(before.id, keep_seconds=0)
    assert keyring.authenticate(new)
    with pytest.raises(Unauthenticated):
        keyring.authenticate(old)


def test_a_rotation_prolongs_nothing(keyring: Keyring, control: Control) -> None:
    _, before = keyring.create("acme", role="reader", expires="2026-11-21T10:00:00Z")
    _, after = keyring.rotate(before.id)
    kept = control.key(before.id)
    assert kept is not None
    assert kept.expires == after.expires == "2026-11-21T10:00:00.000000Z"


def test_what_has_ended_is_not_rotated(keyring: Keyring, clock: Hands) -> None:
    _, revoked = keyring.create("acme", role="reader")
    keyring.revoke(revoked.id)
    _, expired = keyring.create("acme", role="reader", expires="2026-11-21T09:00:01Z")
    clock.forward(1)
    for key in (revoked, expired):
        with pytest.raises(InvalidInput):
            keyring.rotate(key.id)
    for id in ("nobody", ""):
        with pytest.raises(NotFound):
            keyring.rotate(id)
        with pytest.raises(NotFound):
            keyring.revoke(id)


@pytest.mark.parametrize("seconds", [-1, keys.MAX_KEEP_SECONDS + 1, float("nan")])
def test_an_old_key_is_kept_for_a_month_at_most(keyring: Keyring, seconds: float) -> None:
    _, key = keyring.create("acme", role="reader")
    with pytest.raises(InvalidInput):
        keyring.rotate(key.id, keep_seconds=seconds)
    keyring.rotate(key.id, keep_seconds=keys.MAX_KEEP_SECONDS)


def test_a_revocation_is_never_undone_by_a_rotation_at_the_same_time(control: Control, clock: Hands) -> None:
    made = [Keyring(control, clock).create("acme", role="reader")[1] for _ in range(20)]

    def rotate(key: ApiKey) -> None:
        with suppress(InvalidInput):  # it was revoked first
            Keyring(control, clock).rotate(key.id)

    with ThreadPoolExecutor(8) as pool:
        for key in made:
            pool.submit(rotate, key)
            pool.submit(Keyring(control, clock).revoke, key.id)
    for key in made:
        kept = control.key(key.id)
        assert kept is not None
        assert kept.revoked


def test_keys_are_changed_by_one_at_a_time(keyring: Keyring, control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key = keyring.create("acme", role="reader")
    lease = control.acquire("keys", "another process", 60)
    assert lease is not None
    monkeypatch.setattr(keys, "_LEASE_PATIENCE_SECONDS", 0.05)
    with pytest.raises(Unavailable):
        keyring.revoke(key.id)
    control.release(lease)
    assert keyring.revoke(key.id).revoked


@on_lasting_stores
def test_what_one_process_changes_another_sees(url: str, clock: Hands) -> None:
    here, there = open_control(url), open_control(url)
    ours, theirs = (Keyring(found, clock, monotonic=clock.monotonic) for found in (here, there))
    mandate = Mandate("main", "users:a", "USD/2", 10, 2**63 - 1, ("shops:*", "@fees"), "2027-01-01T00:00:00.000000Z")
    scopes = (parse_scope("post:main:users:a"), parse_scope("read"))
    token, key = ours.create("acme", scopes=scopes, mandate=mandate, signer=DID, requests_per_second=9)
    assert theirs.authenticate(token) == ours.authenticate(token)
    assert theirs.authenticate(token).mandate == mandate
    new, _ = theirs.rotate(key.id, keep_seconds=5)
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    assert ours.authenticate(new).subject == ours.authenticate(token).subject
    clock.forward(5)
    with pytest.raises(Unauthenticated, match="expired"):
        ours.authenticate(token)
    for found in theirs._control.keys(subject="acme"):
        theirs.revoke(found.id)
    clock.forward(keys.REVOKED_WITHIN_SECONDS)
    with pytest.raises(Unauthenticated, match="revoked"):
        ours.authenticate(new)
    here.close()
    there.close()


# ---------------------------------------------------------------- what cannot be made


@pytest.mark.parametrize(
    "subject",
    ["", " acme", "acme corp", "local", "sweep", "tallystick", "log", "oidc:acme", "key:acme", "é", "a" * 101, "a\n"],
)
def test_a_subject_that_could_be_taken_for_another_is_refused(keyring: Keyring, subject: str) -> None:
    with pytest.raises(InvalidInput):
        keyring.create(subject, role="reader")


@pytest.mark.parametrize(
    "subject", ["a", "a" * 100, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", "a@b.c"]
)
def test_a_subject_may_be_a_name_an_address_or_a_did(keyring: Keyring, subject: str) -> None:
    assert keyring.authenticate(keyring.create(subject, role="reader")[0]).actor == f"key:{subject}"


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "root"},
        {"scopes": [parse_scope("read")] * 101},
        {"signer": "did:web:example.com"},
        {"signer": "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc"},  # X25519
        {"expires": "2026-11-21T09:00:00Z"},
        {"expires": "soon"},
        {"requests_per_second": -1},
        {"requests_per_second": 1_000_001},
        {"mandate": Mandate("main", "agents:a", "USD/2"), "role": "admin"},
        {"mandate": Mandate("main", "agents:a", "USD/2"), "role": "reader"},
        {"mandate": Mandate("main", "agents:a", "USD/2"), "scopes": [parse_scope("post:other")]},
        {"mandate": Mandate("main", "agents:a", "USD/2"), "scopes": [parse_scope("post"), parse_scope("keys")]},
        {"mandate": Mandate("main", "agents:*", "USD/2"), "scopes": [parse_scope("post")]},
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(keyring: Keyring, control: Control, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        keyring.create("acme", **fields)  # type: ignore[arg-type]
    assert control.keys() == []


def test_a_known_key_is_recognized_in_microseconds(control: Control) -> None:
    keyring = Keyring(control)
    token, _ = keyring.create("acme", role="writer", expires="2200-01-01T00:00:00Z")
    keyring.authenticate(token)
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(500):
            keyring.authenticate(token)
        best = min(best, (time.perf_counter() - began) / 500)
    assert best < 20e-6  # about 3 on a quiet machine; a digest made for passwords would take 10,000
