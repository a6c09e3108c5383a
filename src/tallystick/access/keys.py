"""API keys: made, rotated and ended by an operator, and recognized with each request.

A token is ``tsk_<id>_<secret>``. The id is looked up; the secret, 256 random bits, is compared in constant time by its
SHA-256, which is all that is kept of it: a random secret of this length needs no slow hash, since nobody can try them.

Each process keeps the keys that it has met, and asks at most once a second whether any has changed. So a key that was
revoked is refused within a second everywhere, and at once where it was revoked. If that cannot be asked, nobody comes
in: Unavailable.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from tallystick.access.principal import MAX_SCOPES, ROLES, Principal, check_mandate, check_scope, role_scopes
from tallystick.access.signatures import signer_key
from tallystick.clock import Clock, add_seconds, parse_time, system_clock
from tallystick.control.base import Control
from tallystick.control.records import ApiKey, Mandate, Scope
from tallystick.errors import Forbidden, InvalidInput, NoteInvalid, NotFound, Unauthenticated, Unavailable

REVOKED_WITHIN_SECONDS = 1.0
"""How long a process may go on with what it knows of the keys."""

MAX_CACHED_KEYS = 10_000
"""Keys that a process remembers, and as many ids that are none; then it begins anew."""

MAX_KEEP_SECONDS = 31 * 86_400
"""How long the old key may go on after a rotation."""

MAX_REQUESTS_PER_SECOND = 1_000_000

_MARK = "tsk_"
_ID_CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12
MARK_LENGTH = 7
"""Of an id that is made of a request: what tells one idempotency key from another (36 bits), before all the rest."""
_SECRET_LENGTH = 43
_SECRET_AT = len(_MARK) + _ID_LENGTH + 1
TOKEN_LENGTH = _SECRET_AT + _SECRET_LENGTH

_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@/+\-]{0,99}\Z")
_RESERVED_SUBJECTS = frozenset({"local", "sweep", "tallystick", "log"})
"""Sources of the ledger's own commands: a tenant of that name could use up their idempotency keys."""

_RESERVED_BEGINNINGS = ("oidc:", "key:")

_LEASE = "keys"
_LEASE_SECONDS = 10.0
_LEASE_PATIENCE_SECONDS = 15.0  # so one that a process died with has run out by then
_LEASE_PAUSE_SECONDS = 0.02

_ALLOWED_WITH_MANDATE = frozenset({"read", "post", "audit"})


Value = TypeVar("Value")


class _Known(Struct, frozen=True):
    """A key as it is recognized; ``ends`` is when it expires (empty: never), ``refusal`` why it is none already."""

    digest: bytes
    principal: Principal
    ends: str
    refusal: str


class Keyring:
    """The keys of a service; safe to use from any number of threads."""

    def __init__(
        self, control: Control, clock: Clock = system_clock, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._control = control
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._unknown: dict[str, None] = {}
        self._version = -1
        self._fresh_until = float("-inf")

    # ------------------------------------------------------------ recognizing

    def authenticate(self, token: str) -> Principal:
        """Who comes with this token. Raises Unauthenticated, without saying more than that it is not valid unless the
        secret was right; Unavailable."""
        found = self.cached(token)
        return found if found is not None else self._look_up(token)

    def cached(self, token: str) -> Principal | None:
        """The same, as far as it is known without asking the store; None: ask ``authenticate``, which may wait for it.

        Raises Unauthenticated.
        """
        if self._monotonic() >= self._fresh_until:
            return None
        known = self._known.get(token[len(_MARK) : _SECRET_AT - 1])
        return None if known is None else self._admit(known, token)

    def has_met(self, token: str) -> bool:
        """Whether this process has met a key with the token's id, whatever has become of it since."""
        return token[len(_MARK) : _SECRET_AT - 1] in self._known

    def _admit(self, known: _Known, token: str) -> Principal:
        """The key's principal, if the token is the key's and the key still stands."""
        if len(token) != TOKEN_LENGTH or not token.startswith(_MARK) or token[_SECRET_AT - 1] != "_":
            raise _invalid()
        digest = hashlib.sha256(token[_SECRET_AT:].encode("utf-8", "replace")).digest()
        if not hmac.compare_digest(digest, known.digest):
            raise _invalid()
        if known.refusal:
            raise Unauthenticated(problem=known.refusal)
        if known.ends and known.ends <= self._clock():
            raise Unauthenticated(problem=f"the key expired at {known.ends}")
        return known.principal

    def _look_up(self, token: str) -> Principal:
        id = token[len(_MARK) : _SECRET_AT - 1]
        if len(token) != TOKEN_LENGTH or not token.startswith(_MARK) or id.strip(_ID_CHARACTERS):
            raise _invalid()
        self._refresh()
        # What is read from here on goes into the dictionaries that were current before it was read: if keys change
        # meanwhile, those are thrown away, and what was read with them.
        all_known, all_unknown = self._known, self._unknown
        known = all_known.get(id)
        if known is None:
            if id in all_unknown:
                raise _invalid()
            key = self._control.key(id)
            if key is None:
                _remember(all_unknown, id, None)
                raise _invalid()
            known = _known(key)
            _remember(all_known, id, known)
        return self._admit(known, token)

    def _refresh(self) -> None:
        """Forget what is known if any key has changed. One caller asks; the others wait for his answer."""
        if self._monotonic() < self._fresh_until:
            return
        with self._lock:
            asked = self._monotonic()
            if asked < self._fresh_until:
                return
            version = self._control.keys_version()
            if version != self._version:
                self._known, self._unknown = {}, {}
                self._version = version
            self._fresh_until = asked + REVOKED_WITHIN_SECONDS

    def _changed(self) -> None:
        """Keys were changed here: let nobody in on what was known before."""
        with self._lock:
            self._known, self._unknown = {}, {}
            self._fresh_until = float("-inf")

    # ------------------------------------------------------------ making and ending

    def create(
        self,
        subject: str,
        *,
        role: str = "",
        scopes: Iterable[Scope] = (),
        mandate: Mandate | None = None,
        signer: str = "",
        expires: str = "",
        requests_per_second: int = 0,
        id: str = "",
    ) -> tuple[str, ApiKey]:
        """Make a key: its token, which is shown this once, and what is kept of it. Role and scopes add up.

        With an ``id`` that a caller made of its request (see ``derived_id``) a repeat makes no second key: it is
        answered with the first one, and without its token, which nobody has any more. Raises InvalidInput for what
        cannot be one, and for a mandate beside scopes that would lead around it.
        """
        if id and (found := self._control.key(_check_id(id))) is not None:
            return "", found
        scopes = tuple(scopes)
        _check_subject(subject)
        if role and role not in ROLES:
            raise InvalidInput(path="role", problem=f"{role!r:.80} is none of {', '.join(ROLES)}")
        if len(scopes) > MAX_SCOPES:
            raise InvalidInput(path="scopes", problem=f"there may be {MAX_SCOPES} at most")
        for index, scope in enumerate(scopes):
            check_scope(scope, f"scopes[{index}]")
        if type(requests_per_second) is not int or not 0 <= requests_per_second <= MAX_REQUESTS_PER_SECOND:
            problem = f"{requests_per_second!r:.80} is not 0 to {MAX_REQUESTS_PER_SECOND}"
            raise InvalidInput(path="requests_per_second", problem=problem)
        if mandate is not None:
            mandate = check_mandate(mandate)
            _check_held_to(mandate, (*role_scopes(role), *scopes))
        now = self._clock()
        if expires and (expires := parse_time(expires, "expires")) <= now:
            raise InvalidInput(path="expires", problem=f"{expires} has passed")
        token, key = _new(
            ApiKey(
                id="",
                secret_hash="",
                subject=subject,
                role=role,
                scopes=scopes,
                mandate=mandate,
                signer=_check_signer(signer),
                requests_per_second=requests_per_second,
                created=now,
                expires=expires,
            ),
            id,
        )
        return self._added(token, key)

    def _added(self, token: str, key: ApiKey) -> tuple[str, ApiKey]:
        """Keep a new key; or find that the same request has made it meanwhile."""
        try:
            self._control.add_key(key)
        except InvalidInput:
            found = self._control.key(key.id)
            if found is None:
                raise
            token, key = token if found.secret_hash == key.secret_hash else "", found
        self._changed()
        return token, key

    def rotate(self, id: str, *, keep_seconds: float = 86_400, new_id: str = "") -> tuple[str, ApiKey]:
        """Make a key in the place of another, alike in everything but its secret and its id; the other one goes on for
        ``keep_seconds``, so that its holders can change over. A key that expires at some time is not prolonged by it.

        With a ``new_id`` a repeat is answered as by ``create``. Raises NotFound, InvalidInput (also for a key that is
        revoked or has expired), Unavailable.
        """
        if not 0 <= keep_seconds <= MAX_KEEP_SECONDS:
            raise InvalidInput(path="keep_seconds", problem=f"{keep_seconds} is not 0 to {MAX_KEEP_SECONDS}")
        with self._alone():
            old, now = self._existing(id), self._clock()
            key = self._control.key(_check_id(new_id)) if new_id else None
            token = ""
            if key is None:
                if old.revoked or (old.expires and old.expires <= now):
                    raise InvalidInput(path="id", problem=f"the key {id} is revoked or has expired; make a new one")
                token, key = self._added(*_new(replace(old, created=now), new_id))
            # Also on a repeat: the first time it may have been interrupted just here.
            ends = add_seconds(key.created, keep_seconds)
            if not old.expires or ends < old.expires:
                self._control.replace_key(replace(old, expires=ends))
        self._changed()
        return token, key

    def revoke(self, id: str) -> ApiKey:
        """End a key, for good. Revoking twice changes nothing. Raises NotFound, Unavailable."""
        with self._alone():
            old = self._existing(id)
            key = old if old.revoked else replace(old, revoked=self._clock())
            if key is not old:
                self._control.replace_key(key)
        self._changed()
        return key

    def _existing(self, id: str) -> ApiKey:
        found = self._control.key(id)
        if found is None:
            raise NotFound(what=f"key {id!r:.80}")
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Change a key while nobody else does: a rotation that crossed a revocation would write the key back alive."""
        holder = secrets.token_hex(8)
        deadline = time.monotonic() + _LEASE_PATIENCE_SECONDS
        while (lease := self._control.acquire(_LEASE, holder, _LEASE_SECONDS)) is None:
            if time.monotonic() >= deadline:
                raise Unavailable(reason="another process is changing keys")
            time.sleep(_LEASE_PAUSE_SECONDS)
        try:
            yield
        finally:
            self._control.release(lease)


# ---------------------------------------------------------------- tokens


def derived_id(mark: bytes, rest: bytes) -> str:
    """An id that is made of a request: it begins with what ``mark`` makes, ``MARK_LENGTH`` characters of it, so that
    another request under the same idempotency key is told by what ``rest`` makes. Both are 16 random-looking bytes."""
    return _in_id_characters(mark, MARK_LENGTH) + _in_id_characters(rest, _ID_LENGTH - MARK_LENGTH)


def _in_id_characters(data: bytes, length: int) -> str:
    number, found = int.from_bytes(data[:16], "big"), ""
    for _ in range(length):
        number, digit = divmod(number, len(_ID_CHARACTERS))
        found += _ID_CHARACTERS[digit]
    return found


def _check_id(id: str) -> str:
    if len(id) != _ID_LENGTH or id.strip(_ID_CHARACTERS):
        raise InvalidInput(path="id", problem=f"it is not {_ID_LENGTH} small letters and digits")
    return id


def _new(like: ApiKey, id: str = "") -> tuple[str, ApiKey]:
    """A token, and a key that it opens."""
    id = id or "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    key = replace(like, id=id, secret_hash=hashlib.sha256(secret.encode()).hexdigest())
    return f"{_MARK}{id}_{secret}", key


def principal_of(key: ApiKey) -> Principal:
    """Who a key speaks for."""
    return Principal(
        subject=key.subject,
        scopes=tuple(dict.fromkeys((*role_scopes(key.role), *key.scopes))),
        key_id=key.id,
        mandate=key.mandate,
        signer=key.signer,
        requests_per_second=key.requests_per_second,
    )


def _known(key: ApiKey) -> _Known:
    refusal = f"the key was revoked at {key.revoked}" if key.revoked else ""
    return _Known(bytes.fromhex(key.secret_hash), principal_of(key), key.expires, refusal)


def _remember(known: dict[str, Value], id: str, value: Value) -> None:
    if len(known) >= MAX_CACHED_KEYS:
        known.clear()
    known[id] = value


def _invalid() -> Unauthenticated:
    return Unauthenticated(problem="the key is not valid")


# ---------------------------------------------------------------- checks


def _check_subject(subject: str) -> None:
    if not _SUBJECT.match(subject):
        problem = (
            f"{subject!r:.120} is not 1 to 100 letters, digits and any of _.:@/+- that begin with one of the former"
        )
        raise InvalidInput(path="subject", problem=problem)
    if subject in _RESERVED_SUBJECTS or subject.startswith(_RESERVED_BEGINNINGS):
        raise InvalidInput(path="subject", problem=f"{subject!r} is the ledger's own")


def _check_signer(signer: str) -> str:
    try:
        if signer:
            signer_key(signer)
    except NoteInvalid as error:
        raise InvalidInput(path="signer", problem=str(error.data["problem"])) from None
    return signer


def _check_held_to(mandate: Mandate, scopes: tuple[Scope, ...]) -> None:
    """A mandate is worth nothing beside a scope that leads around it: to issue, to change the rules, to make keys."""
    for scope in scopes:
        if scope.verb not in _ALLOWED_WITH_MANDATE:
            raise InvalidInput(path="mandate", problem=f"a key with a mandate cannot have the scope {scope.verb}")
    try:
        Principal("", scopes).require("post", mandate.ledger, (mandate.account,))
    except Forbidden:
        problem = f"the key needs the scope post:{mandate.ledger}:{mandate.account}, or it can spend nothing"
        raise InvalidInput(path="mandate", problem=problem) from None
