"""Sinks: transports to queues and files, beside webhooks.

``transports`` gives one for each kind; what a kind needs of other libraries is imported when its first message is sent,
and where it is missing the message is not accepted and the problem names the extra. ``missing_extra`` says so before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from tallystick.delivery.sinks.settings import SinkSettings, settings_from
from tallystick.delivery.transport import BatchTransport
from tallystick.errors import InvalidInput

KINDS = ("sns", "sqs", "eventbridge", "nats", "file")

SETTINGS: Mapping[str, frozenset[str]] = {
    "sns": frozenset({"order", "group"}),
    "sqs": frozenset({"order", "group"}),
    "eventbridge": frozenset({"order", "source"}),
    "nats": frozenset({"order", "subject", "stream"}),
    "file": frozenset({"order"}),
}
"""What an endpoint of each kind may set. ``order`` is every endpoint's, and the deliverer's to judge."""

_NEEDS = {"sns": ("aws", "boto3"), "sqs": ("aws", "boto3"), "eventbridge": ("aws", "boto3"), "nats": ("nats", "nats")}


def transports(settings: SinkSettings | None = None) -> dict[str, BatchTransport]:
    """A transport for each kind of sink."""
    chosen = settings or SinkSettings()
    return {kind: make(chosen) for kind, make in _MAKERS.items()}


def missing_extra(kind: str) -> str:
    """The extra that a kind needs and that is not installed; empty if nothing is missing."""
    extra, library = _NEEDS.get(kind, ("", ""))
    return extra if library and find_spec(library) is None else ""


def check_target(kind: str, url: str, settings: Mapping[str, str] | None = None, *, emulator: str = "") -> None:
    """Refuse a target that no endpoint of this kind can have; nothing is asked of it. Raises InvalidInput.

    ``emulator`` is ``SinkSettings.aws_endpoint``.
    """
    chosen = dict(settings or {})
    if kind not in KINDS:
        raise InvalidInput(path="kind", problem=f"{kind!r} is none of {', '.join(KINDS)}")
    for name in sorted(chosen.keys() - SETTINGS[kind]):
        there = ", ".join(sorted(SETTINGS[kind])) or "none"
        raise InvalidInput(path=f"settings.{name}", problem=f"{kind} has no such setting (there: {there})")
    _check(kind, url, chosen, emulator)


def _check(kind: str, url: str, settings: dict[str, str], emulator: str) -> None:
    from tallystick.delivery.sinks import eventbridge, file, nats, sns, sqs  # noqa: PLC0415 - kept quick to import

    match kind:
        case "sqs":
            sqs.target_of(url, settings, emulator=emulator)
        case "sns":
            sns.target_of(url, settings)
        case "eventbridge":
            eventbridge.target_of(url, settings)
        case "nats":
            nats.target_of(url, settings)
        case _:
            file.path_of(url)


def _sqs(settings: SinkSettings) -> BatchTransport:
    from tallystick.delivery.sinks.sqs import SqsTransport  # noqa: PLC0415

    return SqsTransport(settings)


def _sns(settings: SinkSettings) -> BatchTransport:
    from tallystick.delivery.sinks.sns import SnsTransport  # noqa: PLC0415

    return SnsTransport(settings)


def _eventbridge(settings: SinkSettings) -> BatchTransport:
    from tallystick.delivery.sinks.eventbridge import EventBridgeTransport  # noqa: PLC0415

    return EventBridgeTransport(settings)


def _nats(settings: SinkSettings) -> BatchTransport:
    from tallystick.delivery.sinks.nats import NatsTransport  # noqa: PLC0415

    return NatsTransport(settings)


def _file(settings: SinkSettings) -> BatchTransport:
    from tallystick.delivery.sinks.file import FileTransport  # noqa: PLC0415

    return FileTransport(settings)


_MAKERS: dict[str, Callable[[SinkSettings], BatchTransport]] = {
    "sns": _sns,
    "sqs": _sqs,
    "eventbridge": _eventbridge,
    "nats": _nats,
    "file": _file,
}

__all__ = ["KINDS", "SETTINGS", "SinkSettings", "check_target", "missing_extra", "settings_from", "transports"]
