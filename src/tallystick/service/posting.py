"""Posting: for operations that look something up before they know what to post, or answer more than where it stands."""

from __future__ import annotations

from tallystick.commands import Command
from tallystick.errors import Refusal
from tallystick.ledger.views import Posted
from tallystick.service.calls import Call


async def post_command(call: Call, command: Command) -> Posted:
    """Post one command with what others ask at the same time, or by itself if the key is held to a mandate.

    The call knows then whether it had been posted before. Raises its Refusal, and Faults.
    """
    service = call.service
    if call.principal.mandate is None:
        posted = await service.post(call.ledger, command)
    else:
        posted = await service.in_thread(service.post_alone, call.ledger, call.principal, command, False)
    call.replayed = posted.replayed
    return posted


def post_mandated(call: Call, command: Command) -> Posted | Refusal:
    """What becomes of one command of several under a mandate, judged on what the ones before it left."""
    try:
        return call.service.post_alone(call.ledger, call.principal, command, False)
    except Refusal as refusal:
        return refusal
