"""The kinds of store that a test may run on."""

from __future__ import annotations

import pytest

KINDS = ["memory", "sqlite", "postgres"]

LASTING = ["sqlite", "postgres"]
"""Those that can be opened again."""

on_lasting_stores = pytest.mark.parametrize("url", LASTING, indirect=True)
"""For a test that opens its ledger more than once."""

before_there_is_a_store = pytest.mark.parametrize("url", ["sqlite", "empty postgres"], indirect=True)
"""For a test of what is done, or is not, where there is neither a file nor any table."""

on_files = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""For a test of what only a file can be or do."""
