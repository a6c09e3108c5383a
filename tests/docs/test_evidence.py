"""What docs/evidence.md shows works as it is shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.journal.policies import Policy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
PROGRAMS = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    """The code blocks of this language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_examples_run_in_order(tmp_path: Path) -> None:
    done = run("\n".join(blocks("console")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "consistent with what was shown from outside" in done.stdout
    assert Policy.parse((tmp_path / "policy").read_bytes()).satisfied_by(["w1"])
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    size = int((tmp_path / "published" / "checkpoint").read_text(encoding="utf-8").splitlines()[1])
    done = run("tally log status --json", tmp_path)
    assert f'"events": {size}, "signed": {size}' in done.stdout


def lines_that_are_not_run() -> list[str]:
    """Those that need another machine, or that end only when they are told to."""
    return [line for block in blocks("text") for line in block.splitlines() if line.startswith("tally ")]


def test_every_command_is_either_run_or_looked_at() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("tally ")]
    run_lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("tally ")]
    assert sorted(shown) == sorted(run_lines + lines_that_are_not_run())


@pytest.mark.parametrize("line", lines_that_are_not_run())
def test_what_is_not_run_has_the_options_that_it_names(line: str, tmp_path: Path) -> None:
    words = shlex.split(line.replace("$(cat log.vkey)", "VKEY"))
    program = str(PROGRAMS / words[0])
    done = subprocess.run([program, *words[1:], "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_would_be_noticed(tmp_path: Path) -> None:
    command = [str(PROGRAMS / "tally"), "log", "keep", "--evry", "5", "--help"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 2


def test_the_alarms_are_quoted_as_they_are_raised() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/tallystick/evidence").glob("*.py"))
    raised = re.sub(r"\{[^{}]*\}", "0", sources)
    section = PAGE.split("## When it says log_forked")[1].split("\n## ")[0]
    first_column = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
    quoted = [text for cell in first_column for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) >= 5
    assert [text for text in quoted if re.sub(r"\d+", "0", text) not in raised] == []


def test_the_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^):]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_it_claims_no_more_than_is_shown() -> None:
    text = PAGE.lower()
    assert [word for word in ("tamper-proof", "tamperproof", "audited", "proof of reserves") if word in text] == []
    assert "internally consistent, not witnessed" in text
