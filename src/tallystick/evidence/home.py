"""A log's home: the folder outside the database where its key, its verifier keys and its last checkpoint lie."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec

from tallystick.commands import RotateKey
from tallystick.errors import InvalidInput, KeyFileUnsafe, LogNotFound, NoteInvalid, Unavailable
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.log import Log
from tallystick.evidence.publications import publication_at
from tallystick.evidence.signers import FileSigner, KmsSigner
from tallystick.journal.checkpoints import read_checkpoint
from tallystick.journal.notes import Note, Signer, VerifierKey, check_name
from tallystick.ledger import Ledger
from tallystick.ledger.journal import Journal

SETTINGS = "log.json"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a home says of its log: its origin, and the key that signs, a file beside it or an ARN of AWS KMS;
    where it is published, which is looked at before each signature, and the file of its policy, as far as it was told.
    """

    origin: str
    key: Annotated[str, msgspec.Meta(pattern=r"^key(-[1-9][0-9]{0,5})?\Z")] = "key"
    kms: str = ""
    publication: str = ""
    policy: str = ""


class LogHome:
    """The home of one ledger's log in a folder of this machine, readable for its owner alone."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._files = DirectoryPublication(self.folder)

    def __repr__(self) -> str:
        return f"LogHome({str(self.folder)!r})"

    @property
    def settings(self) -> Settings:
        """Raises LogNotFound if no log lives here, InvalidInput if what is written cannot be read."""
        kept = self._files.read(SETTINGS)
        if kept is None:
            raise LogNotFound(path=str(self.folder))
        try:
            return msgspec.json.decode(kept, type=Settings)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(path=str(self.folder / SETTINGS), problem=str(error)) from None

    def begin(self, ledger: Ledger, origin: str, *, kms: str = "") -> Log:
        """Begin a log named ``origin`` (a domain and a path, without a scheme, that are yours for ever) and record its
        key in the ledger. Beginning the same log again changes nothing.

        Raises InvalidInput if another log lives here, for an origin that no key can be named or that another ledger of
        the database has, and, before anything is made, if the ledger has a log already and this is not its home;
        LogForked if this is the home of a log that the ledger does not extend; Unavailable if the folder cannot be
        made; KeyFileUnsafe if others may write in it; what the signers raise.
        """
        _check_origin(origin)
        _check_neighbours(ledger.journal, origin)
        if not kms and not any(os.path.lexists(self.folder / name) for name in (SETTINGS, "key")):
            self._check_fresh(ledger.journal)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(reason=f"the folder {self.folder} cannot be made: {error.strerror}") from None
        self._check_folder()
        settings = Settings(origin=origin, kms=kms)
        kept = self._files.read(SETTINGS)
        if kept is not None and (self.settings.origin, self.settings.kms) != (origin, kms):
            raise InvalidInput(path="origin", problem=f"the log {self.settings.origin} lives in {self.folder}")
        signer = self._signer(self.settings if kept else settings, create=kept is None)
        if kept is None:
            if not _has_signed(signer.verifier, ledger.journal):  # else the log's key has been put back here
                self._check_fresh(ledger.journal)
            self._write(settings, before=None)
            return self._begun(ledger, signer, settings)
        return self._begun(ledger, signer, self.settings)

    def _begun(self, ledger: Ledger, signer: Signer, settings: Settings) -> Log:
        log = self._log(ledger, signer, settings)
        if log.note is None or self._files.read("checkpoint") is not None:  # else it is to be adopted
            log.check()
            ledger.post(_recorded(signer))
        return log

    def open(self, ledger: Ledger) -> Log:
        """The log that lives here. Raises LogNotFound, KeyFileUnsafe, InvalidInput."""
        settings = self.settings
        self._check_folder()
        return self._log(ledger, self._signer(settings, create=False), settings)

    def remember(self, *, publication: str = "", policy: str = "") -> None:
        """Write down where the log is published, ``s3://bucket/prefix`` or a folder, and which file has its policy.

        What a log knows of is looked at before each signature. Raises LogNotFound, InvalidInput, Unavailable.
        """
        before, settings = self._files.read(SETTINGS), self.settings
        if publication:
            publication = publication if publication.startswith("s3://") else os.path.abspath(publication)
            settings = msgspec.structs.replace(settings, publication=publication)
        if policy:
            settings = msgspec.structs.replace(settings, policy=os.path.abspath(policy))
        if settings != self.settings:
            self._write(settings, before)

    def _log(self, ledger: Ledger, signer: Signer, settings: Settings) -> Log:
        published = publication_at(settings.publication) if settings.publication else None
        return Log(ledger, signer, self._files, published=published)

    def _check_folder(self) -> None:
        """Raises KeyFileUnsafe if others may exchange what lies here, the last checkpoint first of all."""
        try:
            mode = self.folder.stat().st_mode
        except OSError as error:
            raise Unavailable(reason=f"the folder {self.folder} cannot be looked at: {error.strerror}") from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = f"others than its owner may write in its folder (mode {stat.S_IMODE(mode):04o}); `chmod 700` it"
            raise KeyFileUnsafe(path=str(self.folder), problem=problem)

    def _check_fresh(self, journal: Journal) -> None:
        """Raises InvalidInput if the ledger's log has signed: a second key would begin a second history of it."""
        note = journal.checkpoint()
        if note is None:
            return
        origin = read_checkpoint(note).origin
        way = (
            f"name that one; or, if it is lost, put the copy of the log's key into {self.folder / 'key'} (mode 0600; "
            "not for KMS), begin the log again with the same origin, and then adopt it (tally log adopt)"
        )
        problem = f"{journal.ledger} has the log {origin} already, and {self.folder} is not its home: {way}"
        raise InvalidInput(path="home", problem=problem)

    def rotate(self, log: Log, *, kms: str = "") -> bytes | None:
        """Make a new key (or go over to one of KMS) and sign with it from now on; the checkpoint that covers the change
        bears the old one too. If it was interrupted, it goes on where it was.

        Others who have the log open go on signing with the old key until they open it again. Raises InvalidInput for
        a key of KMS that signs already or did once.
        """
        settings = self.settings
        log.check()  # before a key is made
        after, signer = self._next(log, settings, kms)
        note = log.rotate(signer, key=_recorded(signer).key)
        self._write(after, before=self._files.read(SETTINGS))
        return note

    def _next(self, log: Log, before: Settings, kms: str) -> tuple[Settings, Signer]:
        """The key to go over to. The newest of the log's keys may be one of a rotation that was interrupted; those
        before it are used up."""
        former = log.keys[:-1]
        if kms:
            after = msgspec.structs.replace(before, kms=kms)
            signer = self._signer(after, create=False)
            if kms == before.kms or signer.verifier in former:
                raise InvalidInput(path="kms", problem=f"{kms} signs for {before.origin} already, or did once")
            return after, signer
        number = int(before.key.partition("-")[2] or 1) + 1
        while True:
            after = msgspec.structs.replace(before, key=f"key-{number}", kms="")
            signer = self._signer(after, create=True)
            if signer.verifier not in former:
                return after, signer
            number += 1

    def _signer(self, settings: Settings, *, create: bool) -> Signer:
        if settings.kms:
            return KmsSigner(settings.kms, settings.origin)
        return FileSigner(self.folder / settings.key, settings.origin, create=create)

    def _write(self, settings: Settings, before: bytes | None) -> None:
        text = json.dumps(msgspec.structs.asdict(settings), indent=2) + "\n"
        self._files.replace(SETTINGS, text.encode(), before=before)


def _check_origin(origin: str) -> None:
    """Before anything is written: a log's name is its key's name."""
    try:
        check_name(origin)
    except NoteInvalid as error:
        raise InvalidInput(path="origin", problem=str(error.data["problem"])) from None


def _check_neighbours(journal: Journal, origin: str) -> None:
    """Raises InvalidInput if another ledger of the database has a log of this name: to whoever checks, two histories
    under one name are a fork."""
    for other in journal.neighbours():
        try:
            taken = VerifierKey.parse(other.recorded_key).name
        except NoteInvalid:
            continue
        if taken == origin:
            raise InvalidInput(
                path="origin", problem=f"{origin} is the log of the ledger {other.ledger}: choose another"
            )


def _has_signed(key: VerifierKey, journal: Journal) -> bool:
    """Whether the newest checkpoint in the database bears a signature of this key's name and id; that it holds is for
    whoever adopts it."""
    note = journal.checkpoint()
    return note is not None and any(line.is_by(key) for line in Note.parse(note).signatures)


def _recorded(signer: Signer) -> RotateKey:
    """The command that records a key in the ledger; the same key is recorded once."""
    key = str(signer.verifier)
    return RotateKey(key=f"key:{signer.verifier.id.hex()}", source="log", public_key=key)
