"""The alert rules ask for nothing that is not measured, each tells what to do, and the documentation is complete."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tallystick import Posted
from tallystick.control.records import JobRun
from tallystick.errors import Unavailable, Unbalanced
from tallystick.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES_FILE = ROOT / "deploy" / "alerts.yml"
DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES_FILE.read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

SELECTOR = re.compile(r"\b(tallystick[_:][a-z0-9_:]+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
BY = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")


def everything() -> Metrics:
    """Metrics of which each has been set or counted once."""
    metrics = Metrics()
    results = [Posted("main", 0, "0" * 64, "t", replayed) for replayed in (False, True)]
    metrics.postings("main", [*results, Unbalanced(), Unavailable(reason="gone")], 0.01)
    metrics.request("post_transfer", 200, 0.01)
    metrics.delivered("e1", "dead")
    metrics.lag("main", "e1", 1.0)
    metrics.checkpoint_lag("main", 1.0)
    metrics.queue("main", 3)
    metrics.replay_result("main", ok=True, findings=0)
    metrics.trial_balance("main", {"USD/2": 0})
    metrics.coverage("main", "USD/2", 1.5)
    metrics.job_schedule("expiry", 60.0)
    metrics.job_ended("expiry", "done")
    time = "2026-01-02T00:00:00.000000Z"
    metrics.runs([JobRun(job="expiry", ledger="main", started=time, finished=time, outcome="done")])
    return metrics


FAMILIES = [
    family
    for family in text_string_to_metric_families(everything().render().decode())
    if family.name.startswith("tallystick_")
]
LABELS: dict[str, set[str]] = {}
for _family in FAMILIES:
    for _sample in _family.samples:
        LABELS.setdefault(_sample.name, set()).update(_sample.labels)


def name_of(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


def test_every_metric_is_exercised_here() -> None:
    assert not [family.name for family in FAMILIES if not family.samples]
    assert len(FAMILIES) == len(re.findall(r"^# TYPE tallystick_", everything().render().decode(), re.MULTILINE))


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_rule_asks_only_for_what_is_measured(rule: dict[str, Any]) -> None:
    found = SELECTOR.findall(rule["expr"])
    assert found
    known: set[str] = set()
    for name, selector in found:
        assert name in LABELS or name in RECORDED, name
        labels = LABELS.get(name, set())
        assert set(LABEL.findall(re.sub(r'"[^"]*"', "", selector))) <= labels
        known |= labels
    for names in BY.findall(rule["expr"]):
        assert {each.strip() for each in names.split(",") if each.strip()} <= known


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_outcomes_that_a_rule_names_are_counted(rule: dict[str, Any]) -> None:
    counted = {
        sample.labels["outcome"] for family in FAMILIES for sample in family.samples if "outcome" in sample.labels
    }
    for named in re.findall(r'outcome=~?"([^"]*)"', rule["expr"]):
        assert set(named.split("|")) <= counted


def test_a_name_that_is_not_measured_would_be_found() -> None:
    (found,) = SELECTOR.findall('sum(rate(tallystick_posting_total{outcome="posted"}[5m]))')
    assert found == ("tallystick_posting_total", 'outcome="posted"')
    assert found[0] not in LABELS


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    section = DOCUMENT.split(f"\n### {rule['alert']}\n")
    assert len(section) == 2
    assert section[1].strip().startswith(f"*{rule['labels']['severity']}.*")
    named = set(re.findall(r"\$labels\.([a-z_]+)", rule["annotations"]["summary"]))
    assert named <= {each.strip() for names in BY.findall(rule["expr"]) for each in names.split(",")}


def test_the_documentation_knows_no_alert_that_there_is_not() -> None:
    assert re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE) == [rule["alert"] for rule in ALERTS]


def test_what_was_asked_for_has_an_alert() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in ALERTS}
    assert expressions["TallystickErrorRate"].endswith("> 0.01")
    assert "[5m]" in next(rule["expr"] for rule in RULES if rule.get("record") == "tallystick:http_errors:ratio_rate5m")
    assert expressions["TallystickOutboxLag"].endswith("> 300")
    assert expressions["TallystickReplayMismatch"].endswith("== 0")
    assert expressions["TallystickUnbalanced"].endswith("> 0")
    assert not any(
        "for" in rule for rule in ALERTS if rule["alert"] in ("TallystickReplayMismatch", "TallystickUnbalanced")
    )


def test_the_documentation_lists_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(tallystick_\w+)` \| (\w+) \|([^|]*)\|", DOCUMENT, re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    measured = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in FAMILIES
    }
    assert documented == measured
    assert len(rows) == len(documented)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules", str(RULES_FILE)],
                                     ["test", "rules", str(Path(__file__).with_name("alerts.test.yml"))]])  # fmt: skip
def test_prometheus_own_tool_agrees(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
