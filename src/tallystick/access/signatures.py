"""Requests that their sender signs: HTTP Message Signatures (RFC 9421) by Ed25519, the key named as a ``did:key``.

An API key shows the service who asks; it shows nobody else. A signed request does: its signature is kept in the event
that it brought about, with the text that was signed and the body, so that a stranger can check from the event alone who
asked for it, with what words, and under which idempotency key.

One signature per request, over ``@method``, ``@path``, ``@query`` (if there is one), ``content-digest`` (RFC 9530,
SHA-256) and ``idempotency-key``, and whatever else the sender covers: ``@authority`` and plain fields. It is good for
MAX_AGE_SECONDS. Sending it again within them gives the first answer again, as its idempotency key is covered.

    Content-Digest: sha-256=:...:
    Signature-Input: sig=("@method" "@path" "content-digest" "idempotency-key");created=1795251600;keyid="did:key:z6..."
    Signature: sig=:...:

What is not read: parameters of components, other derived components, other algorithms. All of these are refused.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from tallystick.errors import InvalidInput, NoteInvalid, ProofInvalid, Unauthenticated
from tallystick.events import Event
from tallystick.journal.log_inclusion import did_key, parse_did_key
from tallystick.journal.notes import ED25519, VerifierKey

MAX_AGE_SECONDS = 300
"""How far ``created`` may lie from the service's time, either way."""

MAX_FIELD_CHARACTERS = 4_096
"""Of one header field that is read."""

MAX_COMPONENTS = 20

MAX_BODY_BYTES = 16_384
"""Of a signed request: its body is kept in the event."""

PART_CHARACTERS = 1_024
"""Of one value of an event's metadata."""

MAX_BASE_PARTS = 8

RECORDED_WITHIN_SECONDS = 2 * MAX_AGE_SECONDS
"""How far an event's time may lie from its signature's: what the service allows, and its own delay."""

REQUIRED = ("@method", "@path", "content-digest", "idempotency-key")

LABEL = "sig"

RESERVED = "signed."
"""What the names of the metadata that keeps a signed request begin with."""

_KEY = r"[a-z*][a-z0-9_.*\-]*"
_NAME = r'"[@a-z0-9_.\-]+"'
_VALUE = r'(?:-?[0-9]{1,15}|"(?:[ !#-\[\]-~]|\\["\\])*")'
_INPUT = re.compile(rf"({_KEY})=\( *((?:{_NAME})(?: +{_NAME})*) *\)((?:; *{_KEY}={_VALUE})*)\Z")
_PARAMETER = re.compile(rf"; *({_KEY})=({_VALUE})")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/]{{86}}==):\Z")
_DIGEST = re.compile(rf"({_KEY})=:([A-Za-z0-9+/]*={{0,2}}):\Z")
_LINE = re.compile(rf"({_NAME}): ([ -~]*)\Z")
_PARAMETERS = frozenset({"created", "expires", "nonce", "alg", "keyid", "tag"})

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class SignedRequest(Struct, frozen=True):
    """A request whose signature was checked: who signed, the signature base (RFC 9421, 2.5), and the signature."""

    did: str
    base: str
    signature: bytes

    def metadata(self, body: bytes) -> dict[str, str]:
        """What the event keeps of it, in its metadata: ``signed.by``, ``signed.signature``, and in parts of 1,024
        characters ``signed.base`` and ``signed.body`` (the second part is ``signed.body.2``).

        Raises InvalidInput for a body that is not UTF-8, or above MAX_BODY_BYTES.
        """
        if len(body) > MAX_BODY_BYTES:
            problem = f"{len(body)} bytes are more than the {MAX_BODY_BYTES} that a signed request may have"
            raise InvalidInput(path="body", problem=problem)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise InvalidInput(path="body", problem="the body of a signed request is UTF-8") from None
        if len(self.base) > MAX_BASE_PARTS * PART_CHARACTERS:
            raise InvalidInput(path="headers", problem="the fields that are signed are too long to be kept")
        return {
            "signed.by": self.did,
            **_in_parts("signed.base", self.base),
            "signed.signature": base64.b64encode(self.signature).decode(),
            **_in_parts("signed.body", text),
        }


class _Input(Struct, frozen=True):
    """What a signature says that it covers, and its parameters; ``text`` as they are signed (RFC 9421, 2.3)."""

    names: tuple[str, ...]
    text: str
    created: int
    expires: int | None
    did: str


class _Wrong(Exception):
    """Why a signature is not accepted."""


# ---------------------------------------------------------------- checking a request


def verify(
    headers: Headers, method: str, path_with_query: str, authority: str = "", body: bytes = b"", *, now: str
) -> SignedRequest:
    """The request as it was signed. ``path_with_query`` is the target as it was sent, nothing decoded; ``headers`` had
    best be pairs, so that a field that comes twice is noticed; ``now`` is journal time.

    Raises Unauthenticated unless it is signed as this module's docstring says.
    """
    try:
        fields = _fields(headers)
        read = _read_input(fields)
        moment = datetime.fromisoformat(now).timestamp()
        if abs(moment - read.created) > MAX_AGE_SECONDS:
            raise _Wrong(f"created is not within {MAX_AGE_SECONDS} seconds of {now}")
        if read.expires is not None and read.expires <= moment:
            raise _Wrong("the signature has expired")
        values = _components(read.names, fields, method, path_with_query, authority)
        _check_digest(values["content-digest"], body)
        base = _base(values, read.text)
        signature = _read_signature(fields)
        _check_signature(read.did, signature, base)
    except _Wrong as wrong:
        raise Unauthenticated(problem=f"the request's signature: {wrong}") from None
    return SignedRequest(read.did, base, signature)


def require_signer(signer: str, signed: SignedRequest | None) -> None:
    """Raises Unauthenticated unless the request is signed by this ``did:key``; an empty one asks for no signature."""
    if signer and (signed is None or signed.did != signer):
        by = f"it is signed by {signed.did}" if signed else "it is not signed"
        raise Unauthenticated(problem=f"this key's requests must be signed by {signer}: {by}")


def _fields(headers: Headers) -> dict[str, str]:
    """The fields by name in lower case; one that comes twice is marked by a line break, which no value has."""
    found: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        known = found.get(name.lower())
        found[name.lower()] = value.strip(" \t") if known is None else f"{known}\n{value}"
    return found


def _field(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise _Wrong(f"there is no field {name}")
    if "\n" in value:
        raise _Wrong(f"the field {name} comes twice, or has a line break")
    if len(value) > MAX_FIELD_CHARACTERS:
        raise _Wrong(f"the field {name} has more than {MAX_FIELD_CHARACTERS} characters")
    if not _is_plain(value):
        raise _Wrong(f"the field {name} has a character that is not printable ASCII")
    return value


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _read_input(fields: Mapping[str, str]) -> _Input:
    found = _INPUT.match(_field(fields, "signature-input"))
    signed = _SIGNATURE.match(_field(fields, "signature"))
    if found is None:
        raise _Wrong("Signature-Input is not one list of components without parameters of their own")
    if signed is None or signed[1] != found[1]:
        raise _Wrong("Signature is not one Ed25519 signature with the same label as Signature-Input")
    return _parse_parameters(found[2], found[3])


def _read_signature(fields: Mapping[str, str]) -> bytes:
    found = _SIGNATURE.match(_field(fields, "signature"))
    return _decode(found[2] if found else "")


def _parse_parameters(names_text: str, parameters_text: str) -> _Input:
    names = tuple(name.strip('"') for name in names_text.split())
    if len(names) > MAX_COMPONENTS or len(set(names)) != len(names):
        raise _Wrong(f"a component is covered twice, or there are more than {MAX_COMPONENTS}")
    if missing := [name for name in REQUIRED if name not in names]:
        raise _Wrong(f"it does not cover {', '.join(missing)}")
    pairs = _PARAMETER.findall(parameters_text)
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or not parameters.keys() <= _PARAMETERS:
        raise _Wrong("a parameter comes twice, or is not known")
    if parameters.get("alg", '"ed25519"') != '"ed25519"':
        raise _Wrong("its algorithm is not ed25519")
    numbers = {name: parameters[name] for name in ("created", "expires") if name in parameters}
    if "created" not in numbers or any(text.startswith(('"', "-")) for text in numbers.values()):
        raise _Wrong("it has no time of creation, or one that is no time")
    if any(not parameters[name].startswith('"') for name in parameters.keys() - numbers.keys()):
        raise _Wrong("keyid, nonce and tag are texts")
    text = "".join(f";{name}={int(value) if name in numbers else value}" for name, value in pairs)
    return _Input(
        names=names,
        text="(" + " ".join(f'"{name}"' for name in names) + ")" + text,
        created=int(numbers["created"]),
        expires=int(numbers["expires"]) if "expires" in numbers else None,
        did=parameters.get("keyid", "").strip('"'),
    )


def _components(
    names: Iterable[str], fields: Mapping[str, str], method: str, path_with_query: str, authority: str
) -> dict[str, str]:
    """The value of each component that is covered, in order."""
    path, mark, query = path_with_query.partition("?")
    derived = {"@method": method, "@path": path, "@query": f"?{query}"}
    if authority:
        derived["@authority"] = authority.lower()
    values: dict[str, str] = {}
    for name in names:
        if not name.startswith("@"):
            values[name] = _field(fields, name)
        elif name not in derived:
            raise _Wrong(f"the component {name} is not known here")
        elif not _is_plain(derived[name]) or " " in derived[name]:
            raise _Wrong(f"{name} has a character that no request has")
        else:
            values[name] = derived[name]
    if mark and "@query" not in values:
        raise _Wrong("it does not cover @query")
    if not values["idempotency-key"]:
        raise _Wrong("the idempotency key is empty")
    return values


def _base(values: Mapping[str, str], parameters: str) -> str:
    lines = [f'"{name}": {value}' for name, value in values.items()]
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


def _check_digest(field: str, body: bytes) -> None:
    """RFC 9530: the digests by algorithm, of which SHA-256 must be one; others are not looked at."""
    found: dict[str, str] = {}
    for member in field.split(","):
        digest = _DIGEST.match(member.strip(" "))
        if digest is None or digest[1] in found:
            raise _Wrong("Content-Digest is not a list of digests, each algorithm once")
        found[digest[1]] = digest[2]
    if "sha-256" not in found:
        raise _Wrong("Content-Digest has no sha-256")
    if found["sha-256"] != base64.b64encode(hashlib.sha256(body).digest()).decode():
        raise _Wrong("Content-Digest is not that of the body")


@functools.lru_cache(maxsize=1_024)
def signer_key(did: str) -> Ed25519PublicKey:
    """The public key of a ``did:key``. Raises NoteInvalid for what is none of Ed25519, and for a key of small order,
    under which anybody could sign."""
    key = parse_did_key(did)
    VerifierKey("signer", ED25519, key)
    return Ed25519PublicKey.from_public_bytes(key)


def _check_signature(did: str, signature: bytes, base: str) -> None:
    try:
        signer_key(did).verify(signature, base.encode())
    except NoteInvalid:
        raise _Wrong("keyid is not the did:key of an Ed25519 key") from None
    except (InvalidSignature, ValueError):
        raise _Wrong("it is not that of the key, or the request is not what was signed") from None


def _decode(text: str) -> bytes:
    """64 bytes in their only spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if len(data) != 64 or base64.b64encode(data).decode() != text:
        raise _Wrong("it is not 64 bytes in base64")
    return data


# ---------------------------------------------------------------- checking an event


def check_event(event: Event) -> str:
    """Who asked for this event, by the signed request that it keeps: his ``did:key``. Nothing else is needed for it.

    What is shown: the holder of that key signed this method, path, body and idempotency key, at about this time; that
    the event does what the body says is for the reader to see. Raises ProofInvalid, also if the event keeps no request.
    """
    try:
        kept = event.data.get("metadata") or {}
        did, base, body = kept.get("signed.by"), _joined(kept, "signed.base"), _joined(kept, "signed.body")
        if not isinstance(did, str) or not base:
            raise _Wrong("the event keeps no signed request")
        values, read = _read_base(base)
        if read.did != did:
            raise _Wrong(f"it was signed with another key than that of {did}")
        if values["idempotency-key"] != event.idem:
            raise _Wrong("it was signed for another idempotency key")
        if abs(datetime.fromisoformat(event.time).timestamp() - read.created) > RECORDED_WITHIN_SECONDS:
            raise _Wrong("it was signed at another time")
        _check_digest(values["content-digest"], body.encode())
        _check_signature(did, _decode(str(kept.get("signed.signature", ""))), base)
    except _Wrong as wrong:
        raise ProofInvalid(problem=str(wrong)) from None
    return did


def as_first_signed(metadata: dict[str, str], event: Event) -> dict[str, str]:
    """What is kept of a signed request that already brought about this event: as it was signed then.

    Who asks again, later than a signature is good for, has to sign again; the signature is another one, but the request
    is not. It is the same if the same signer signed the same body and components, whatever its parameters; what is not
    is given back as it is, for the ledger to call it a conflict. ``metadata`` is from ``SignedRequest.metadata``.
    """
    kept = event.data.get("metadata") or {}
    first = {name: text for name, text in kept.items() if name.startswith(RESERVED)}
    try:
        same = _asked(first) == _asked(metadata)
    except _Wrong:
        same = False
    return first if same else metadata


def _asked(kept: Mapping[str, str]) -> tuple[str | None, str, dict[str, str]]:
    """Who asked for what: the signer, the body, and the components."""
    return kept.get("signed.by"), _joined(kept, "signed.body"), _read_base(_joined(kept, "signed.base"))[0]


def check_metadata(names: Iterable[str]) -> None:
    """Raises InvalidInput for metadata under a name that only a checked signature may bear. Without this, somebody
    could put another's signed request, as he finds it in an event, on an event of his own."""
    for name in names:
        if name.startswith(RESERVED):
            raise InvalidInput(path=f"metadata.{name:.64}", problem=f"names in {RESERVED}* are for signed requests")


def _read_base(base: str) -> tuple[dict[str, str], _Input]:
    """The components of a signature base, and its parameters; it must be the very text that they make."""
    values: dict[str, str] = {}
    for line in base.split("\n"):
        found = _LINE.match(line)
        if found is None or found[1].strip('"') in values:
            raise _Wrong("the signature base is not one")
        values[found[1].strip('"')] = found[2]
    found = _INPUT.match(f"{LABEL}={values.pop('@signature-params', '')}")
    if found is None:
        raise _Wrong("the signature base is not one")
    read = _parse_parameters(found[2], found[3])
    if read.names != tuple(values) or _base(values, read.text) != base:
        raise _Wrong("the signature base is not what it says that it covers")
    return values, read


def _in_parts(name: str, text: str) -> dict[str, str]:
    starts = range(0, len(text), PART_CHARACTERS) or range(1)
    return {
        name if number == 1 else f"{name}.{number}": text[start : start + PART_CHARACTERS]
        for number, start in enumerate(starts, start=1)
    }


def _joined(kept: Mapping[str, object], name: str) -> str:
    parts = [str(kept.get(name, ""))]
    while f"{name}.{len(parts) + 1}" in kept:
        parts.append(str(kept[f"{name}.{len(parts) + 1}"]))
    return "".join(parts)


# ---------------------------------------------------------------- signing


def sign_request(
    private_key: Ed25519PrivateKey,
    method: str,
    path_with_query: str,
    body: bytes,
    idempotency_key: str,
    *,
    authority: str = "",
    created: int | None = None,
) -> dict[str, str]:
    """The fields that a signed request bears, its idempotency key among them; ``created`` is Unix time (None: now).

    Raises InvalidInput for a target or key that no request can have.
    """
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    fields = {"idempotency-key": idempotency_key, "content-digest": f"sha-256=:{digest}:"}
    names = ["@method", "@path", "content-digest", "idempotency-key"]
    if "?" in path_with_query:
        names.insert(2, "@query")
    if authority:
        names.insert(1, "@authority")
    moment = int(datetime.now(UTC).timestamp()) if created is None else created
    covered = " ".join(f'"{name}"' for name in names)
    did = did_key(private_key.public_key().public_bytes_raw())
    parameters = f'({covered});created={moment};keyid="{did}";alg="ed25519"'
    try:
        base = _base(_components(names, fields, method, path_with_query, authority), parameters)
    except _Wrong as wrong:
        raise InvalidInput(path="request", problem=str(wrong)) from None
    signature = base64.b64encode(private_key.sign(base.encode())).decode()
    return {
        "Idempotency-Key": idempotency_key,
        "Content-Digest": fields["content-digest"],
        "Signature-Input": f"{LABEL}={parameters}",
        "Signature": f"{LABEL}=:{signature}:",
    }
