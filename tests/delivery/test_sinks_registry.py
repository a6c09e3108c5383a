"""Which sinks there are, what they need, what may be said to them, and what the operator says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.delivery import sinks
from tallystick.delivery.sinks import (
    KINDS,
    SETTINGS,
    SinkSettings,
    check_target,
    missing_extra,
    settings_from,
    transports,
)
from tallystick.delivery.sinks.settings import MAX_ROTATE_BYTES, MIN_ROTATE_BYTES
from tallystick.delivery.transport import BatchTransport
from tallystick.errors import InvalidInput
from tests.delivery.sink_support import endpoint, message

ROOT = Path(__file__).parents[2]

TARGETS = {
    "sns": ("arn:aws:sns:eu-central-1:123456789012:events", "arn:aws:sqs:eu-central-1:123456789012:events"),
    "sqs": (
        "https://sqs.eu-central-1.amazonaws.com/123456789012/events.fifo",
        "https://sqs.example.com/123456789012/x",
    ),
    "eventbridge": ("arn:aws:events:eu-central-1:123456789012:event-bus/default", "default"),
    "nats": ("nats://nats.example.com", "nats.example.com"),
    "file": ("books/events.jsonl", "../events.jsonl"),
}

WITHOUT = """
import asyncio, sys
for name in ("boto3", "botocore", "nats", "nats.aio", "nats.aio.client", "nats.errors"):
    sys.modules[name] = None
from tallystick.delivery.sinks import SinkSettings, transports
from tests.delivery.sink_support import endpoint, message
from tests.delivery.test_sinks_registry import TARGETS

async def main():
    for kind, transport in transports(SinkSettings(allow_private=True)).items():
        sent = await transport.send(endpoint(kind, TARGETS[kind][0]), message(1))
        assert not sent.accepted
        print(kind, sent.problem)

asyncio.run(main())
"""


def test_there_is_a_transport_for_every_kind_and_making_them_imports_nothing_heavy() -> None:
    program = (
        "import sys; from tallystick.delivery.sinks import transports, KINDS; made = transports();"
        "assert tuple(made) == KINDS, made; print(sorted({'boto3', 'botocore', 'nats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_transport_takes_batches_and_may_be_closed_twice() -> None:
    async def scene() -> None:
        for transport in transports().values():
            assert isinstance(transport, BatchTransport)
            assert transport.batch_size >= 10
            await transport.close()
            await transport.close()

    asyncio.run(scene())


def test_without_its_library_a_sink_says_which_extra_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert said["sqs"] == "sqs needs the extra `aws` (boto3)"
    assert said["sns"] == "sns needs the extra `aws` (boto3)"
    assert said["eventbridge"] == "events needs the extra `aws` (boto3)"
    assert said["nats"] == "nats needs the extra `nats` (nats-py)"
    assert "no folder" in said["file"]


def test_a_missing_extra_is_known_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [missing_extra(kind) for kind in ("sqs", "nats", "file", "webhook")] == ["", "", "", ""]
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    assert [missing_extra(kind) for kind in (*KINDS, "webhook")] == ["aws", "aws", "aws", "nats", "", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_is_judged_by_its_kind(kind: str) -> None:
    right, wrong = TARGETS[kind]
    check_target(kind, right)
    with pytest.raises(InvalidInput) as refused:
        check_target(kind, wrong)
    assert refused.value.data["path"] == "url"


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_that_a_kind_does_not_have_is_refused(kind: str) -> None:
    for name in SETTINGS[kind]:
        check_target(kind, TARGETS[kind][0], {name: "ledger"})
    with pytest.raises(InvalidInput) as refused:
        check_target(kind, TARGETS[kind][0], {"colour": "blue"})
    assert refused.value.data["path"] == "settings.colour"


def test_settings_with_a_wrong_value_and_kinds_that_are_none_are_refused() -> None:
    for kind, settings in (("sqs", {"group": "x"}), ("sns", {"group": ""}), ("eventbridge", {"source": "aws.s3"})):
        with pytest.raises(InvalidInput):
            check_target(kind, TARGETS[kind][0], settings)
    with pytest.raises(InvalidInput) as refused:
        check_target("pigeon", "coop")
    assert refused.value.data["path"] == "kind"


@pytest.mark.parametrize(
    "url",
    [
        "arn:aws:sns:eu-central-1:123456789012:events/../x",
        "arn:aws:sns:eu-central-1:1:events",
        "arn:aws:sns:evil.example.com#-1:123456789012:events",
        "arn:aws:sns:eu-central-1:123456789012:events\n",
    ],
)
def test_an_arn_can_name_no_other_host(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_target("sns", url)


@pytest.mark.parametrize(
    "url",
    [
        "http://sqs.eu-central-1.amazonaws.com/123456789012/events",
        "https://sqs.eu-central-1.amazonaws.com.evil.example/123456789012/events",
        "https://sqs.evil.example/?.amazonaws.com/123456789012/events",
        "https://user@sqs.eu-central-1.amazonaws.com/123456789012/events",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/events?x",
    ],
)
def test_a_queue_is_at_amazon_unless_the_operator_names_an_emulator(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_target("sqs", url)


def test_a_queue_of_an_emulator_is_below_its_address() -> None:
    emulator = "http://127.0.0.1:4566"
    check_target("sqs", f"{emulator}/000000000000/events", emulator=emulator)
    for url in (f"{emulator}.evil.example/0/events", "http://127.0.0.1:45667/0/events"):
        with pytest.raises(InvalidInput):
            check_target("sqs", url, emulator=emulator)


def test_what_the_operator_says_is_read_from_the_environment() -> None:
    assert settings_from({}) == SinkSettings()
    found = settings_from(
        {
            "TALLYSTICK_SINK_FOLDER": "/var/lib/tallystick/out",
            "TALLYSTICK_SINK_ROTATE_BYTES": "1000000",
            "TALLYSTICK_NATS_SERVERS": "nats-1:4222, nats-2",
            "TALLYSTICK_NATS_CREDENTIALS": "/etc/tallystick/nats.creds",
            "TALLYSTICK_AWS_ENDPOINT": "http://127.0.0.1:4566",
        },
        allow_private=True,
    )
    assert found == SinkSettings(
        file_folder="/var/lib/tallystick/out",
        file_rotate_bytes=1_000_000,
        nats_servers=("nats-1:4222", "nats-2"),
        nats_credentials="/etc/tallystick/nats.creds",
        aws_endpoint="http://127.0.0.1:4566",
        allow_private=True,
    )


def test_the_size_of_a_file_has_bounds() -> None:
    for right in (MIN_ROTATE_BYTES, MAX_ROTATE_BYTES):
        assert SinkSettings(file_rotate_bytes=right).file_rotate_bytes == right
    for wrong in (MIN_ROTATE_BYTES - 1, MAX_ROTATE_BYTES + 1):
        with pytest.raises(InvalidInput):
            SinkSettings(file_rotate_bytes=wrong)
    for text in ("-1", "1k", "٣"):
        with pytest.raises(InvalidInput):
            settings_from({"TALLYSTICK_SINK_ROTATE_BYTES": text})


def test_nothing_is_tried_without_a_target() -> None:
    async def scene() -> None:
        for kind, transport in transports(SinkSettings(file_folder="/")).items():
            sent = await transport.send(endpoint(kind, ""), message(1))
            assert not sent.accepted
            assert sent.problem
            await transport.close()

    asyncio.run(scene())
