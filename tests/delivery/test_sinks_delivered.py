"""Sinks as the deliverer uses them: every event of a ledger arrives, in the order of each account."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import boto3
import nats
import pytest
from moto import mock_aws

from tallystick.delivery.ladder import Ladder
from tallystick.delivery.sinks import SinkSettings, transports
from tallystick.delivery.sinks.settings import MIN_ROTATE_BYTES
from tests.delivery.nats_server import NatsServer, find_server
from tests.delivery.scenes import Scene, running
from tests.support.processes import wait_until

PROGRAM = find_server()
SOON = Ladder(waits=(0.0, *[0.05] * 99), jitter=0.0)
PATIENCE_SECONDS = 60
ACCOUNTS = 8
PAYMENTS = [(number % ACCOUNTS, (number * 3 + 1) % ACCOUNTS) for number in range(300)]
PAYMENTS = [(payer, payee) for payer, payee in PAYMENTS if payer != payee]


def _numbers_by_account(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events:
        for account in dict.fromkeys(entry["account"] for entry in event["data"].get("entries", ())):
            found.setdefault(account, []).append(int(event["sequence"]))
    return found


def _check(scene: Scene, events: list[dict[str, Any]], *, repeats: bool = False) -> None:
    """Every event is there (once, unless it may be repeated), and those of each account in their order."""
    numbers = [int(event["sequence"]) for event in events]
    assert sorted(set(numbers)) == list(range(scene.ledger.head.seq))
    assert repeats or len(numbers) == len(set(numbers))
    for of_account in _numbers_by_account(events).values():
        firsts = list(dict.fromkeys(of_account))
        assert firsts == sorted(firsts)


def test_a_file_receives_every_event_in_the_order_of_each_account(scene: Scene, tmp_path: Path) -> None:
    scene.fund(ACCOUNTS)
    scene.pay(*PAYMENTS)
    endpoint = scene.endpoint("events.jsonl", kind="file", start=0)
    chosen = SinkSettings(file_folder=str(tmp_path), file_rotate_bytes=MIN_ROTATE_BYTES)
    with scene.deliverer(transports=transports(chosen)) as deliverer:
        passed = deliverer.run_once(endpoint.id)
    assert (passed.state, passed.waiting, passed.failed, passed.cursor) == ("delivering", 0, 0, scene.ledger.head.seq)
    paths = [*sorted(tmp_path.glob("events.jsonl.*")), tmp_path / "events.jsonl"]
    assert len(paths) > 2
    _check(scene, [json.loads(line) for path in paths for line in path.read_bytes().splitlines()])


def test_a_fifo_queue_receives_every_event_in_the_order_of_each_account(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    scene.fund(ACCOUNTS)
    scene.pay(*PAYMENTS[:40])
    with mock_aws():
        client = boto3.client("sqs", "eu-central-1")
        url = client.create_queue(QueueName="events.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
        endpoint = scene.endpoint(url, kind="sqs", start=0)
        with scene.deliverer(transports=transports()) as deliverer:
            passed = deliverer.run_once(endpoint.id)
        assert (passed.waiting, passed.failed) == (0, 0)
        events: list[dict[str, Any]] = []
        while more := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            events += [json.loads(one["Body"]) for one in more]
            for one in more:
                client.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    _check(scene, events)


@pytest.mark.skipif(PROGRAM is None, reason="the program nats-server is not on this machine")
def test_a_stream_receives_every_event_once_through_a_crash_of_its_server(scene: Scene, tmp_path: Path) -> None:
    assert PROGRAM is not None
    server = NatsServer(PROGRAM, tmp_path / "nats")
    server.start()

    async def stored(make: bool = False) -> list[dict[str, Any]]:
        client = await nats.connect(server.url, allow_reconnect=False)
        try:
            stream = client.jetstream(timeout=10)
            if make:
                await stream.add_stream(name="LEDGERS", subjects=["tallystick.>"])
            last = (await stream.stream_info("LEDGERS")).state.last_seq
            bodies = [(await stream.get_msg("LEDGERS", seq)).data for seq in range(1, last + 1)]
            return [json.loads(body) for body in bodies if body]
        finally:
            await client.close()

    try:
        asyncio.run(stored(make=True))
        scene.fund(ACCOUNTS)
        endpoint = scene.endpoint(server.url, kind="nats", start=0)
        deliverer = scene.deliverer(
            transports=transports(SinkSettings(allow_private=True)), ladder=SOON, max_pause_seconds=0.1
        )
        with deliverer, running(deliverer):
            scene.pay(*PAYMENTS[:150])
            server.stop()
            scene.pay(*PAYMENTS[150:])
            server.start()
            end = scene.ledger.head.seq
            control = scene.control
            wait_until(
                lambda: control.cursor(endpoint.id) == end and not control.deliveries(endpoint.id),
                PATIENCE_SECONDS,
                "every event accepted",
            )
        _check(scene, asyncio.run(stored()))
    finally:
        server.stop()
