"""What was signed, left with others: `tally log deliver`, `tally log timestamp`, `tally verify timestamp`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cli.conftest import Tally
from tests.evidence import test_timestamps as stamps
from tests.evidence.log_service_support import TOKEN, serving

ORIGIN = "example.com/main"


@pytest.fixture
def signed(tmp_path: Path) -> Tally:
    """A ledger whose log was begun and signed."""
    tally = Tally(tmp_path, str(tmp_path / "ledger.db"))
    tally("create")
    tally("mint", "users:alice", "100.00", "USD/2", "--key", "m")
    tally("log", "init", "--origin", ORIGIN)
    return tally


def test_each_hash_is_delivered_once_and_a_root_each_day(signed: Tally, tmp_path: Path) -> None:
    token = signed.write("token", TOKEN)
    Path(token).chmod(0o600)
    with serving(tmp_path / "service.db") as (server, _):
        assert signed.json("log", "deliver", server.url, "--token-file", token) == {
            "size": 3,
            "sent": 3,
            "root": True,
            "gaps": [],
        }
        signed("transfer", "users:alice", "users:bob", "1.00", "USD/2", "--key", "t")
        again = signed.json("log", "deliver", server.url, "--token-file", token)
        assert (again["size"], again["sent"], again["root"]) == (3, 0, False)  # nothing new was signed
        signed("log", "checkpoint")
        assert "sent 1 hashes; the service has 4" in signed("log", "deliver", server.url, "--token-file", token)


def test_a_service_that_has_other_hashes_is_an_alarm(signed: Tally, tmp_path: Path) -> None:
    token = signed.write("token", TOKEN)
    Path(token).chmod(0o600)
    with serving(tmp_path / "service.db") as (server, _):
        signed("log", "deliver", server.url, "--token-file", token)
        other = Tally(tmp_path / "other", str(tmp_path / "other" / "ledger.db"))
        other.folder.mkdir()
        other("create")
        other("log", "init", "--origin", ORIGIN)
        for number in range(3):
            other("mint", "users:eve", "1.00", "USD/2", "--key", str(number))
        other("log", "checkpoint")
        assert other.refused("log", "deliver", server.url, "--token-file", token, code=3)["code"] == "log_forked"


def test_nothing_is_delivered_before_it_is_signed(tmp_path: Path) -> None:
    tally = Tally(tmp_path, str(tmp_path / "ledger.db"))
    tally("create")
    assert tally.refused("log", "deliver", "http://127.0.0.1:1/", code=3)["code"] == "log_not_found"


@pytest.mark.skipif(stamps.OPENSSL is None, reason="there is no openssl to be an authority")
def test_a_checkpoint_is_timestamped_once_and_anybody_can_check_it(signed: Tally, tmp_path: Path) -> None:
    authority = stamps.Authority(tmp_path / "authority")
    roots = signed.write("roots.pem", authority.root.public_bytes(Encoding.PEM))
    with stamps.serving(lambda query: stamps.reply(authority.answer(query))) as (url, sent):
        first = signed.json("log", "timestamp", url, "--roots", roots)
        assert first["events"] == 3
        assert signed.json("log", "timestamp", url, "--roots", roots) == first
    assert len(sent) == 1
    kept = tmp_path / "ledger.db.log" / "main" / "timestamps"
    files = [str(kept / "3.tsr"), str(kept / "3.checkpoint")]
    assert signed.json("verify", "timestamp", *files, "--roots", roots) == first
    (kept / "3.checkpoint").write_bytes((kept / "3.checkpoint").read_bytes().replace(b"\n3\n", b"\n4\n"))
    refused = signed.run("verify", "timestamp", *files, "--roots", roots)
    assert refused.exit_code == 1
    assert "not valid" in refused.stdout
