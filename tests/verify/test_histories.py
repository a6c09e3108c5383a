"""Whatever the ledger accepts, the verifier accepts: random histories of the model's commands, and every event type."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick import verify
from tests.kernel.cases import RIGHT
from tests.model.trial import Trial
from tests.support.kernel import Scribe
from tests.verify.bundles import encoded
from tests.verify.journey import read_bodies
from tests.verify.replay import replay


@pytest.mark.parametrize("seed", range(3))
def test_a_random_history_keeps_every_rule_and_comes_to_the_same_balances(seed: int):
    trial = Trial("memory://", 4_000 + seed, reopen=False)
    try:
        for _ in range(150):
            trial.step()
        bodies = read_bodies(trial.database, "main")
        live = {row[:3]: (row[3].amount, row[3].version) for row in trial.database._store.balances("main")}
    finally:
        trial.close()
    report, book = replay(bodies)
    assert not report.failed, report.as_text()
    assert live == {(a, s, b): balance for (s, b), pocket in book.pockets.items() for a, balance in pocket.items()}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_every_right_use_of_an_event_type_is_right_for_the_verifier(name: str):
    scribe = Scribe()
    scribe.post(RIGHT["ledger_opened"](scribe))
    scribe.policy(strict=False)
    if name != "ledger_opened":
        scribe.post(RIGHT[name](scribe))
    report, _ = replay(scribe.bodies)
    assert not report.failed, report.as_text()


def said(bodies: list[bytes], *, short: bool) -> Any:
    """All that the verifier says of these events and the balances it comes to, with its short way or without."""
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setattr(verify, "_PLAIN_TRANSFER", re.compile("(?!)"))
        report, book = replay(bodies)
    return report.as_json(), book.pockets, book.keys, book.entries


TRANSFERS = re.compile(rb'"type":"transfer"')
_PIECES = st.sampled_from(
    [
        b"0",
        b"-",
        b"1",
        b"\\u0041",
        b'"',
        b" ",
        b",",
        b"{}",
        b'{"a":1}',
        b"\xc3\xa9",
        b"\x7f",
        b"@",
        b'"data":{},',
        b"9" * 19,
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_short_way_for_plain_transfers_says_what_the_general_way_says(trade: list[bytes], data: st.DataObject):
    places = [seq for seq in range(60, 120) if TRANSFERS.search(trade[seq])]
    seq = data.draw(st.sampled_from(places), label="seq")
    body = trade[seq]
    if data.draw(st.booleans(), label="as JSON"):
        event = json.loads(body)
        names = st.sampled_from(["actor", "data", "idem", "refs", "salt", "seq", "source", "time", "type", "effective"])
        values = st.sampled_from(
            ["", "x", "@issuance", {}, {"a": "b"}, {"order": ""}, {"order": "1"}, {"x": None}, 3, "mint"]
        )
        event[data.draw(names, label="name")] = data.draw(values, label="value")
        for entry in event["entries"] if data.draw(st.booleans(), label="other entries") else ():
            name = data.draw(st.sampled_from(sorted(entry)), label="entry's name")
            entry[name] = data.draw(
                st.sampled_from(["users:u1", "users:u2", "0", "5", "EUR/2", "held", 1]), label="value"
            )
        body = encoded(event)
    else:
        at = data.draw(st.integers(0, len(body)), label="position")
        cut = data.draw(st.integers(0, 3), label="cut")
        body = body[:at] + data.draw(_PIECES, label="piece") + body[at + cut :]
    bodies = [*trade[:seq], body, *trade[seq + 1 : seq + 8]]
    assert said(bodies, short=True) == said(bodies, short=False)


def test_a_whole_history_is_the_same_by_both_ways(trade: list[bytes]):
    found = [verify._PLAIN_TRANSFER.fullmatch(body.decode("latin-1")) for body in trade]
    assert sum(match is not None for match in found) > 500
    assert sum(match is not None and match[2] is not None and match[17] is not None for match in found) > 100
    assert said(trade, short=True) == said(trade, short=False)
