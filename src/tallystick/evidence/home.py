"""A log's home: the folder outside the database where its key, its verifier keys and its last checkpoint lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec

from tallystick.commands import RotateKey
from tallystick.errors import InvalidInput, LogNotFound, NoteInvalid, Unavailable
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.log import Log
from tallystick.evidence.signers import FileSigner, KmsSigner
from tallystick.journal.notes import ED25519, Signer, VerifierKey
from tallystick.ledger import Ledger

SETTINGS = "log.json"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a home says of its log: its origin, and the key that signs, a file beside it or an ARN of AWS KMS."""

    origin: str
    key: Annotated[str, msgspec.Meta(pattern=r"^key(-[1-9][0-9]{0,5})?\Z")] = "key"
    kms: str = ""


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

        Raises InvalidInput if another log lives here, or for an origin that no key can be named; Unavailable if the
        folder cannot be made; what the signers raise.
        """
        _check_origin(origin)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(reason=f"the folder {self.folder} cannot be made: {error.strerror}") from None
        settings = Settings(origin=origin, kms=kms)
        kept = self._files.read(SETTINGS)
        if kept is not None and (self.settings.origin, self.settings.kms) != (origin, kms):
            raise InvalidInput(path="origin", problem=f"the log {self.settings.origin} lives in {self.folder}")
        signer = self._signer(self.settings if kept else settings, create=kept is None)
        if kept is None:
            self._write(settings, before=None)
        log = Log(ledger, signer, self._files)
        ledger.post(_recorded(signer))
        return log

    def open(self, ledger: Ledger) -> Log:
        """The log that lives here. Raises LogNotFound, KeyFileUnsafe, InvalidInput."""
        return Log(ledger, self._signer(self.settings, create=False), self._files)

    def rotate(self, log: Log, *, kms: str = "") -> bytes | None:
        """Make a new key (or go over to one of KMS) and sign with it from now on; the checkpoint that covers the change
        bears the old one too. If it was interrupted, it goes on where it was.

        Others who have the log open go on signing with the old key until they open it again. Raises InvalidInput for
        a key of KMS that signs already or did once.
        """
        after, signer = self._next(log, self.settings, kms)
        note = log.rotate(signer, key=_recorded(signer).key)
        self._write(after, before=self._files.read(SETTINGS))
        return note

    def _next(self, log: Log, before: Settings, kms: str) -> tuple[Settings, Signer]:
        """The key to go over to. The newest of the log's keys may be one of a rotation that was interrupted; those
        before it are used up."""
        former = log.keys[:-1]
        if kms:
            after = Settings(origin=before.origin, key=before.key, kms=kms)
            signer = self._signer(after, create=False)
            if kms == before.kms or signer.verifier in former:
                raise InvalidInput(path="kms", problem=f"{kms} signs for {before.origin} already, or did once")
            return after, signer
        number = int(before.key.partition("-")[2] or 1) + 1
        while True:
            after = Settings(origin=before.origin, key=f"key-{number}")
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
        VerifierKey(origin, ED25519, bytes(32))
    except NoteInvalid as error:
        raise InvalidInput(path="origin", problem=str(error.data["problem"])) from None


def _recorded(signer: Signer) -> RotateKey:
    """The command that records a key in the ledger; the same key is recorded once."""
    key = str(signer.verifier)
    return RotateKey(key=f"key:{signer.verifier.id.hex()}", source="log", public_key=key)
