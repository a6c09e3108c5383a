"""Who comes in, and what he may do: keys, an identity provider's tokens, signed requests, mandates, rate limits."""

from tallystick.access.keys import REVOKED_WITHIN_SECONDS, TOKEN_LENGTH, Keyring
from tallystick.access.limits import RateLimits
from tallystick.access.mandates import MAX_BINDINGS, Mandates, Standing
from tallystick.access.principal import (
    ROLES,
    VERBS,
    Principal,
    check_mandate,
    check_scope,
    format_scope,
    parse_scope,
    role_scopes,
)

__all__ = [
    "MAX_BINDINGS",
    "REVOKED_WITHIN_SECONDS",
    "ROLES",
    "TOKEN_LENGTH",
    "VERBS",
    "Keyring",
    "Mandates",
    "Principal",
    "RateLimits",
    "Standing",
    "check_mandate",
    "check_scope",
    "format_scope",
    "parse_scope",
    "role_scopes",
]
