"""The command ``tally``: every act and every read of a ledger, for people (tables) and for programs (``--json``).

Exit codes: 0 done, 1 refused or something was found, 2 the command line is wrong, 3 a promise could not be kept.
One file per group of commands. A command imports the engine only when it runs, so that ``tally --help`` is quick.
"""

from __future__ import annotations

from tallystick.cli import (
    accounts,
    anchors,
    archive,
    attest,
    cells,
    endpoints,
    export,
    fees,
    holds,
    keys,
    locks,
    log,
    mcp,
    migrate,
    movements,
    promo,
    reads,
    serve,
    serving,
    settings,
    upkeep,
    witness,
    worker,
)
from tallystick.cli.root import tally

for module in (
    movements,
    fees,
    holds,
    locks,
    promo,
    cells,
    accounts,
    settings,
    attest,
    reads,
    upkeep,
    migrate,
    archive,
    log,
    export,
    witness,
    serve,
    worker,
    keys,
    endpoints,
    mcp,
):
    for command in module.COMMANDS:
        tally.add_command(command)

for command in (*serving.COMMANDS, *anchors.COMMANDS):
    log.log.add_command(command)
for command in (export.verify_bundle, anchors.verify_kept):
    log.verify.add_command(command)

main = tally
"""The entry point."""

__all__ = ["main"]
