"""Random commands of every kind: mostly such as may succeed, and many that must not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from tallystick import commands as c
from tallystick.accounts import BUCKETS, role_of
from tallystick.clock import add_seconds
from tallystick.commands import Command, Condition, Leg, Split
from tallystick.events import EVENT_TYPES, Move
from tests.model.model import Model
from tests.model.rules import MAX

PEOPLE = [*(f"users:{number}" for number in range(8)), "did:key:z6MkAgent"]
MEMBERS = [f"members:{number}" for number in range(5)]
CLEARING = ["@clearing:ads", "@clearing:cap"]
BY_ROLE = {
    "holder": PEOPLE + MEMBERS,
    "treasury": ["@treasury"],
    "clearing": CLEARING,
    "issuance": ["@issuance"],
    "fees": ["@fees"],
    "external": ["@external:bank", "@external:card"],
}
EVERYONE = [account for accounts in BY_ROLE.values() for account in accounts]
ASSETS = ["USD/2", "USD/2", "USD/2", "EUR/2", "BIG"]
POSTED = sorted(name for name, row in EVENT_TYPES.items() if row.by == "post")
ODD = ["é", '"', "\\", "'", "日本", "🪵", "</x>", "a b", "%s", "{}"]


class Chooser:
    """Makes commands by chance, with an eye on the model so that most of them make sense."""

    def __init__(self, random: Random, model: Model, begin: str) -> None:
        self.random = random
        self.model = model
        self.begin = begin
        self.made = 0
        self.moment = begin
        self._kinds: list[tuple[int, Callable[[], Command]]] = [
            (26, self.transfer),
            (8, self.supply),
            (30, self.posted),
            (10, self.hold),
            (12, self.of_a_hold),
            (4, self.stake),
            (5, self.of_a_stake),
            (4, self.bet),
            (5, self.of_a_bet),
            (4, self.promise),
            (5, self.of_a_promise),
            (7, self.reverse),
            (3, self.finalize),
            (9, self.of_an_account),
            (3, self.rule),
            (3, self.record),
        ]

    def command(self, now: str) -> Command:
        """A command, at times under a key that was used before: with the same request or another one."""
        self.moment = now
        random = self.random
        used = self.model.keys
        made = random.choices([make for _, make in self._kinds], [weight for weight, _ in self._kinds])[0]()
        chance = random.random()
        if used and chance < 0.06:
            known = random.choice(list(used.values())[-500:])[0]
            return known if chance < 0.04 else msgspec.structs.replace(made, key=known.key, source=known.source)
        return made

    # ------------------------------------------------------------ small choices

    def _any(self, choices: Sequence[Any]) -> Any:
        return self.random.choice(choices) if choices else ""

    def _maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def _amount(self, account: str, asset: str, bucket: str = "available") -> int:
        """What the account can afford, most of the time."""
        chance, has = self.random.random(), self.model.balances.get((account, asset, bucket), 0)
        if chance < 0.02:
            return int(self._any([0, -1, MAX, MAX + 1, MAX - 1]))
        if chance < 0.86 and has > 0:
            return self.random.randint(1, max(1, has // self._any([1, 2, 10, 100])))
        return self.random.randint(1, 1_500)

    def _more(self, **fields: Any) -> dict[str, Any]:
        """The envelope: a new key, and by chance everything else that a command may carry."""
        self.made += 1
        more: dict[str, Any] = {"key": f"k{self.made}{self._any(ODD) if self._maybe(0.1) else ''}", **fields}
        if self._maybe(0.05):
            more["source"] = self._any(["shop", "tarmac ✈"])
        if self._maybe(0.05):
            more["reason"] = f"because {self._any(ODD)}"
        if self._maybe(0.05):
            more["metadata"] = {"note": self._any(ODD)}
        if self._maybe(0.04):
            more["conditions"] = tuple(self._condition() for _ in range(self.random.randint(1, 2)))
        if self._maybe(0.03):
            more["refs"] = {**more.get("refs", {}), "trace_id": f"t{self.random.randint(1, 50)}"}
        return more

    def _condition(self) -> Condition:
        account, asset, bucket = self._any(EVERYONE), self._any(ASSETS), self._any(BUCKETS)
        name = (account, asset, bucket)
        amount, version = self.model.balances.get(name, 0), self.model.versions.get(name, 0)
        return self._any(
            [
                Condition(account, asset, bucket, version=version + self.random.randint(0, 1)),
                Condition(account, asset, bucket, at_least=amount - self.random.randint(-5, 500)),
                Condition(account, asset, bucket, at_most=amount + self.random.randint(-5, 500)),
            ]
        )

    def _id(self, kind: str) -> str:
        """The id of a lock of this kind, mostly one that is open; or one that may be opened in a moment, or never."""
        found = [id for id, kept in self.model.locks.items() if kept.kind == kind]
        is_open = [id for id in found if self.model.locks[id].remaining]
        chance = self.random.random()
        if chance < 0.85 and is_open:
            return str(self._any(is_open))
        if chance < 0.93 and found:
            return str(self._any(found))
        return f"main/{len(self.model.events) + self.random.randint(-3, 3)}"

    # ------------------------------------------------------------ movements

    def transfer(self) -> Command:
        payer, payee, asset = self._any(PEOPLE + MEMBERS), self._any(PEOPLE + MEMBERS), self._any(ASSETS)
        amount = self._amount(payer, asset)
        if self._maybe(0.8):
            self.made += 1
            return c.Transfer(key=f"k{self.made}", from_account=payer, to_account=payee, asset=asset, amount=amount)
        return c.Transfer(**self._more(), from_account=payer, to_account=payee, asset=asset, amount=amount)

    def supply(self) -> Command:
        asset, payee = self._any(ASSETS), self._any(PEOPLE + MEMBERS + CLEARING + ["@treasury"])
        amount = MAX // 3 if asset == "BIG" and self._maybe(0.3) else self.random.randint(1, 5_000)
        return c.Post(**self._more(), type="mint", legs=(Leg("@issuance", payee, asset, amount),))

    def posted(self) -> Command:
        known = [*POSTED, *POSTED, *self.model.types, "hold", "no_such_type"]
        type = self._any(known)
        row = EVENT_TYPES.get(type) or self.model.types.get(type)
        moves = row.moves if row else ()
        asset = self._any(ASSETS)
        legs = tuple(
            self._leg(self._any(moves) or None, self._any(ASSETS) if self._maybe(0.2) else asset)
            for _ in range(self._any([1, 1, 1, 2, 3]))
        )
        refs = {group[0]: self._reference(group[0]) for group in (row.requires if row else ()) if self._maybe(0.95)}
        more = self._more(refs=refs) if refs else self._more()
        if row and self._maybe(0.95):
            more.update(dict.fromkeys(row.needs, "ops"))
        effective = ""
        if self._maybe(0.25):
            back = self.random.choice([0, 1, 60, 3_600, 86_400, 500_000])
            effective = max(add_seconds(self.moment, self.random.randint(-back, 1) if back else 0), self.begin)
        return c.Post(**more, type=type, legs=legs, effective=effective)

    def _leg(self, move: Move | None, asset: str) -> Leg:
        if move is None or self._maybe(0.03):
            buckets = [self._any(BUCKETS), self._any(BUCKETS)]
            return Leg(self._any(EVERYONE), self._any(EVERYONE), asset, self.random.randint(1, 100), *buckets)
        payers = [account for account in EVERYONE if role_of(account) in move.from_roles]
        bucket = self._any(move.from_buckets)
        funded = [account for account in payers if self.model.balances.get((account, asset, bucket), 0) > 0]
        payer = self._any(funded if funded and self._maybe(0.9) else payers)
        payee = self._any([account for account in EVERYONE if role_of(account) in move.to_roles])
        amount = self._amount(payer, asset, bucket)
        return Leg(payer, payee, asset, amount, bucket, self._any(move.to_buckets))

    def _reference(self, name: str) -> str:
        if name == "corrects":
            return f"main/{self.random.randint(0, len(self.model.events) + 1)}"
        return f"{name}-{self.random.randint(1, 9)}"

    # ------------------------------------------------------------ locks

    def hold(self) -> Command:
        account, asset = self._any(PEOPLE + MEMBERS + ["@treasury"]), self._any(ASSETS)
        amount = self._amount(account, asset)
        return c.Hold(**self._more(), account=account, asset=asset, amount=amount, **self._expiry(0.2))

    def _expiry(self, none: float) -> dict[str, Any]:
        if self._maybe(none):
            return {}
        if self._maybe(0.5):
            return {"expires_in_seconds": self._any([60, 600, 3_600, 86_400])}
        return {"expires": add_seconds(self.moment, self.random.randint(-5, 20_000))}

    def of_a_hold(self) -> Command:
        id = self._id("hold")
        kept = self.model.locks.get(id)
        rest = kept.remaining if kept and kept.remaining else 100
        part = self._any([None, rest, self.random.randint(1, max(rest, 1)), rest + 1])
        payees = [self._any(EVERYONE) if self._maybe(0.1) else self._any(PEOPLE) for _ in range(2)]
        pool = Split("@fees", self.random.randint(1, max(rest // 10, 1)), "fees")
        splits = self._any(
            [(Split(payees[0], part),), (Split(payees[0], part),), (pool, Split(payees[1])), (pool,), ()]
        )
        final = self._maybe(0.4)
        choice = self.random.random()
        if choice < 0.5:
            return c.Capture(**self._more(), hold=id, splits=splits, final=final)
        if choice < 0.65:
            return c.Release(**self._more(), hold=id, amount=part)
        if choice < 0.8:
            return c.HoldExpire(**self._more(), hold=id)
        if choice < 0.9:
            return c.HoldExtend(**self._more(), hold=id, **self._expiry(0.1))
        return c.HoldTopUp(**self._more(), hold=id, amount=self.random.randint(1, 300))

    def stake(self) -> Command:
        account, asset = self._any(PEOPLE + MEMBERS), self._any(ASSETS)
        refs = {"escrow": "e-1"} if self._maybe(0.95) else {"order": "o-1"}
        return c.StakeLock(**self._more(refs=refs), account=account, asset=asset, amount=self._amount(account, asset))

    def of_a_stake(self) -> Command:
        id = self._id("stake")
        kept = self.model.locks.get(id)
        part = self._any([None, self.random.randint(1, max(kept.remaining if kept else 1, 1) + 1)])
        more = self._more(refs={"trial": "t-1"})
        if self._maybe(0.5):
            return c.StakeRelease(**more, stake=id, amount=part)
        payee, bucket = self._any([("@issuance", "available"), ("@fees", "fees"), (self._any(EVERYONE), "available")])
        return c.StakeSlash(**more, stake=id, to_account=payee, amount=part, to_bucket=bucket)

    def bet(self) -> Command:
        account, asset = self._any(PEOPLE + MEMBERS), self._any(ASSETS)
        refs = {"round": f"r-{self.random.randint(1, 3)}"}
        return c.BetStake(**self._more(refs=refs), account=account, asset=asset, amount=self._amount(account, asset))

    def of_a_bet(self) -> Command:
        id = self._id("bet")
        kept = self.model.locks.get(id)
        more = self._more(refs={"round": kept.round if kept and kept.round and self._maybe(0.93) else "r-9"})
        if self._maybe(0.3):
            return c.BetRollback(**more, bet=id)
        house = self._any(["@treasury", "@clearing:ads", self._any(PEOPLE)])
        payout = self._any([0, (kept.amount if kept else 5), self.random.randint(0, 400), -1])
        return c.BetSettlement(**more, bet=id, house=house, payout=payout)

    def promise(self) -> Command:
        member = self._any(MEMBERS) if self._maybe(0.95) else self._any(PEOPLE)
        more = self._more(refs={"commitment": f"c-{self.random.randint(1, 6)}"})
        return c.CommitmentCreate(**more, member=member, asset="USD/2", amount=self.random.randint(1, 600))

    def of_a_promise(self) -> Command:
        id = self._id("commitment")
        kept = self.model.locks.get(id)
        reference, member = (id.split()[1], kept.account) if kept and " " in id else ("c-1", MEMBERS[0])
        amount = self._any([None, None, self.random.randint(1, max(kept.remaining if kept else 1, 1) + 1)])
        more = self._more(refs={"commitment": reference})
        if self._maybe(0.4):
            return c.CommitmentCancel(**more, member=member, asset="USD/2", amount=amount)
        payee = self._any(MEMBERS + PEOPLE)
        legs = (Leg(member, payee, "USD/2", self.random.randint(1, 300)),) if self._maybe(0.7) else ()
        return c.CommitmentFulfil(**more, member=member, asset="USD/2", amount=amount, legs=legs)

    # ------------------------------------------------------------ repair

    def reverse(self) -> Command:
        last = len(self.model.events)
        seq = self.random.randint(max(last - self._any([10, 100, last + 1]), 0), last)
        happened = self.model.events[seq] if seq < last else None
        more, id = self._more(), f"main/{seq}"
        if happened is None or self._maybe(0.4):
            return c.Reverse(**more, transaction=id)
        largest = max((abs(change) for change in happened.changes.values()), default=1)
        if self._maybe(0.5):
            return c.Reverse(**more, transaction=id, amount=self.random.randint(1, largest + 1))
        ups = [(name, change) for name, change in happened.changes.items() if change > 0]
        downs = [name for name, change in happened.changes.items() if change < 0]
        if not ups or not downs:
            return c.Reverse(**more, transaction=id)
        (payer, asset, bucket), change = self._any(ups)
        payee, _, back = self._any(downs)
        leg = Leg(payer, payee, asset, self.random.randint(1, change), bucket, back)
        return c.Reverse(**more, transaction=id, legs=(leg,))

    def finalize(self) -> Command:
        captured = [seq for seq, event in enumerate(self.model.events) if event.type == "capture"]
        seq = self._any(captured) if captured and self._maybe(0.9) else self.random.randint(0, len(self.model.events))
        return c.FinalizeCharge(**self._more(), charge=f"main/{seq}")

    # ------------------------------------------------------------ accounts, rules, records

    def of_an_account(self) -> Command:
        choice, account = self.random.random(), self._any(PEOPLE + MEMBERS + ["users:new"])
        frozen = [name for name, kept in self.model.accounts.items() if kept.status == "frozen"]
        if choice < 0.25:
            return self._open()
        if choice < 0.4:
            return c.FreezeAccount(**self._more(), account=account)
        if choice < 0.62:
            return c.UnfreezeAccount(**self._more(), account=self._any(frozen) if frozen else account)
        if choice < 0.75:
            # Accounts that end are made for it, so that the others live on.
            ending = f"users:brief-{self.random.randint(1, 60)}"
            heir = self._any(["", self._any(PEOPLE), "@fees", "@treasury"])
            kind = self._any([c.ExcludeAccount, c.CloseAccount])
            return kind(**self._more(), account=ending, settle_to=heir)
        if choice < 0.82:
            payee = f"users:brief-{self.random.randint(1, 60)}"
            leg = Leg("@issuance", payee, "USD/2", self.random.randint(1, 90))
            return c.Post(**self._more(), type="mint", legs=(leg,))
        member = self._any([*MEMBERS, "@clearing:cap", account])
        limit = self._any([None, 500, 1_000, 2_000, 5_000, 499])
        ceiling = self._any([None, None, None, 10_000, 50_000])
        clear = self._maybe(0.3)
        return c.SetLimit(
            **self._more(), account=member, asset="USD/2", limit=limit, ceiling=ceiling, clear_ceiling=clear
        )

    def _open(self) -> Command:
        account = self._any([*MEMBERS, *PEOPLE, *CLEARING, "@treasury", f"users:brief-{self.random.randint(1, 60)}"])
        limits = {"USD/2": self._any([500, 2_000, 5_000, 6_000])} if account in [*MEMBERS, "@clearing:cap"] else {}
        ceilings = {"EUR/2": 30_000} if self._maybe(0.1) else {}
        floorless = account == "@clearing:ads" or self._maybe(0.03)
        return c.OpenAccount(
            **self._more(), account=account, limits=limits, ceilings=ceilings, floorless=floorless, owner="did:web:a.b"
        )

    def rule(self) -> Command:
        choice = self.random.random()
        if choice < 0.2:
            name = f"sale_{self.random.randint(1, 12)}"
            base = self._any([*POSTED, "hold"])
            return c.DefineType(
                **self._more(), name=name, base=base, requires=self._any([(), ("order",), ("order", "round")])
            )
        if choice < 0.35:
            return c.DefineAsset(**self._more(), asset=self._any(["GOLD/4", "USD/2", "USD/3", f"A{self.made}/1"]))
        if choice < 0.45:
            first = self.model.closed or self.begin
            return c.ClosePeriod(**self._more(), until=add_seconds(first, self.random.randint(0, 20_000)))
        if choice < 0.5:
            return c.OpenLedger(**self._more(), name="main")
        strict = self.model.policy["strict"]
        changes: dict[str, Any] = self._any(
            [
                {"commitment_mode": self._any(["DISABLED", "SOFT", "ESCROWED", "ESCROWED"])},
                {"hold_expires_in_seconds": self._any([600, 86_400])},
                {"limit_max": self._any([100, 4_000, 5_000])},
                {"no_such_rule": 1},
                {},
                {"strict": not strict and self._maybe(0.5)},
            ]
        )
        return c.SetPolicy(**self._more(), changes={"strict": False} if strict and self._maybe(0.7) else changes)

    def record(self) -> Command:
        choice = self.random.random()
        if choice < 0.5:
            haircut = self._any([0, 250, 10_000, 10_001])
            return c.RecordReserve(**self._more(), reserve="vault:1", asset="USD/2", value=10**9, haircut_bps=haircut)
        if choice < 0.8:
            return c.IssueAttestation(
                **self._more(), digest=self._any(["ab" * 32, "short"]), statement={"covered": "1/1"}
            )
        return c.RotateKey(**self._more(), public_key=self._any([f"did:key:z{self.made}", ""]))
