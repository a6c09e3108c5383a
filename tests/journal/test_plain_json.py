"""JSON from others: nothing passes that another parser might read in another way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.journal.plain_json import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_what_is_json_is_read_however_it_is_laid_out(value: object, indent: int | None) -> None:
    assert read_json(json.dumps(value, indent=indent).encode()) == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"1 2", "Extra data"),
        (b'"\xff"', "decode byte"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'{"a":1,"a":1}', "a key is there twice"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "a key is there twice"),
        (b"[" * 100_000, "nested too deep"),
        (b"9" * 5_000, "limit"),
    ],
)
def test_what_is_none_or_has_two_readings_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_json(data)
