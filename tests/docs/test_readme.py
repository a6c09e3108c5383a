"""What README.md shows works as it is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(heading: str, language: str) -> str:
    """The code block of this language below a heading."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None, f"no {language} under {heading}"
    return found[1]


def test_the_library_example_runs(tmp_path: Path) -> None:
    example = block("As a library", "python")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(example.splitlines()) <= 15
    assert (tmp_path / "ledger.db").exists()


def test_the_command_lines_run_in_order(tmp_path: Path) -> None:
    lines = block("On the command line", "console").splitlines()
    evidence = block("Evidence", "console").splitlines()
    assert len(lines) == len(evidence) == 5
    for line in lines + evidence:
        words = shlex.split(line)
        command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), line


def test_two_commands_get_a_newcomer_going() -> None:
    commands = [line.split("#")[0].split() for line in block("Get going", "console").splitlines()]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == [["make", "demo"], ["make", "test"]]
    assert {"demo", "test"} <= set(targets)


def test_every_link_leads_somewhere() -> None:
    links = [
        (page.name, link)
        for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md")
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert [(page, link) for page, link in links if not (ROOT / link).exists()] == []


def test_it_claims_no_more_than_is_shown() -> None:
    text = README.lower()
    assert [word for word in ("tamper-proof", "tamperproof", "audited", "proof of reserves") if word in text] == []
    assert "internally consistent, not witnessed" in text
