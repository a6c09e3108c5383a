"""Who asks, and what he may do: scopes by verb, ledger and account prefix.

Everything that is not granted is refused: a principal without scopes may do nothing. A scope's prefix is an address,
and covers that account and all beneath it: ``users:alice`` covers ``users:alice:savings``, and not ``users:alice2``.
One that ends with a colon covers what is beneath it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

from msgspec import Struct

from tallystick.accounts import MAX_ADDRESS, check_address, is_under, role_of
from tallystick.clock import parse_time
from tallystick.control.records import Mandate, Scope, Verb
from tallystick.errors import Forbidden, InvalidInput
from tallystick.kernel.state import check_ledger_name
from tallystick.money import MAX_AMOUNT, split_asset

VERBS: tuple[Verb, ...] = get_args(Verb)

ROLES: dict[str, tuple[Verb, ...]] = {
    "admin": VERBS,
    "writer": ("read", "post", "issue"),
    "reader": ("read",),
    "auditor": ("read", "audit"),
    "public": (),
}
"""What each role may do, in all ledgers and on all accounts."""

ALL_LEDGERS = "*"

MAX_SCOPES = 100
"""Of one key."""

MAX_PAYEES = 1_000
"""Of one mandate."""

_PREFIX = re.compile(r"@?[A-Za-z0-9_.:%\-]*\Z")


class Principal(Struct, frozen=True):
    """Who asks. ``key_id`` is the API key that he came with; without one he came with another's token (OIDC)."""

    subject: str
    scopes: tuple[Scope, ...]
    key_id: str = ""
    mandate: Mandate | None = None
    signer: str = ""
    """The did:key that must sign what he writes; empty: none has to."""
    requests_per_second: int = 0

    @property
    def actor(self) -> str:
        """The actor of the events that he brings about."""
        return f"key:{self.subject}" if self.key_id else f"oidc:{self.subject}"

    @property
    def source(self) -> str:
        """The source of his idempotency keys. A subject that an issuer named cannot take the keys of one of ours."""
        return self.subject if self.key_id else f"oidc:{self.subject}"

    def may(self, verb: Verb, ledger: str) -> bool:
        """Whether he may do this in the ledger (``*``: in every one), on whatever accounts."""
        return any(scope.verb == verb and scope.ledger in (ALL_LEDGERS, ledger) for scope in self.scopes)

    def covers(self, verb: Verb, ledger: str, account: str) -> bool:
        """Whether he may do this on the account."""
        return any(
            scope.verb == verb and scope.ledger in (ALL_LEDGERS, ledger) and is_under(account, scope.account_prefix)
            for scope in self.scopes
        )

    def prefixes(self, verb: Verb, ledger: str) -> tuple[str, ...] | None:
        """The prefixes of the accounts on which he may do this, none of which is under another; ``("",)`` is all
        accounts, None is not at all."""
        least: list[str] = []
        for prefix in sorted(
            scope.account_prefix
            for scope in self.scopes
            if scope.verb == verb and scope.ledger in (ALL_LEDGERS, ledger)
        ):
            if not any(is_under(prefix, wider) for wider in least):
                least.append(prefix)
        return tuple(least) or None

    def require(self, verb: Verb, ledger: str, accounts: Iterable[str] = ()) -> None:
        """Raises Forbidden unless he may do this in the ledger, on each of the accounts."""
        if not self.may(verb, ledger):
            raise Forbidden(problem=f"it has no scope {verb} in {_shown(ledger)}")
        for account in accounts:
            if not self.covers(verb, ledger, account):
                raise Forbidden(problem=f"its scope {verb} in {_shown(ledger)} does not cover {account}")

    def require_whole(self, verb: Verb, ledger: str) -> None:
        """Raises Forbidden unless he may do this on all accounts of the ledger."""
        self.require(verb, ledger)
        if not self.covers(verb, ledger, ""):
            raise Forbidden(problem=f"its scope {verb} in {_shown(ledger)} is for some accounts only")

    def require_grant(self, scopes: Iterable[Scope]) -> None:
        """Raises Forbidden unless he may make a key with these scopes: none reaches further than his own, and he may
        make keys wherever they hold. Who is held to a mandate makes no keys: they would not be held to it."""
        if self.mandate is not None:
            raise Forbidden(problem="a key with a mandate makes no other keys")
        for scope in scopes:
            for verb in dict.fromkeys((scope.verb, "keys")):
                if not self.covers(verb, scope.ledger, scope.account_prefix):
                    raise Forbidden(problem=f"nobody gives away more than he has: {format_scope(scope)} needs {verb}")


def _shown(ledger: str) -> str:
    return "all ledgers" if ledger == ALL_LEDGERS else f"ledger {ledger}"


# ---------------------------------------------------------------- scopes as text


def parse_scope(text: str) -> Scope:
    """A scope from ``<verb>[:<ledger>[:<account prefix>]]``, as ``read:main:users:``. Raises InvalidInput."""
    verb, *rest = text.split(":", 2)
    scope = Scope(verb, *rest)  # type: ignore[arg-type]
    return check_scope(scope)


def format_scope(scope: Scope) -> str:
    """The scope as ``parse_scope`` reads it, as short as it can be said."""
    if scope.account_prefix:
        return f"{scope.verb}:{scope.ledger}:{scope.account_prefix}"
    return scope.verb if scope.ledger == ALL_LEDGERS else f"{scope.verb}:{scope.ledger}"


def role_scopes(role: str) -> tuple[Scope, ...]:
    """What a role allows (nothing, for one that is not known: a key of a later version must not open more here)."""
    return tuple(Scope(verb) for verb in ROLES.get(role, ()))


# ---------------------------------------------------------------- checks at the edge


def check_scope(scope: Scope, path: str = "scope") -> Scope:
    """The scope itself, if it can mean something; raises InvalidInput."""
    if scope.verb not in VERBS:
        raise InvalidInput(path=f"{path}.verb", problem=f"{scope.verb!r:.80} is none of {', '.join(VERBS)}")
    if scope.ledger != ALL_LEDGERS:
        check_ledger_name(scope.ledger)
    prefix = scope.account_prefix
    if "*" in prefix:
        raise InvalidInput(
            path=f"{path}.account_prefix",
            problem=f"{prefix!r:.80} has a star; a prefix ends where it stands, and an empty one is every account",
        )
    if len(prefix) > MAX_ADDRESS or not _PREFIX.match(prefix):
        raise InvalidInput(path=f"{path}.account_prefix", problem=f"{prefix!r:.80} is not the beginning of an address")
    return scope


def check_mandate(mandate: Mandate) -> Mandate:
    """The mandate, its expiry as journal time; raises InvalidInput, naming the path, for one that cannot be kept."""
    check_ledger_name(mandate.ledger)
    check_address(mandate.account, "mandate.account")
    if role_of(mandate.account) not in ("holder", "treasury"):
        raise InvalidInput(path="mandate.account", problem=f"nobody is given a mandate over {mandate.account}")
    split_asset(mandate.asset)
    for name in ("max_per_act", "max_per_day"):
        limit = getattr(mandate, name)
        if limit is not None and (type(limit) is not int or not 0 <= limit <= MAX_AMOUNT):
            raise InvalidInput(path=f"mandate.{name}", problem=f"{limit!r:.80} is not 0 to {MAX_AMOUNT} minor units")
    if len(mandate.payees) > MAX_PAYEES:
        raise InvalidInput(path="mandate.payees", problem=f"there may be {MAX_PAYEES} at most")
    for index, payee in enumerate(mandate.payees):
        _check_payee(payee, f"mandate.payees[{index}]")
    expires = parse_time(mandate.expires, "mandate.expires") if mandate.expires else ""
    return Mandate(
        mandate.ledger,
        mandate.account,
        mandate.asset,
        mandate.max_per_act,
        mandate.max_per_day,
        tuple(mandate.payees),
        expires,
    )


def _check_payee(payee: str, path: str) -> None:
    if not payee.endswith("*"):
        check_address(payee, path)
    elif len(payee) > MAX_ADDRESS or not _PREFIX.match(payee[:-1]):
        raise InvalidInput(path=path, problem=f"{payee!r:.80} is neither an address nor a beginning of one and a star")
