"""What the service says of itself: whether it lives, whether it is ready, and its metrics."""

from __future__ import annotations

from tallystick.errors import TallystickError
from tallystick.service.calls import Call
from tallystick.service.operations import Group
from tallystick.service.problems import Refused
from tallystick.wire.answers import HealthAnswer, ReadyAnswer

PUBLIC = Group("The service itself", in_ledger=False)

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@PUBLIC.ask("/health", verb=None, answer=HealthAnswer)
async def get_health(call: Call) -> HealthAnswer:
    """Whether the process lives. It asks no store: a process is not restarted because a database is away."""
    return HealthAnswer("alive")


@PUBLIC.read("/ready", verb=None, answer=ReadyAnswer)
def get_readiness(call: Call) -> ReadyAnswer:
    """Whether requests should be sent here: the stores answer, and the service is not stopping (503 if not so)."""
    service = call.service
    checks = {}
    for name, ask in (("ledgers", service.database.ledgers), ("records", service.control.keys_version)):
        try:
            ask()
        except TallystickError as error:
            raise Refused(503, error.code, f"the {name} do not answer") from error
        checks[name] = "ok"
    return ReadyAnswer("ready", checks)


@PUBLIC.read("/metrics", verb="audit", whole=True, answer=str, media_type=METRICS_TYPE)
def get_metrics(call: Call) -> bytes:
    """The metrics of this process, for Prometheus. Each process of a service shows its own."""
    service = call.service
    for ledger, waiting in service.queued.items():
        service.metrics.queue(ledger, waiting)
    service.metrics.refresh(service.control, service.database.ledgers())
    return service.metrics.render()
