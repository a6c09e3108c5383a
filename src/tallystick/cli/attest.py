"""What a ledger keeps as evidence for others: reserves, attestations and its signing key."""

from __future__ import annotations

import click

from tallystick.cli.act import Act, act, amount_argument, asset_argument, pairs_of
from tallystick.cli.root import Group


@click.group(cls=Group)
def reserve() -> None:
    """Reserve assets and their haircuts."""


@reserve.command("record")
@click.argument("reserve", metavar="RESERVE")
@amount_argument
@asset_argument
@click.option("--haircut-bps", type=int, default=10_000, show_default=True, help="Basis points that do not count.")
@click.option("--provider", default="", help="Who said so.")
@click.option("--valid-until", default="", metavar="TIME", help="How long it holds.")
@act
def record_reserve(
    act: Act, reserve: str, amount: str, asset: str, haircut_bps: int, provider: str, valid_until: str
) -> None:
    """Record the value of a reserve; without a haircut it counts nothing."""
    from tallystick.commands import RecordReserve

    act.post(
        RecordReserve(
            reserve=reserve,
            asset=asset,
            value=act.amount(amount, asset),
            haircut_bps=haircut_bps,
            provider=provider,
            valid_until=valid_until,
            **act.common(),
        )
    )


@click.group(cls=Group)
def attestation() -> None:
    """Signed statements of coverage."""


@attestation.command("issue")
@click.argument("digest", metavar="SHA256")
@click.option("--statement", multiple=True, metavar="NAME=VALUE", help="What it says.")
@act
def issue_attestation(act: Act, digest: str, statement: tuple[str, ...]) -> None:
    """Record that a signed attestation was issued."""
    from tallystick.commands import IssueAttestation

    act.post(IssueAttestation(digest=digest, statement=pairs_of(statement, "--statement"), **act.common()))


@click.group(cls=Group)
def key() -> None:
    """The ledger's signing key."""


@key.command("rotate")
@click.argument("public_key", metavar="PUBLIC_KEY")
@act
def rotate_key(act: Act, public_key: str) -> None:
    """Record the ledger's new public signing key."""
    from tallystick.commands import RotateKey

    act.post(RotateKey(public_key=public_key, **act.common()))


COMMANDS: tuple[click.Command, ...] = (reserve, attestation, key)
