"""docs/agents.md and docs/billing-extension.md: their examples work, and what they list is what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from tallystick.agents.tools import TOOLS
from tallystick.billing.extension import EXTENSION, STAGES, descriptor, extension_schema
from tallystick.cli import main
from tallystick.cli.mcp import mcp

DOCS = Path(__file__).resolve().parents[2] / "docs"
AGENTS = (DOCS / "agents.md").read_text()
BILLING = (DOCS / "billing-extension.md").read_text()


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def configurations() -> list[dict[str, Any]]:
    return [json.loads(block)["mcpServers"]["ledger"] for block in blocks(AGENTS, "json")]


def test_the_table_has_every_tool_with_what_it_does_to_value() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", AGENTS, re.MULTILINE)
    told = [(name, writes.strip() == "yes", spends.strip() == "yes") for name, writes, spends in rows]
    assert told == [(tool.name, tool.writes, tool.spends) for tool in TOOLS]


def test_the_commands_make_a_key_with_a_mandate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in blocks(AGENTS, "console")[0].splitlines():
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert "5.00 at once" in result.output or "5.00 USD/2 at once" in result.output


def test_the_configurations_start_what_there_is() -> None:
    found = configurations()
    assert len(found) == 3
    for given in found:
        if "command" in given:
            command, *words = given["args"]
            assert (given["command"], command) == ("tally", "mcp")
            known = {option for parameter in mcp.params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known


def test_the_extensions_page_shows_what_the_code_makes() -> None:
    declared, carried = (json.loads(block) for block in blocks(BILLING, "json"))
    params = {name: declared["params"][name] for name in ("service", "ledger", "payee", "assets")}
    assert declared == descriptor(**params)
    jsonschema.validate(carried[EXTENSION], extension_schema())
    parts = carried[EXTENSION]["settlement"]
    assert sum(int(part["amount"]) for part in parts) == int(carried[EXTENSION]["amount"])
    assert re.findall(r"^\| `(\w+)` \| ([A-Z_]+) \|", BILLING, re.MULTILINE) == [
        (s, told) for told, s in STAGES.items()
    ]
