"""Policies: what a verifier trusts, as a text of its own (C2SP tlog-policy).

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

A checkpoint is valid under a policy if one of its logs signed it and the quorum's witnesses cosigned it. A name is
defined once, before it is used, and is a member of one group at most, so groups cannot turn in a circle and no witness
counts twice. Names are octets to the specification: those that are not UTF-8 are kept as surrogate escapes.

Stricter than asked: a last line without its newline is refused, for a file cut short could demand less than was meant.
Limits: MAX_POLICY_BYTES, and MAX_DEFINITIONS of logs, of witnesses and of groups each. Raises NoteInvalid throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tallystick.errors import NoteInvalid
from tallystick.journal.notes import COSIGNATURE, ML_DSA_44, VerifierKey

MAX_POLICY_BYTES = 1_000_000
MAX_DEFINITIONS = 256
NONE = "none"

_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE = re.compile(r"[ \t]+")
_THRESHOLD = re.compile(r"[1-9][0-9]{0,3}\Z")


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log whose checkpoints are accepted. The key's name is the log's origin."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A known witness. ``name`` has no meaning outside of the policy."""

    name: str
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class PolicyGroup:
    """Members (witnesses or earlier groups) of which ``threshold`` must have witnessed a checkpoint."""

    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Known logs, known witnesses, and the quorum. Built by ``parse`` alone, which checks how they fit together."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    @classmethod
    def parse(cls, text: str | bytes) -> Policy:
        """The policy of this text. Raises NoteInvalid with the number of the line."""
        reader = _Reader()
        for number, line in enumerate(_lines(text), 1):
            words = _SPACE.split(line.strip(" \t"))
            if not words[0] or words[0].startswith("#"):
                continue
            try:
                reader.read(words[0], words[1:])
            except NoteInvalid as error:
                raise NoteInvalid(problem=f"line {number} of the policy: {error.data['problem']}") from None
        if not reader.quorum:
            raise NoteInvalid(problem="the policy has no quorum line")
        return cls(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)

    @property
    def log_keys(self) -> tuple[VerifierKey, ...]:
        return tuple(log.key for log in self.logs)

    @property
    def witness_keys(self) -> tuple[VerifierKey, ...]:
        return tuple(witness.key for witness in self.witnesses)

    def satisfied_by(self, cosigned: Iterable[VerifierKey | str]) -> bool:
        """Whether these witnesses, by key or by their names here, make the quorum. Strangers do not count.

        That their signatures hold is for the caller to have checked (``signers_of``).
        """
        given = set(cosigned)
        if self.quorum == NONE:
            return True
        met = {witness.name for witness in self.witnesses if witness.key in given or witness.name in given}
        for group in self.groups:  # members were defined before their group
            if sum(member in met for member in group.members) >= group.threshold:
                met.add(group.name)
        return self.quorum in met


def _lines(text: str | bytes) -> list[str]:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > MAX_POLICY_BYTES:
        raise NoteInvalid(problem=f"the policy has {len(data)} bytes, more than {MAX_POLICY_BYTES}")
    if _FORBIDDEN.search(data):
        raise NoteInvalid(problem="the policy has a control character other than tab and newline")
    if not data.endswith(b"\n"):
        raise NoteInvalid(problem="the policy's last line has no newline: it may have been cut short")
    return data.decode("utf-8", "surrogateescape")[:-1].split("\n")


@dataclass(slots=True)
class _Reader:
    logs: list[PolicyLog] = field(default_factory=list)
    witnesses: list[PolicyWitness] = field(default_factory=list)
    groups: list[PolicyGroup] = field(default_factory=list)
    quorum: str = ""
    defined: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)

    def read(self, keyword: str, words: list[str]) -> None:
        readers = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}
        if keyword not in readers:
            raise NoteInvalid(problem=f"{keyword!r} begins no line of a policy")
        readers[keyword](words)
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > MAX_DEFINITIONS:
            raise NoteInvalid(problem=f"there are more than {MAX_DEFINITIONS} {keyword} lines")

    def _log(self, words: list[str]) -> None:
        if len(words) not in (1, 2):
            raise NoteInvalid(problem="it is not: log <vkey> [<url>]")
        key = VerifierKey.parse(words[0])
        if any(log.key.key == key.key for log in self.logs):
            raise NoteInvalid(problem="the key is that of a log before it")
        self.logs.append(PolicyLog(key, *words[1:]))

    def _witness(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            raise NoteInvalid(problem="it is not: witness <name> <vkey> [<url>]")
        self._define(words[0])
        key = VerifierKey.parse(words[1])
        if key.type not in (COSIGNATURE, ML_DSA_44):
            raise NoteInvalid(problem=f"a key of type {key.type:#04x} makes no cosignatures")
        if any(witness.key.key == key.key for witness in self.witnesses):
            raise NoteInvalid(problem="the key is that of a witness before it")
        self.witnesses.append(PolicyWitness(words[0], key, *words[2:]))

    def _group(self, words: list[str]) -> None:
        if len(words) < 3:
            raise NoteInvalid(problem="it is not: group <name> all|any|<k> <name>...")
        name, rule, *members = words
        for member in members:
            if member not in self.defined:
                raise NoteInvalid(problem=f"{member!r} is not a witness or group defined before it")
            if member in self.members:
                raise NoteInvalid(problem=f"{member!r} is already a member of a group")
            self.members.add(member)
        self._define(name)
        self.groups.append(PolicyGroup(name, _threshold(rule, len(members)), tuple(members)))

    def _quorum(self, words: list[str]) -> None:
        if self.quorum or len(words) != 1:
            raise NoteInvalid(problem="there is exactly one quorum line, with one name")
        if words[0] != NONE and words[0] not in self.defined:
            raise NoteInvalid(problem=f"{words[0]!r} is not a witness or group defined before it")
        self.quorum = words[0]

    def _define(self, name: str) -> None:
        if name == NONE or name in self.defined:
            raise NoteInvalid(problem=f"the name {name!r} is taken")
        self.defined.add(name)


def _threshold(rule: str, count: int) -> int:
    if rule in ("all", "any"):
        return count if rule == "all" else 1
    if not _THRESHOLD.match(rule) or int(rule) > count:
        raise NoteInvalid(problem=f"{rule!r} is not all, any, or a number from 1 to {count}")
    return int(rule)
