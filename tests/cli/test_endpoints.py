"""`tally endpoints`: what it keeps, shows, keeps to itself, and refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from tallystick.cli.endpoints import COMMANDS, KINDS
from tallystick.cli.root import Tally as Root
from tallystick.control import Attempt, Control, Delivery, open_control
from tallystick.delivery import operations, sinks
from tests.cli.conftest import Tally

HOOK = "https://shop.example.com/hooks"
QUEUE = "https://sqs.eu-central-1.amazonaws.com/123456789012/events.fifo"


class Endpoints(Tally):
    """Runs `tally endpoints` in this process, for the ledgers of another ``Tally``."""

    def run(self, *words: str, stdin: bytes | None = None) -> Result:
        root = Root("tally", commands={command.name or "": command for command in COMMANDS})
        places = ["--ledger-file", self.file]
        result = CliRunner().invoke(root, ["endpoints", words[0], *places, *words[1:]], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"tally endpoints {' '.join(words)} ended") from result.exception
        return result

    def control(self) -> Control:
        """The records that it works on."""
        return open_control(self.file if "://" in self.file else Path(self.file), create=False)


@pytest.fixture
def endpoints(tally: Tally) -> Endpoints:
    return Endpoints(tally.folder, tally.file)


@pytest.fixture
def one(tmp_path: Path) -> Endpoints:
    """Of a ledger file, for what does not depend on the store."""
    found = Tally(tmp_path, str(tmp_path / "ledger.db"))
    found("create")
    found("mint", "users:alice", "100", "USD/2", "--key", "first")
    return Endpoints(found.folder, found.file)


class Receiver(BaseHTTPRequestHandler):
    """Takes what is posted to /ok and nothing else."""

    taken: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken.append((dict(self.headers), body))
        self.send_response(204 if self.path == "/ok" else 418)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Receiver, "taken", [])
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# ---------------------------------------------------------------- making and looking


def test_an_endpoint_is_added_listed_shown_and_removed(endpoints: Endpoints) -> None:
    added = endpoints.json("add", HOOK, "--id", "shop", "--type", "transfer", "--type", "mint", "--prefix", "users:")
    assert added["id"] == "shop"
    assert [secret[:6] for secret in added["secrets"]] == ["whsec_"]
    shown = endpoints.json("show", "shop")
    assert (shown["url"], shown["types"], shown["account_prefix"]) == (HOOK, ["mint", "transfer"], "users:")
    assert (shown["state"], shown["signatures"], shown["waiting"], shown["dead"]) == ("enabled", ["v1"], 0, 0)
    assert [row["id"] for row in endpoints.json("list")] == ["shop"]
    assert endpoints.json("remove", "shop") == {"removed": "shop", "cursor": shown["cursor"], "waiting": 0, "dead": 0}
    assert endpoints("list") == "nobody is told\n"
    assert endpoints.refused("show", "shop")["code"] == "not_found"


def test_it_is_told_of_events_to_come_unless_another_start_is_named(one: Endpoints) -> None:
    assert one.json("add", HOOK, "--id", "new")["start"] == 2
    assert one.json("add", HOOK, "--id", "all", "--start", "0")["start"] == 0
    assert [one.json("show", id)["cursor"] for id in ("new", "all")] == [2, 0]
    for wrong in ("-1", "soon", "٣", "1" * 20):
        assert one.refused("add", HOOK, "--start", wrong, code=2)["code"] == "usage"


def test_a_secret_is_shown_once_and_never_again(one: Endpoints) -> None:
    added = one.json("add", HOOK, "--id", "shop", "--signature", "v1", "--signature", "v1a")
    assert [secret.partition("_")[0] for secret in added["secrets"]] == ["whsec", "whpk"]
    with_control = one.control()
    kept = with_control.endpoint("shop")
    with_control.close()
    assert kept is not None
    later = "".join(one(*words, *end) for words in (("show", "shop"), ("list",)) for end in ((), ("--json",)))
    for secret in kept.secrets:
        assert secret not in later
        assert secret.partition("_")[2] not in later
    assert added["secrets"][1] in later


def test_passwords_in_urls_are_not_shown(one: Endpoints) -> None:
    one("add", "--kind", "nats", "nats://tally:s3cret@nats.example.com", "--id", "bus")
    for words in (("show", "bus"), ("list",), ("show", "bus", "--json"), ("list", "--json")):
        shown = one(*words)
        assert "s3cret" not in shown
        assert "nats.example.com" in shown


@pytest.mark.parametrize(
    ("kind", "url", "settings"),
    [
        ("sqs", QUEUE, {"group": "account"}),
        ("sns", "arn:aws:sns:eu-central-1:123456789012:events", {}),
        ("eventbridge", "arn:aws:events:eu-central-1:123456789012:event-bus/default", {"source": "books"}),
        ("nats", "nats://nats.example.com", {"subject": "books.{ledger}.{type}", "stream": "BOOKS"}),
        ("file", "events.jsonl", {"order": "ledger"}),
    ],
)
def test_every_kind_of_sink_can_be_added(one: Endpoints, kind: str, url: str, settings: dict[str, str]) -> None:
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    assert one.json("add", url, "--kind", kind, "--id", "sink", *words)["secrets"] == []
    shown = one.json("show", "sink")
    assert (shown["kind"], shown["url"], shown["settings"], shown["signatures"]) == (kind, url, settings, [])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("add", "http://127.0.0.1/hooks"), "URL"),
        (("add", "--kind", "sqs", "https://sqs.example.com/q"), "URL"),
        (("add", "--kind", "nats", "nats://n", "--set", "subject=a.*"), "--set"),
        (("add", "--kind", "file", "events.jsonl", "--set", "colour=blue"), "--set"),
        (("add", HOOK, "--set", "order"), "--set"),
        (("add", HOOK, "--set", "order=none"), "--set"),
        (("add", HOOK, "--type", "no_such_type"), "--type"),
        (("add", HOOK, "--prefix", "a b"), "--prefix"),
        (("add", HOOK, "--id", "a/b"), "--id"),
        (("add", HOOK, "--mapping", "billing", "--type", "mint"), "--type"),
    ],
)
def test_what_is_wrong_is_said_by_its_word_on_the_command_line(
    one: Endpoints, words: tuple[str, ...], option: str
) -> None:
    error = one.refused(*words, code=2)
    assert error["code"] == "usage"
    assert option in error["message"]
    assert one.json("list") == []


def test_an_id_is_given_once(one: Endpoints) -> None:
    one("add", HOOK, "--id", "shop")
    assert "--id" in one.refused("add", HOOK + "/2", "--id", "shop", code=2)["message"]
    assert one.json("show", "shop")["url"] == HOOK


def test_types_of_the_ledgers_own_may_be_named(one: Endpoints) -> None:
    one.refused("add", HOOK, "--type", "marketplace_sale", code=2)
    Tally(one.folder, one.file)("type", "define", "marketplace_sale", "--key", "type")
    one("add", HOOK, "--id", "shop", "--type", "marketplace_sale")
    assert one.json("show", "shop")["types"] == ["marketplace_sale"]


def test_endpoints_of_other_ledgers_are_listed_with_all(one: Endpoints) -> None:
    Tally(one.folder, one.file)("create", "-l", "other")
    one("add", HOOK, "--id", "here")
    one("add", HOOK, "--id", "there", "-l", "other")
    assert [row["id"] for row in one.json("list")] == ["here"]
    assert [row["id"] for row in one.json("list", "-l", "other")] == ["there"]
    assert [row["id"] for row in one.json("list", "--all")] == ["here", "there"]


def test_looking_makes_no_records_and_adding_needs_the_ledger(one: Endpoints, tmp_path: Path) -> None:
    assert one("list") == "nobody is told\n"
    assert one.refused("show", "shop")["code"] == "not_found"
    assert one.refused("add", HOOK, "-l", "missing", code=3)["code"] == "ledger_not_found"
    nowhere = Endpoints(tmp_path, str(tmp_path / "nowhere.db"))
    assert nowhere.refused("list", code=3)["path"] == nowhere.file
    assert not [path for path in tmp_path.iterdir() if "service" in path.name or "nowhere" in path.name]


def test_the_table_has_a_row_for_each_and_the_facts_a_line(one: Endpoints) -> None:
    one("add", HOOK, "--id", "shop", "--set", "order=ledger")
    lines = one("list").splitlines()
    assert lines[0].split() == ["id", "ledger", "kind", "url", "state", "cursor", "waiting", "dead"]
    assert lines[1].split() == ["shop", "main", "webhook", HOOK, "enabled", "2", "0", "0"]
    facts = dict(line.split(None, 1) for line in one("show", "shop").splitlines())
    assert (facts["settings"], facts["cursor"], facts["signatures"]) == ("order=ledger", "2", "v1")


def test_the_kinds_that_are_offered_are_those_that_there_are() -> None:
    assert KINDS == operations.KINDS == ("webhook", *sinks.KINDS)


# ---------------------------------------------------------------- states and secrets


def test_an_endpoint_is_disabled_with_a_reason_and_enabled_again(endpoints: Endpoints) -> None:
    endpoints("add", HOOK, "--id", "shop")
    assert endpoints("disable", "shop", "--reason", "moving") == "shop is disabled: moving\n"
    assert endpoints.json("show", "shop")["reason"] == "moving"
    assert endpoints.json("enable", "shop")["state"] == "enabled"
    assert endpoints.json("show", "shop")["reason"] == ""


@pytest.mark.parametrize("command", ["show", "remove", "enable", "disable", "ping", "deliveries", "rotate-secret"])
def test_an_endpoint_that_is_not_there_is_said_not_to_be(one: Endpoints, command: str) -> None:
    one("add", HOOK)
    assert one.refused(command, "ep_missing")["code"] == "not_found"


def test_a_rotation_has_two_secrets_until_it_is_ended(endpoints: Endpoints) -> None:
    first = endpoints.json("add", HOOK, "--id", "shop")["secrets"][0]
    second = endpoints.json("rotate-secret", "shop")["secrets"]
    assert len(second) == 1
    assert second[0] != first
    assert endpoints.json("show", "shop")["signatures"] == ["v1", "v1"]
    control = endpoints.control()
    assert getattr(control.endpoint("shop"), "secrets", None) == (second[0], first)
    control.close()
    endpoints("rotate-secret", "shop", "--end")
    control = endpoints.control()
    assert getattr(control.endpoint("shop"), "secrets", None) == (second[0],)
    control.close()
    assert endpoints.json("rotate-secret", "shop", "--signature", "v1a")["secrets"][0].startswith("whpk_")


def test_a_sink_has_no_secret_to_rotate(one: Endpoints) -> None:
    one("add", "--kind", "file", "events.jsonl", "--id", "file")
    assert "has no secrets" in one.refused("rotate-secret", "file", code=2)["message"]


# ---------------------------------------------------------------- delivering


def test_a_ping_reaches_a_webhook_and_says_how_it_went(one: Endpoints, receiver: str) -> None:
    one("add", f"{receiver}/ok", "--id", "good", "--allow-private")
    one("add", f"{receiver}/no", "--id", "bad", "--allow-private")
    answer = one.json("ping", "good", "--allow-private")
    assert (answer["accepted"], answer["status"]) == (True, 204)
    headers, body = Receiver.taken[0]
    assert json.loads(body)["type"] == "tallystick.ping.v1"
    assert {name.lower() for name in headers} >= {"webhook-id", "webhook-timestamp", "webhook-signature"}
    refused = one.run("ping", "bad", "--allow-private")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "not accepted (status 418)" in refused.stderr


def test_a_private_address_is_pinged_only_when_that_is_said(one: Endpoints, receiver: str) -> None:
    one("add", f"{receiver}/ok", "--id", "good", "--allow-private")
    assert one.run("ping", "good").exit_code == 1
    assert Receiver.taken == []


def test_a_ping_reaches_a_file(one: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one("add", "--kind", "file", "events.jsonl", "--id", "file")
    monkeypatch.delenv("TALLYSTICK_SINK_FOLDER", raising=False)
    assert "TALLYSTICK_SINK_FOLDER" in one.run("ping", "file").stderr
    monkeypatch.setenv("TALLYSTICK_SINK_FOLDER", str(tmp_path))
    assert one.json("ping", "file")["accepted"] is True
    assert json.loads((tmp_path / "events.jsonl").read_bytes())["type"] == "tallystick.ping.v1"


def test_events_are_asked_for_again(endpoints: Endpoints) -> None:
    endpoints("add", HOOK, "--id", "shop")
    endpoints("add", HOOK, "--id", "mints", "--type", "mint")
    endpoints("add", HOOK, "--id", "all", "--start", "0")
    assert endpoints.json("redeliver", "shop", "1") == {
        "endpoint": "shop", "asked": 1, "filtered": 0, "still_to_come": 0
    }  # fmt: skip
    answer = endpoints.json("redeliver", "mints", "0", "1")
    assert (answer["asked"], answer["filtered"]) == (1, 1)
    assert endpoints.json("redeliver", "all", "0", "1")["still_to_come"] == 2
    (waiting,) = endpoints.json("deliveries", "shop")
    assert (waiting["seq"], waiting["redelivery"]) == (1, True)
    assert endpoints.json("show", "shop")["waiting"] == 1
    assert endpoints.refused("redeliver", "shop", "2")["code"] == "not_found"
    assert "LAST" in endpoints.refused("redeliver", "shop", "0", "10000", code=2)["message"]
    assert endpoints.run("redeliver", "shop", "2", "1").exit_code == 2


def test_an_endpoint_of_another_ledger_is_asked_for_without_naming_that(one: Endpoints) -> None:
    Tally(one.folder, one.file)("create", "-l", "other")
    one("add", HOOK, "--id", "there", "-l", "other")
    assert one.json("redeliver", "there", "0")["asked"] == 1


def test_what_was_not_accepted_and_what_was_tried_is_shown(endpoints: Endpoints) -> None:
    endpoints("add", HOOK, "--id", "shop")
    control = endpoints.control()
    time = "2026-11-21T09:00:00.000000Z"
    control.settle(
        "shop",
        deliveries=[
            Delivery(endpoint="shop", seq=0, state="dead", attempts=10, problem="status 500"),
            Delivery(endpoint="shop", seq=1, attempts=1, due=time, problem="no answer"),
            Delivery(endpoint="shop", seq=2),
        ],
        attempts=[
            Attempt(endpoint="shop", seq=1, number=1, time=time, problem="no answer", milliseconds=15_000),
            Attempt(endpoint="shop", seq=0, number=10, time=time[:18] + "1.000000Z", status=500, problem="status 500"),
        ],
    )
    control.close()
    assert [row["seq"] for row in endpoints.json("deliveries", "shop")] == [0, 1, 2]
    assert [row["seq"] for row in endpoints.json("deliveries", "shop", "--state", "dead")] == [0]
    assert [row["seq"] for row in endpoints.json("deliveries", "shop", "--state", "waiting", "--limit", "1")] == [1]
    assert [row["seq"] for row in endpoints.json("deliveries", "shop", "--event", "1")] == [1]
    assert endpoints.json("deliveries", "shop", "--event", "3") == []
    table = endpoints("deliveries", "shop").splitlines()
    assert table[1].split() == ["0", "dead", "10", "status", "500"]
    assert [row["number"] for row in endpoints.json("deliveries", "shop", "--log")] == [10, 1]
    assert [row["number"] for row in endpoints.json("deliveries", "shop", "--log", "--event", "1")] == [1]
    assert "15000" in endpoints("deliveries", "shop", "--log")
    shown = endpoints.json("show", "shop")
    assert (shown["waiting"], shown["dead"]) == (2, 1)
    assert endpoints.run("deliveries", "shop", "--log", "--state", "dead").exit_code == 2
    endpoints("remove", "shop")
    assert len(endpoints.json("deliveries", "shop", "--log")) == 2


def test_what_a_receiver_said_cannot_steer_the_terminal(one: Endpoints) -> None:
    one("add", HOOK, "--id", "shop")
    control = one.control()
    control.settle("shop", deliveries=[Delivery(endpoint="shop", seq=0, problem="\x1b[2J\nfake  row")])
    control.close()
    shown = one("deliveries", "shop")
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2
