"""A log's home: the folder outside the database where its key, its verifier keys and its last checkpoint lie."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from tallystick.commands import RotateKey
from tallystick.errors import InvalidInput, LedgerNotFound
from tallystick.evidence.directory import DirectoryPublication
from tallystick.evidence.log import Log
from tallystick.evidence.signers import FileSigner, KmsSigner
from tallystick.journal.notes import Signer
from tallystick.ledger import Ledger

SETTINGS = "log.json"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a home says of its log: its origin, and the key that signs, a file beside it or an ARN of AWS KMS."""

    origin: str
    key: str = "key"
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
        """Raises LedgerNotFound if no log lives here, InvalidInput if what is written cannot be read."""
        kept = self._files.read(SETTINGS)
        if kept is None:
            raise LedgerNotFound(path=f"{self.folder} of a log; begin one with tally log init")
        try:
            return msgspec.json.decode(kept, type=Settings)
        except msgspec.DecodeError as error:
            raise InvalidInput(path=str(self.folder / SETTINGS), problem=str(error)) from None

    def begin(self, ledger: Ledger, origin: str, *, kms: str = "") -> Log:
        """Begin a log named ``origin`` (a domain and a path, without a scheme, that are yours for ever) and record its
        key in the ledger. Beginning the same log again changes nothing.

        Raises InvalidInput if another log lives here; what the signers raise.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        """The log that lives here. Raises LedgerNotFound, KeyFileUnsafe, InvalidInput."""
        return Log(ledger, self._signer(self.settings, create=False), self._files)

    def rotate(self, log: Log, *, kms: str = "") -> bytes | None:
        """Make a new key (or go over to one of KMS) and sign with it from now on; the checkpoint that covers the change
        bears the old one too. If it was interrupted, it goes on where it was."""
        before = self.settings
        number = int(before.key.partition("-")[2] or 1) + 1
        after = Settings(origin=before.origin, key=before.key if kms else f"key-{number}", kms=kms)
        signer = self._signer(after, create=True)
        note = log.rotate(signer, key=_recorded(signer).key)
        self._write(after, before=self._files.read(SETTINGS))
        return note

    def _signer(self, settings: Settings, *, create: bool) -> Signer:
        if settings.kms:
            return KmsSigner(settings.kms, settings.origin)
        return FileSigner(self.folder / settings.key, settings.origin, create=create)

    def _write(self, settings: Settings, before: bytes | None) -> None:
        text = json.dumps(msgspec.structs.asdict(settings), indent=2) + "\n"
        self._files.replace(SETTINGS, text.encode(), before=before)


def _recorded(signer: Signer) -> RotateKey:
    """The command that records a key in the ledger; the same key is recorded once."""
    key = str(signer.verifier)
    return RotateKey(key=f"key:{signer.verifier.id.hex()}", source="log", public_key=key)
