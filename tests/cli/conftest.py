"""The command line as a user has it: a ledger file in an empty folder, or a database."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tallystick.cli import main
from tests.conftest import NewUrl
from tests.support.stores import LASTING


class Tally:
    """Runs `tally` in this process, in one folder; ``file`` is the ledger's file or URL."""

    def __init__(self, folder: Path, file: str) -> None:
        self.folder = folder
        self.file = file

    def run(self, *words: str, stdin: bytes | None = None) -> Result:
        """The result, whatever it is; a traceback is a failure of the test."""
        result = CliRunner().invoke(main, ["-f", self.file, *words], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            traceback.print_exception(result.exception)
            raise AssertionError(f"tally {' '.join(words)} ended with {result.exception!r}")
        return result

    def __call__(self, *words: str, stdin: bytes | None = None) -> str:
        """The output of a command that must succeed."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *words: str, stdin: bytes | None = None) -> Any:
        """The one JSON document that a command writes, which must succeed."""
        return json.loads(self(*words, "--json", stdin=stdin))

    def refused(self, *words: str, code: int = 1) -> dict[str, Any]:
        """The error that a command writes as JSON; nothing may stand on standard output."""
        result = self.run(*words, "--json")
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        error: dict[str, Any] = json.loads(result.stderr)["error"]
        return error

    def lines(self, *words: str) -> list[Any]:
        """The JSON lines that a command writes."""
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def available(self, account: str) -> dict[str, str]:
        """What is available, by asset, in minor units as text."""
        return {row["asset"]: row["amount"] for row in self.json("balances", account) if row["bucket"] == "available"}

    def write(self, name: str, text: str | bytes) -> str:
        """A file in the folder; its path."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)


@pytest.fixture(params=LASTING)
def url(request: pytest.FixtureRequest, tmp_path: Path, new_url: NewUrl) -> str:
    """Where the ledger will be."""
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else new_url(request.param)


@pytest.fixture
def empty(tmp_path: Path, url: str) -> Tally:
    """A folder without a ledger."""
    return Tally(tmp_path, url)


@pytest.fixture
def tally(empty: Tally) -> Tally:
    """A ledger in which users:alice has 100.00 USD/2."""
    empty("create")
    empty("mint", "users:alice", "100", "USD/2", "--key", "first")
    return empty
