"""The tools: all that an agent may do. Nothing is updated, and nothing deleted: a ledger has no such thing."""

from __future__ import annotations

from tallystick.agents.reading import BALANCE, FIND, RECEIPT
from tallystick.agents.statements import STATEMENT
from tallystick.agents.tool import Tool
from tallystick.agents.verifying import VERIFY
from tallystick.agents.writing import CAPTURE, FREEZE, RELEASE, TRANSFER

TOOLS: tuple[Tool, ...] = (BALANCE, TRANSFER, FREEZE, CAPTURE, RELEASE, STATEMENT, VERIFY, RECEIPT, FIND)
"""In the order in which they are listed."""
