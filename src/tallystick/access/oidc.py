"""Bearer tokens of an OpenID Connect issuer: JWTs that it signed (RFC 7519, RFC 7515, OpenID Connect Discovery 1.0).

What a token may do stands in its scopes, as ``tally:<verb>[:<ledger>[:<account prefix>]]`` among others that are not
ours, and in a claim that names one of our roles. A token that names neither may do nothing.

Only signatures by RS256, ES256 and EdDSA are taken (RFC 8725, 3.1): never ``none``, and never one by a shared secret,
for which the issuer's public key could be passed off. Which key it is comes from the issuer's own list alone, whatever
the token says about where to find one.

The issuer's keys are fetched when they are first needed, anew every hour, and for a key that is not among them at most
once a minute. If they cannot be had, nobody comes in with a token: Unavailable. A token that was found to be right is
believed for up to a minute without doing the arithmetic again, and not beyond its expiry.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from tallystick.access.principal import MAX_SCOPES, Principal, parse_scope, role_scopes
from tallystick.clock import Clock, system_clock
from tallystick.control.records import Scope
from tallystick.errors import InvalidInput, Unauthenticated, Unavailable
from tallystick.evidence.outbound import exchange, parse_endpoint

MAX_TOKEN_CHARACTERS = 16_384

MAX_SUBJECT_CHARACTERS = 200

MAX_KEYS = 100
"""Of an issuer."""

LEEWAY_SECONDS = 30
"""How far the issuer's clock may be off."""

KEYS_LAST_SECONDS = 3_600.0
"""How long the issuer's keys are believed; one that it has withdrawn is refused after that."""

FETCH_PAUSE_SECONDS = 60.0
"""The least time between two fetches for keys that are not known."""

RETRY_PAUSE_SECONDS = 5.0
"""The least time between two fetches when the last one failed."""

BELIEVED_SECONDS = 60.0
"""How long a token that was right is not checked again."""

MAX_BELIEVED = 10_000

FETCH_TIMEOUT_SECONDS = 5.0

MAX_ANSWER_BYTES = 1_048_576

LEAST_RSA_BITS = 2_048

SCOPE_MARK = "tally:"

_ALGORITHMS: dict[str, tuple[type[Any], str]] = {
    "RS256": (RSAKey, ""),
    "ES256": (ECKey, "P-256"),
    "EdDSA": (OKPKey, "Ed25519"),
    "Ed25519": (OKPKey, "Ed25519"),
}
"""By name: the kind of key, and its curve. RFC 9864 gives EdDSA by this curve a name of its own."""


class _Reader(jws.JWSRegistry):
    """Reads headers up to the size of a token. Names in it that are not known say nothing, as RFC 7515, 4 has it."""

    max_header_length = MAX_TOKEN_CHARACTERS

    def get_alg(self, name: str) -> Any:
        """Without the warning that EdDSA has a newer name, which is the issuer's to heed."""
        if name not in _ALGORITHMS:
            raise UnsupportedAlgorithmError(f"{name!r} is not taken")
        return self.algorithms[name]


_READER = _Reader(algorithms=list(_ALGORITHMS), strict_check_header=False)

_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "application/jwt"})

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class OidcVerifier:
    """Recognizes the tokens of one issuer; safe to use from any number of threads.

    ``issuer`` is its https URL as it stands in tokens (http only on this machine), ``audience`` what it calls this
    service; ``jwks`` are its keys, if they shall not be fetched. Raises InvalidInput.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        jwks: Mapping[str, Any] | None = None,
        scope_claim: str = "scope",
        role_claim: str = "tallystick_role",
        clock: Clock = system_clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_url(issuer, "issuer")
        if not audience:
            raise InvalidInput(
                path="audience", problem="a token is for somebody: say what the issuer calls this service"
            )
        self._issuer = issuer
        self._audience = audience
        self._scope_claim = scope_claim
        self._role_claim = role_claim
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: dict[str, Any] = {}
        self._is_fixed = jwks is not None
        self._fetched = self._tried = float("-inf")
        self._failure: Unavailable | None = None
        self._believed: dict[bytes, tuple[Principal, float, float]] = {}
        if jwks is not None:
            try:
                self._keys = _read_keys(jwks)
            except ValueError as error:
                raise InvalidInput(path="jwks", problem=str(error)) from None

    def authenticate(self, token: str) -> Principal:
        """Who comes with this token. Raises Unauthenticated, or Unavailable if the issuer's keys cannot be had."""
        found = self.cached(token)
        return found if found is not None else self._check(token)

    def cached(self, token: str) -> Principal | None:
        """The same, if this token was found to be right just now; None: ask ``authenticate``, which may fetch keys."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        found = self._believed.get(_digest(token))
        if found is None or self._monotonic() >= found[1] or _seconds(self._clock()) >= found[2]:
            return None
        return found[0]

    def _check(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise _refused("it is too long, or no token")
        header = _read_header(token)
        key = self._key(header)
        try:
            signed = jws.deserialize_compact(token, key, algorithms=[header["alg"]], registry=_READER)
            claims = msgspec.json.decode(signed.payload, type=dict[str, Any])
        except (JoseError, ValueError, TypeError, RecursionError, msgspec.MsgspecError):
            raise _refused("its signature is not the issuer's") from None
        now = _seconds(self._clock())
        ends = self._check_claims(claims, now)
        principal = self._principal(claims)
        if len(self._believed) >= MAX_BELIEVED:
            self._believed = {}
        self._believed[_digest(token)] = (principal, self._monotonic() + BELIEVED_SECONDS, ends)
        return principal

    # ------------------------------------------------------------ what it says

    def _check_claims(self, claims: Mapping[str, Any], now: float) -> float:
        """When the token ends, in Unix time, if it is from this issuer, for this service, and for now."""
        if claims.get("iss") != self._issuer:
            raise _refused("it is from another issuer")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise _refused("it is for another audience")
        ends = _time(claims, "exp")
        if ends is None:
            raise _refused("it never expires")
        if ends + LEEWAY_SECONDS <= now:
            raise _refused("it has expired")
        if max(_time(claims, "nbf") or 0, _time(claims, "iat") or 0) > now + LEEWAY_SECONDS:
            raise _refused("it is not valid yet")
        return ends + LEEWAY_SECONDS

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS:
            raise _refused(f"its subject is not a text of 1 to {MAX_SUBJECT_CHARACTERS} characters")
        if not subject.isprintable():
            raise _refused("its subject has a character that cannot be printed")
        scopes = [scope for role in _words(claims.get(self._role_claim)) for scope in role_scopes(role)]
        for word in _words(claims.get(self._scope_claim)):
            if word.startswith(SCOPE_MARK) and (scope := _scope(word.removeprefix(SCOPE_MARK))) is not None:
                scopes.append(scope)
        found = tuple(dict.fromkeys(scopes))
        if len(found) > MAX_SCOPES:
            raise _refused(f"it has more than {MAX_SCOPES} scopes")
        return Principal(subject=subject, scopes=found)

    # ------------------------------------------------------------ the issuer's keys

    def _key(self, header: Mapping[str, Any]) -> Any:
        """The issuer's key for this header, fetched if it has to be."""
        self._refresh(KEYS_LAST_SECONDS)
        key = self._find(header)
        if key is None and not self._is_fixed:
            self._refresh(FETCH_PAUSE_SECONDS)
            key = self._find(header)
        if key is None:
            raise _refused("it is signed with a key that the issuer does not have")
        return key

    def _find(self, header: Mapping[str, Any]) -> Any | None:
        keys, name = self._keys, header.get("kid")
        found: Any
        if name is None:  # then it can only be the one that there is
            found = next(iter(keys.values())) if len(keys) == 1 else None
        else:
            found = keys.get(name) if isinstance(name, str) else None
        kind, curve = _ALGORITHMS[header["alg"]]
        if found is None or not isinstance(found, kind) or (curve and found.curve_name != curve):
            return None
        meant_for = found.as_dict().get("alg")
        return found if meant_for in (None, header["alg"]) else None

    def _refresh(self, age_seconds: float) -> None:
        """Fetch the keys if they are older than this; one caller does, the others wait for him. Raises Unavailable."""
        if self._is_fixed or self._monotonic() - self._fetched < age_seconds:
            return
        with self._lock:
            now = self._monotonic()
            if now - self._fetched < age_seconds:
                return
            if self._failure is not None and now - self._tried < RETRY_PAUSE_SECONDS:
                raise Unavailable(**self._failure.data)
            self._tried = now
            try:
                self._keys = _fetch_keys(self._issuer)
            except Unavailable as failure:
                self._failure = failure
                raise
            self._fetched, self._failure, self._believed = now, None, {}


# ---------------------------------------------------------------- tokens


def _read_header(token: str) -> dict[str, Any]:
    """The header, before anything is done with it: an algorithm that is taken here, and nothing that must be known."""
    try:
        header = jws.extract_compact(token.encode(), registry=_READER).headers()
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
        raise _refused("it is not a JWT") from None
    if not isinstance(header.get("alg"), str) or header["alg"] not in _ALGORITHMS:
        raise _refused("its algorithm is none of RS256, ES256 and EdDSA")
    if "crit" in header or "b64" in header or str(header.get("typ", "")).lower() not in _TYPES:
        raise _refused("it is no plain JWT")
    return header


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _refused(f"its {name} is no time")
    return float(value)


def _words(claim: object) -> list[str]:
    """A claim that lists words, as one text or as several; anything else lists none."""
    if isinstance(claim, str):
        return claim.split(" ")
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _scope(text: str) -> Scope | None:
    """A scope, or None for one that we do not know: it is no error to be granted what does not exist here."""
    try:
        return parse_scope(text)
    except InvalidInput:
        return None


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def _refused(problem: str) -> Unauthenticated:
    return Unauthenticated(problem=f"the token is not valid: {problem}")


# ---------------------------------------------------------------- the issuer


def _fetch_keys(issuer: str) -> dict[str, Any]:
    """The issuer's keys, from where it says that they are. Raises Unavailable."""
    document = _fetch(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise Unavailable(reason=f"what {issuer} says of itself is about another issuer")
    place = document.get("jwks_uri")
    try:
        _check_url(str(place), "jwks_uri")
        return _read_keys(_fetch(str(place)))
    except (InvalidInput, ValueError) as error:
        raise Unavailable(reason=f"{issuer} has no keys that can be used: {error}") from None


def _fetch(url: str) -> dict[str, Any]:
    reply = exchange(
        parse_endpoint(url),
        "GET",
        None,
        {"Accept": "application/json"},
        timeout_seconds=FETCH_TIMEOUT_SECONDS,
        most_bytes=MAX_ANSWER_BYTES,
    )
    if reply.status != 200:
        raise Unavailable(reason=f"{url} answered {reply.status}")
    try:
        return msgspec.json.decode(reply.body, type=dict[str, Any])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise Unavailable(reason=f"{url} answered no JSON object") from None


def _read_keys(jwks: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a JWK Set (RFC 7517) that can check a signature here, by id. Others are passed over; ValueError if
    it is no set."""
    listed = jwks.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"a set of keys has a list of at most {MAX_KEYS}")
    found: dict[str, Any] = {}
    for number, fields in enumerate(listed):
        if not isinstance(fields, dict) or fields.get("use", "sig") != "sig" or fields.get("kty") == "oct":
            continue
        try:
            key = JWKRegistry.import_key(fields)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < LEAST_RSA_BITS:
            continue
        found.setdefault(str(fields.get("kid", f" {number}")), key)
    return found


def _check_url(url: str, path: str) -> None:
    endpoint = parse_endpoint(url, path)
    if not endpoint.encrypted and endpoint.host not in _LOOPBACK:
        raise InvalidInput(path=path, problem=f"{url!r} is not https")
