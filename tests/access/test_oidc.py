"""Tokens of an identity provider: its own signature, for us, for now, and nothing that merely looks like it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey, RSAKey

from tallystick.access import oidc
from tallystick.access.oidc import OidcVerifier
from tallystick.errors import InvalidInput, TallystickError, Unauthenticated, Unavailable
from tests.access.conftest import Hands

ISSUER, AUDIENCE = "https://id.example/realm", "tallystick"
RSA = RSAKey.generate_key(2_048)
RSA_OTHER = RSAKey.generate_key(2_048)
EC = ECKey.generate_key("P-256")
ED = OKPKey.generate_key("Ed25519")
KEYS: dict[str, Any] = {"rsa": RSA, "ec": EC, "ed": ED}
ALGORITHMS = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
NOW = int(datetime.fromisoformat("2026-11-21T09:00:00Z").timestamp())


def public(key: Any, name: str | None, **more: object) -> dict[str, Any]:
    found = {**key.as_dict(private=False), **more}
    found.pop("kid", None)
    return found if name is None else {**found, "kid": name}


JWKS = {"keys": [public(key, name) for name, key in KEYS.items()]}


def encode(data: object) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def claims(**changes: object) -> dict[str, object]:
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 600, "scope": "openid tally:read:main:users:"}
    return {name: value for name, value in {**found, **changes}.items() if value is not ...}


def token(name: str = "rsa", key: Any = None, header: dict[str, Any] | None = None, **changes: object) -> str:
    """A token that is signed with a key, whatever its header and its claims say."""
    key = key or KEYS[name]
    algorithm = ALGORITHMS.get(name, name)
    made = {"alg": algorithm, "kid": name, "typ": "JWT", **(header or {})}
    made = {field: value for field, value in made.items() if value is not ...}
    text = f"{encode(made)}.{encode(claims(**changes))}"
    signature = jws.JWSRegistry.algorithms[algorithm].sign(text.encode(), key)
    return f"{text}.{encode(signature)}"


@pytest.fixture
def verifier(clock: Hands) -> OidcVerifier:
    return OidcVerifier(ISSUER, AUDIENCE, jwks=JWKS, clock=clock, monotonic=clock.monotonic)


def refused(verifier: OidcVerifier, text: str, problem: str = "the token is not valid") -> None:
    for _ in range(2):  # what was refused is not remembered as anything else
        with pytest.raises(Unauthenticated, match=problem):
            verifier.authenticate(text)


@pytest.mark.parametrize("name", ["rsa", "ec", "ed"])
def test_a_token_of_the_issuer_opens(verifier: OidcVerifier, name: str) -> None:
    for _ in range(2):
        found = verifier.authenticate(token(name))
        assert (found.subject, found.actor, found.key_id, found.mandate) == ("alice", "oidc:alice", "", None)
        assert found.prefixes("read", "main") == ("users:",)
        assert not found.may("post", "main")


def test_scopes_and_roles_are_read_from_their_claims(clock: Hands) -> None:
    def prefixes(verb: Any, **changes: object) -> object:
        found = OidcVerifier(ISSUER, AUDIENCE, jwks=JWKS, clock=clock, scope_claim="permissions", role_claim="role")
        return found.authenticate(token(**changes)).prefixes(verb, "main")

    assert prefixes("read") is None  # "scope" is not the claim that was named
    assert prefixes("read", permissions="tally:read") == ("",)
    assert prefixes("post", permissions=["tally:post:main:a:", "tally:post:other", 5]) == ("a:",)
    assert prefixes("issue", role="writer") == ("",)
    assert prefixes("audit", role=["reader", "auditor"]) == ("",)
    assert prefixes("keys", role="root") is None
    for nothing in (None, 5, {}, "", "read", "tally:", "tally:root", "tally:read:main*", "TALLY:read", "xtally:read"):
        assert prefixes("read", permissions=nothing, role=None) is None


def test_a_token_without_scopes_may_do_nothing(verifier: OidcVerifier) -> None:
    assert verifier.authenticate(token(scope=...)).scopes == ()


def test_a_token_has_so_many_scopes_and_no_more(verifier: OidcVerifier) -> None:
    def listed(count: int) -> str:
        return " ".join(f"tally:read:main:u{number}:" for number in range(count))

    assert len(verifier.authenticate(token(scope=listed(100))).scopes) == 100
    refused(verifier, token(scope=listed(101)), "100 scopes")


# ---------------------------------------------------------------- forged


def test_a_token_without_a_signature_is_refused(verifier: OidcVerifier) -> None:
    for algorithm in ("none", "None", "NONE", "", None, ["RS256"], {}, 5):
        header = {"alg": algorithm, "kid": "rsa"}
        for signature in ("", encode(b"x"), token().rpartition(".")[2]):
            refused(verifier, f"{encode(header)}.{encode(claims())}.{signature}")
    refused(verifier, token().rpartition(".")[0] + ".")


@pytest.mark.parametrize("name", ["rsa", "ec", "ed"])
def test_the_public_key_is_no_shared_secret(verifier: OidcVerifier, name: str) -> None:
    for secret in (
        KEYS[name].as_pem(private=False),
        json.dumps(public(KEYS[name], name)).encode(),
        base64.urlsafe_b64decode(public(KEYS[name], name).get("n", public(KEYS[name], name).get("x")) + "=="),
    ):
        text = f"{encode({'alg': 'HS256', 'kid': name})}.{encode(claims())}"
        forged = f"{text}.{encode(hmac.digest(secret, text.encode(), hashlib.sha256))}"
        refused(verifier, forged, "algorithm")


def test_a_shared_secret_in_the_issuers_list_is_passed_over(clock: Hands) -> None:
    secret = OctKey.generate_key(256)
    keys = {"keys": [{**secret.as_dict(), "kid": "oct"}, *JWKS["keys"]]}
    found = OidcVerifier(ISSUER, AUDIENCE, jwks=keys, clock=clock)
    refused(found, token("HS256", secret, {"kid": "oct"}))
    assert found.authenticate(token())


def test_another_ones_key_is_refused(verifier: OidcVerifier) -> None:
    refused(verifier, token(key=RSA_OTHER), "signature")
    refused(verifier, token(key=RSA_OTHER, header={"jwk": public(RSA_OTHER, "rsa")}), "signature")
    refused(verifier, token(key=RSA_OTHER, header={"jku": "https://eve.example/keys"}), "signature")
    refused(verifier, token(key=RSA_OTHER, header={"kid": "mine"}), "does not have")


@pytest.mark.parametrize("kid", ["ec", "ed", "unknown", "", "../rsa", "RSA", " 0", ...])
def test_a_key_id_that_is_not_this_keys_is_refused(verifier: OidcVerifier, kid: object) -> None:
    refused(verifier, token(header={"kid": kid}))


def test_the_only_key_needs_no_id(clock: Hands) -> None:
    found = OidcVerifier(ISSUER, AUDIENCE, jwks={"keys": [public(RSA, None)]}, clock=clock)
    assert found.authenticate(token(header={"kid": ...}))
    refused(found, token())  # it names another


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_other_algorithms_are_refused(verifier: OidcVerifier, algorithm: str) -> None:
    refused(verifier, token(algorithm, RSA, {"kid": "rsa"}), "algorithm")


def test_a_key_is_used_for_its_own_algorithm_only(clock: Hands) -> None:
    keys = {"keys": [public(RSA, "rsa", alg="RS512"), public(EC, "ec", use="enc"), public(ED, "ed", alg="EdDSA")]}
    found = OidcVerifier(ISSUER, AUDIENCE, jwks=keys, clock=clock)
    refused(found, token())
    refused(found, token("ec"))
    assert found.authenticate(token("ed"))


@pytest.mark.filterwarnings("ignore:Key size")
def test_weak_and_unusable_keys_are_passed_over(clock: Hands) -> None:
    weak = RSAKey.generate_key(1_024, auto_kid=False)
    p384 = ECKey.generate_key("P-384")
    odd = [public(weak, "weak"), public(p384, "p384"), {"kty": "AKP", "kid": "x"}, {"kty": "RSA"}, 5, {}]
    found = OidcVerifier(ISSUER, AUDIENCE, jwks={"keys": [*odd, *JWKS["keys"]]}, clock=clock)
    assert found.authenticate(token())
    refused(found, token("RS256", weak, {"kid": "weak"}), "does not have")
    refused(found, token("ec", header={"kid": "p384"}), "does not have")


def test_a_token_that_was_changed_is_refused(verifier: OidcVerifier) -> None:
    header, body, signature = token().split(".")
    for text in (
        f"{header}.{encode(claims(sub='root'))}.{signature}",
        f"{encode({'alg': 'RS256', 'kid': 'rsa'})}.{body}.{signature}",
        f"{header}.{body}.{encode(b'x' * 256)}",
        f"{header}.{body}",
        f"{header}.{body}.{signature}.x",
        f"{header}..{signature}",
        f".{body}.{signature}",
        "..",
        "",
        "x",
        "é.é.é",
        token() + "\n",
        "Bearer " + token(),
        f"{encode(b'[]')}.{body}.{signature}",
        f"{encode(b'null')}.{body}.{signature}",
        f"{encode(b'[' * 5_000)}.{body}.{signature}",
        f"{header}.{encode(b'[' * 5_000)}.{signature}",
        "x" * (oidc.MAX_TOKEN_CHARACTERS + 1),
    ):
        refused(verifier, text)


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"], "exp": 5}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"typ": "JWE"}, {"typ": "dpop+jwt"}],
)
def test_a_header_that_must_be_understood_is_refused(verifier: OidcVerifier, header: dict[str, Any]) -> None:
    refused(verifier, token(header=header))


@pytest.mark.parametrize("header", [{"typ": "at+JWT"}, {"typ": ...}, {"x5t": "abc"}, {"odd": 1}, {"kid2": "y" * 900}])
def test_a_header_may_say_more(verifier: OidcVerifier, header: dict[str, Any]) -> None:
    assert verifier.authenticate(token(header=header))


# ---------------------------------------------------------------- not for us, not for now


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://id.example/realm/"},
        {"iss": "https://id.example"},
        {"iss": "https://eve.example/realm"},
        {"iss": [ISSUER]},
        {"iss": ...},
        {"aud": "tallystick2"},
        {"aud": "tally"},
        {"aud": ["other"]},
        {"aud": [[AUDIENCE]]},
        {"aud": {AUDIENCE: 1}},
        {"aud": ...},
        {"aud": ""},
        {"exp": ...},
        {"exp": None},
        {"exp": str(NOW + 600)},
        {"exp": True},
        {"exp": 1e400},
        {"exp": float("nan")},
        {"exp": NOW - oidc.LEEWAY_SECONDS},
        {"nbf": NOW + oidc.LEEWAY_SECONDS + 1},
        {"nbf": "now"},
        {"iat": NOW + oidc.LEEWAY_SECONDS + 1},
        {"sub": ...},
        {"sub": ""},
        {"sub": 5},
        {"sub": "a" * (oidc.MAX_SUBJECT_CHARACTERS + 1)},
        {"sub": "a\nb"},
    ],
)
def test_claims_that_are_not_for_us_or_not_for_now_are_refused(
    verifier: OidcVerifier, changes: dict[str, object]
) -> None:
    refused(verifier, token(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"exp": NOW - oidc.LEEWAY_SECONDS + 1},
        {"exp": NOW + 0.5},
        {"nbf": NOW + oidc.LEEWAY_SECONDS, "iat": NOW + oidc.LEEWAY_SECONDS},
        {"sub": "a" * oidc.MAX_SUBJECT_CHARACTERS},
    ],
)
def test_claims_at_their_limits_are_accepted(verifier: OidcVerifier, changes: dict[str, object]) -> None:
    assert verifier.authenticate(token(**changes))


def test_a_token_that_was_right_ends_with_its_expiry(verifier: OidcVerifier, clock: Hands) -> None:
    short = token(exp=NOW + 10)
    assert verifier.authenticate(short)
    clock.forward(10 + oidc.LEEWAY_SECONDS - 1)
    assert verifier.authenticate(short)
    clock.forward(1)
    refused(verifier, short, "expired")


def test_what_is_believed_is_bounded(verifier: OidcVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "MAX_BELIEVED", 3)
    for number in range(8):
        assert verifier.authenticate(token("ed", sub=str(number))).subject == str(number)
        assert len(verifier._believed) <= 3


# ---------------------------------------------------------------- the issuer's keys


class Issuer(ThreadingHTTPServer):
    """An identity provider on this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/realm"
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.publish({"rsa": RSA})

    def publish(self, keys: dict[str, Any], **changes: object) -> None:
        document = {"issuer": self.url, "jwks_uri": self.url + "/keys", **changes}
        self.answer("/realm/.well-known/openid-configuration", document)
        self.answer("/realm/keys", {"keys": [public(key, name) for name, key in keys.items()]})

    def answer(self, path: str, document: object, status: int = 200) -> None:
        self.answers[path] = status, document if isinstance(document, bytes) else json.dumps(document).encode()


class Answers(BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "/realm/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def asking(issuer: Issuer, clock: Hands) -> OidcVerifier:
    return OidcVerifier(issuer.url, AUDIENCE, clock=clock, monotonic=clock.monotonic)


def test_the_issuers_keys_are_fetched_once_and_kept(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    assert issuer.asked == []
    for number in range(3):
        assert found.authenticate(token(iss=issuer.url, sub=str(number)))
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


def test_a_new_key_is_fetched_once_a_minute_at_most(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    assert found.authenticate(token(iss=issuer.url))
    issuer.publish({"rsa": RSA, "ec": EC})
    for number in range(5):
        refused(found, token("ec", iss=issuer.url, sub=str(number)), "does not have")
    assert len(issuer.asked) == 2
    clock.forward(oidc.FETCH_PAUSE_SECONDS)
    assert found.authenticate(token("ec", iss=issuer.url))
    for number in range(5):
        refused(found, token("ed", header={"kid": f"eve{number}"}, iss=issuer.url))
    assert len(issuer.asked) == 4


def test_a_key_that_was_withdrawn_is_refused_within_the_hour(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    long = token(iss=issuer.url, exp=NOW + 10**6)
    assert found.authenticate(long)
    issuer.publish({"ec": EC})
    clock.forward(oidc.KEYS_LAST_SECONDS)
    refused(found, long, "does not have")


def test_a_dead_issuer_lets_nobody_in(clock: Hands) -> None:
    with Issuer() as gone:
        url = gone.url
    found = OidcVerifier(url, AUDIENCE, clock=clock, monotonic=clock.monotonic)
    for text in (token(iss=url), token(iss=url, key=RSA_OTHER)):
        with pytest.raises(Unavailable):
            found.authenticate(text)


def test_an_issuer_that_fails_is_asked_again_after_a_pause(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    issuer.answer("/realm/keys", {}, 503)
    for _ in range(5):
        with pytest.raises(Unavailable, match="503"):
            found.authenticate(token(iss=issuer.url))
    assert len(issuer.asked) == 2
    issuer.publish({"rsa": RSA})
    clock.forward(oidc.RETRY_PAUSE_SECONDS)
    assert found.authenticate(token(iss=issuer.url))


def test_an_issuer_that_dies_is_believed_for_an_hour_and_then_nobody_comes_in(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    long = token(iss=issuer.url, exp=NOW + 10**6)
    assert found.authenticate(long)
    issuer.answers.clear()
    clock.forward(oidc.KEYS_LAST_SECONDS - 1)
    assert found.authenticate(long)
    with pytest.raises(Unavailable):  # it might have this key by now
        found.authenticate(token("ec", iss=issuer.url, exp=NOW + 10**6))
    clock.forward(oidc.BELIEVED_SECONDS)
    with pytest.raises(Unavailable):
        found.authenticate(long)


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("/realm/keys", {"keys": "x"}, 200),
        ("/realm/keys", {"keys": [{}] * (oidc.MAX_KEYS + 1)}, 200),
        ("/realm/keys", [], 200),
        ("/realm/keys", b"{", 200),
        ("/realm/keys", b" " * (oidc.MAX_ANSWER_BYTES + 1), 200),
        ("/realm/keys", {}, 302),
        ("/realm/.well-known/openid-configuration", {"issuer": "https://eve.example"}, 200),
        ("/realm/.well-known/openid-configuration", {}, 200),
        ("/realm/.well-known/openid-configuration", b"\xff", 200),
    ],
)
def test_an_issuer_that_answers_something_else_lets_nobody_in(
    issuer: Issuer, clock: Hands, path: str, document: object, status: int
) -> None:
    issuer.answer(path, document, status)
    with pytest.raises(Unavailable):
        asking(issuer, clock).authenticate(token(iss=issuer.url))


@pytest.mark.parametrize("place", ["http://id.example/keys", "file:///etc/keys", "ftp://id.example/keys", None, 5])
def test_keys_are_fetched_over_https_only(issuer: Issuer, clock: Hands, place: object) -> None:
    issuer.publish({"rsa": RSA}, jwks_uri=place)
    with pytest.raises(Unavailable, match="no keys that can be used"):
        asking(issuer, clock).authenticate(token(iss=issuer.url))


def test_many_at_once_fetch_the_keys_once(issuer: Issuer, clock: Hands) -> None:
    found = asking(issuer, clock)
    outcomes: list[str] = []

    def ask(number: int) -> None:
        try:
            outcomes.append(found.authenticate(token("rsa", iss=issuer.url, sub=f"u{number}")).subject)
        except TallystickError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [f"u{number}" for number in range(8)]
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    ("url", "audience", "jwks"),
    [
        ("http://id.example", AUDIENCE, None),
        ("id.example", AUDIENCE, None),
        ("", AUDIENCE, None),
        (ISSUER, "", None),
        (ISSUER, AUDIENCE, {}),
        (ISSUER, AUDIENCE, {"keys": 5}),
    ],
)
def test_an_issuer_that_cannot_be_one_is_refused(url: str, audience: str, jwks: dict[str, Any] | None) -> None:
    with pytest.raises(InvalidInput):
        OidcVerifier(url, audience, jwks=jwks)


def test_the_registry_of_keys_reads_what_the_tests_write() -> None:
    assert JWKRegistry.import_key(JWKS["keys"][0]).as_dict()["kid"] == "rsa"
