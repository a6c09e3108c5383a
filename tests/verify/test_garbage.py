"""Whatever a bundle's files hold, the verifier answers with a verdict or a refusal to begin, never with a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallystick import verify
from tests.verify.bundles import VKEY, encoded, judged, opening_of, write_bundle
from tests.verify.replay import replay

UNEXPECTED = "unexpected: the bundle"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, trade: list[bytes]) -> Path:
    """A bundle that has every kind of file."""
    files = {"attestations/1.json": b"{}", "policy": b"quorum none\n", "derived/trial_balance.json": b"{}"}
    folder = tmp_path_factory.mktemp("window")
    return write_bundle(folder, trade, window=(300, 700), opening=opening_of(trade, 300), kept=(400,), files=files)


def check_answer(folder: Path) -> None:
    try:
        report = judged(folder)
    except verify.Usage:
        return
    text = json.dumps(report)
    assert UNEXPECTED not in text, text
    assert not report["ok"]


_WORDS = st.sampled_from(
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b"\xff\xfe",
        b"{" * 3_000,
        b"[" * 100_000,
        b"\x00\x01x",
        b"9" * 5_000,
        b'{"a":1e999}',
    ]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_file_may_hold_anything(window: Path, data: st.DataObject):
    file = data.draw(st.sampled_from(sorted(p for p in window.rglob("*") if p.is_file())), label="file")
    good = file.read_bytes()
    at = data.draw(st.integers(0, len(good)), label="position")
    garbage = data.draw(st.one_of(_WORDS, st.binary(max_size=200)), label="garbage")
    keep = data.draw(st.booleans(), label="keep around it")
    bad = good[:at] + garbage + good[at:] if keep else garbage
    if bad == good:
        return
    try:
        file.write_bytes(bad)
        check_answer(window)
    finally:
        file.write_bytes(good)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 2**60), st.text(max_size=5), st.sampled_from(["0", "10", "a/0"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in _paths(item, (*path, key)))]


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", ["manifest.json", "opening.json"])
def test_any_value_in_a_json_file_may_be_any_other(window: Path, name: str, data: st.DataObject):
    good = (window / name).read_bytes()
    value = json.loads(good)
    path = data.draw(st.sampled_from(_paths(value)), label="path")
    changed = _replaced(value, path, data.draw(_JSON, label="value"))
    if changed == value:
        return
    try:
        (window / name).write_bytes(encoded(changed))
        check_answer(window)
    finally:
        (window / name).write_bytes(good)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_in_an_event_may_be_any_other(data: st.DataObject, journey: list[bytes]):
    seq = data.draw(st.integers(0, len(journey) - 2), label="seq")  # the next one names its hash
    event = json.loads(journey[seq])
    path = data.draw(st.sampled_from(_paths(event)), label="path")
    try:
        body = encoded(_replaced(event, path, data.draw(_JSON, label="value")))
    except UnicodeEncodeError:
        return
    report, book = replay([*journey[:seq], body, *journey[seq + 1 :]])
    book.check_end()
    assert report.failed == (body != journey[seq])
    assert report.as_text()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
@example(b"\n\n")
@example("a\n1\nb\n\n— a b\n".encode())
@example(b"c2sp.org/tlog-proof@v1\nextra eA==\nindex 0\n\n")
def test_keys_checkpoints_receipts_policies_and_envelopes_of_any_bytes_are_refused(garbage: bytes):
    for parse in (verify.parse_checkpoint, verify.parse_receipt, verify.parse_policy):
        with pytest.raises(verify.Bad):
            parse(garbage)
    with pytest.raises(verify.Bad):
        verify.parse_key(garbage.decode("latin-1"))


def test_a_size_beyond_all_bounds_ends_where_the_files_end(tmp_path: Path, trade: list[bytes]):
    folder = write_bundle(tmp_path, trade)
    note = (folder / "checkpoint").read_bytes().replace(b"\n700\n", b"\n9000000000000000000\n")
    (folder / "checkpoint").write_bytes(note)
    assert not judged(folder, keys=[VKEY])["ok"]
