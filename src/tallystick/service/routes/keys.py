"""API keys: made, shown, rotated and ended by whoever has the verb ``keys``.

Nobody gives away more than he has: not wider scopes, not a longer life, not a higher rate, and not another's name,
unless his verb reaches all ledgers. A key is managed by those whose verb ``keys`` reaches wherever its scopes do; to
all others it looks like none.
"""

from __future__ import annotations

from msgspec import Struct

from tallystick.access.keys import MARK_LENGTH, derived_id, principal_of
from tallystick.access.principal import Principal, role_scopes
from tallystick.clock import parse_time
from tallystick.control.records import ApiKey
from tallystick.errors import Forbidden, IdempotencyConflict, NotFound
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.repeats import request_of
from tallystick.service.routes.accounts import Limit
from tallystick.wire.answers import Page
from tallystick.wire.fields import Cursor
from tallystick.wire.operators import (
    KeyAnswer,
    KeyRequest,
    NewKeyAnswer,
    NoMore,
    RotateKeyRequest,
    key_answer,
    mandate_of,
    new_key_answer,
    scopes_of,
)

KEYS = Group("Keys", in_ledger=False)

_HERE = "/v1/keys"
_ONE = _HERE + "/{key}"
_AT_ONCE = 1_000


@KEYS.write(
    _HERE,
    verb="keys",
    any_ledger=True,
    body=KeyRequest,
    answer=NewKeyAnswer,
    status=201,
    example={"subject": "shop", "scopes": [{"verb": "read", "ledger": "main", "account_prefix": "users:"}]},
)
def create_key(call: Call) -> NewKeyAnswer:
    """Make a key. Its token is in the answer, and nowhere else.

    The same request under the same idempotency key makes no second key: it is answered with the first, without the
    token. Whoever lost the token rotates the key, or revokes it and makes another.
    """
    body: KeyRequest = call.body
    scopes = scopes_of(body)
    given = Principal(body.subject, (*role_scopes(body.role), *scopes))
    _check_grant(call, given.scopes, body.subject, body.expires, body.requests_per_second)
    token, key = call.service.keyring.create(
        body.subject,
        role=body.role,
        scopes=scopes,
        mandate=mandate_of(body.mandate),
        signer=body.signer,
        expires=body.expires,
        requests_per_second=body.requests_per_second,
        id=_new_id(call),
    )
    call.replayed = not token
    return new_key_answer(key, token)


def _new_id(call: Call) -> str:
    """The id of the key that this request makes. Raises IdempotencyConflict if another request made one under it."""
    request = request_of(call)
    id = derived_id(request.mark, request.rest)
    near = call.service.control.keys(after=id[:MARK_LENGTH], limit=1)
    if near and near[0].id != id and near[0].id.startswith(id[:MARK_LENGTH]):
        raise IdempotencyConflict(key=call.key, transaction=f"which made the key {near[0].id}")
    return id


class KeysQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """``subject``: only keys that speak for it."""

    subject: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


@KEYS.read(_HERE, verb="keys", any_ledger=True, query=KeysQuery, answer=Page[KeyAnswer])
def list_keys(call: Call) -> Page[KeyAnswer]:
    """The keys that this key may manage, by id; revoked and expired ones too."""
    place = call.page_place({"subject": call.query.subject}, call.query.cursor, "")
    control, subject, limit = call.service.control, place.filters["subject"], call.query.limit
    shown: list[ApiKey] = []
    after, more = place.after, True
    while more and len(shown) <= limit:
        found = control.keys(subject=subject, after=after, limit=_AT_ONCE)
        shown += [key for key in found if _manages(call.principal, key)]
        more = len(found) == _AT_ONCE
        after = found[-1].id if found else after
    items = [key_answer(key) for key in shown[:limit]]
    return Page(items, call.cursor(place, items[-1].id) if len(shown) > limit else "")


@KEYS.read(_ONE, verb="keys", any_ledger=True, answer=KeyAnswer)
def get_key(call: Call) -> KeyAnswer:
    """A key as it is kept, without its secret."""
    return key_answer(_managed(call))


@KEYS.write(
    f"{_ONE}/rotate", verb="keys", any_ledger=True, body=RotateKeyRequest, answer=NewKeyAnswer, status=201, example={}
)
def rotate_key(call: Call) -> NewKeyAnswer:
    """Make a key in the place of another, alike in everything but its token; the old one goes on for a while.

    A repeat under the same idempotency key is answered with the same new key, without the token.
    """
    old = _managed(call)
    _check_grant(call, principal_of(old).scopes, old.subject, old.expires, old.requests_per_second)
    token, key = call.service.keyring.rotate(old.id, keep_seconds=call.body.keep_seconds, new_id=_new_id(call))
    call.replayed = not token
    return new_key_answer(key, token)


@KEYS.write(f"{_ONE}/revoke", verb="keys", any_ledger=True, body=NoMore, answer=KeyAnswer, example={})
def revoke_key(call: Call) -> KeyAnswer:
    """End a key, for good: here at once, in other processes within a second."""
    key = _managed(call)
    call.replayed = bool(key.revoked)
    return key_answer(call.service.keyring.revoke(key.id))


# ---------------------------------------------------------------- who may


def _managed(call: Call) -> ApiKey:
    """The key in the path. Raises NotFound, also for one that this key does not manage."""
    id = call.path["key"]
    found = call.service.control.key(id)
    if found is None or not _manages(call.principal, found):
        raise NotFound(what=f"key {id[:40]}")
    return found


def _manages(principal: Principal, key: ApiKey) -> bool:
    """Whether the verb ``keys`` reaches wherever this key does."""
    if _manages_all(principal):
        return True
    scopes = principal_of(key).scopes
    return bool(scopes) and all(principal.covers("keys", scope.ledger, scope.account_prefix) for scope in scopes)


def _manages_all(principal: Principal) -> bool:
    return principal.covers("keys", "*", "")


def _check_grant(call: Call, scopes: tuple[object, ...], subject: str, expires: str, rate: int) -> None:
    """Raises Forbidden if this key may not make one that is like this."""
    principal = call.principal
    principal.require_grant(scopes)  # type: ignore[arg-type]
    _check_life(call, expires)
    if _manages_all(principal):
        return
    own_names = principal.key_id and (subject == principal.subject or subject.startswith(f"{principal.subject}:"))
    if not own_names:
        problem = f"a key for some ledgers makes keys for {principal.subject} and {principal.subject}:... alone"
        raise Forbidden(problem=problem)
    if not scopes:
        raise Forbidden(problem="a key for some ledgers makes no keys without scopes")
    most = principal.requests_per_second or call.service.settings.requests_per_second
    if most and not 0 < (rate or call.service.settings.requests_per_second) <= most:
        raise Forbidden(problem=f"nobody gives away more than he has: {most} requests a second")


def _check_life(call: Call, expires: str) -> None:
    """No key makes one that outlives it."""
    own = call.service.control.key(call.principal.key_id) if call.principal.key_id else None
    if own is not None and own.expires and (not expires or parse_time(expires, "expires") > own.expires):
        raise Forbidden(problem=f"nobody gives away more than he has: this key expires at {own.expires}")
