"""What docs/client.md shows works as it is shown; keys that must sign can use the client as it says."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.access.signatures import sign_request
from tallystick.client.asking import MAX_KEY
from tallystick.client.following import MAX_EVENT_BYTES, SILENT_SECONDS
from tallystick.client.lines import LONGEST_NUMBER, MAX_BYTES, MAX_LINES
from tallystick.client.trying import MAX_ANSWER_BYTES
from tallystick.errors import Unauthenticated
from tallystick.journal.log_inclusion import did_key
from tests.client.support import Asker
from tests.support.service import Served

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text(encoding="utf-8")


def test_every_example_runs_in_its_order(here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_URL", here.base)
    monkeypatch.setenv("TALLY_TOKEN", here.admin.token)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)
    assert names["posted"].id == names["again"].id
    assert names["kept"]


def test_the_limits_are_those_of_the_code() -> None:
    assert (MAX_ANSWER_BYTES, MAX_EVENT_BYTES, SILENT_SECONDS) == (128 << 20, 4 << 20, 45)
    assert (MAX_LINES, MAX_BYTES, MAX_KEY, MAX_KEY - LONGEST_NUMBER) == (500, 512 << 10, 255, 235)


def test_a_key_that_must_sign_signs(here: Served, asker: Asker) -> None:
    private = Ed25519PrivateKey.generate()
    signer = did_key(private.public_key().public_bytes_raw())
    token = here.caller(role="admin", signer=signer).token

    def use(client: Any) -> Any:
        return client.ledger("main").transfer("users:alice", "users:bob", "USD/2", 1, dry_run=True)

    assert asker.ask(here.base, token, use, sign=functools.partial(sign_request, private)).seq == 3
    with pytest.raises(Unauthenticated):
        asker.ask(here.base, token, use)
