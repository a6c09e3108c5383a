"""The obviously right model: what a ledger must answer, in plain dictionaries, from the invariants alone.

It knows no fast path, no versions to guard, no loading. For each command it names *every* rule that the command breaks
(the engine may report any one of them) or makes the changes. Back-dating is judged by adding up all that ever happened.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

from tallystick import commands as c
from tallystick.accounts import role_of
from tallystick.clock import add_seconds
from tallystick.commands import Command, Leg
from tallystick.events import EVENT_TYPES, EventType
from tests.model.rules import LOCKED_IN, MAX, PARTIES, Broken, Happened, Kept, Name, Opened, Rules


class Model(Rules):
    """One ledger. ``post`` answers with the id of the transaction, or with the set of refusal codes that are right."""

    def post(self, command: Command, now: str) -> str | set[str]:
        """The id under which the command stands now (or stood already), or why it must be refused."""
        known = self.keys.get((command.source, command.key))
        if known is not None:
            return known[1] if known[0] == command else {"idempotency_conflict"}
        if not self.events:
            self.events.append(Happened("ledger_opened", now, {}))
        self.broken = set()
        try:
            kind = self._type(command)
            getattr(self, f"do_{type(command).__struct_config__.tag}")(command, kind, now)
        except Broken:
            pass
        if self.broken:
            if len(self.events) == 1:
                self.events.clear()
            return self.broken
        id = f"main/{len(self.events) - 1}"
        self.keys[command.source, command.key] = (command, id)
        return id

    # ------------------------------------------------------------ movements

    def do_transfer(self, command: c.Transfer, kind: EventType, now: str) -> None:
        leg = Leg(command.from_account, command.to_account, command.asset, command.amount)
        changes = self._legs([leg], kind)
        self._judge(changes, command)
        self._happen("transfer", now, changes)

    def do_post(self, command: c.Post, kind: EventType, now: str) -> None:
        effective = command.effective or now
        self._wrong("effective_in_future", effective > now)
        self._wrong("period_closed", bool(command.effective) and effective < self.closed)
        changes = self._legs(command.legs, kind)
        if kind.group == "repair":
            self._wrong("transaction_not_found", self._seq((command.refs or {}).get("corrects", "")) is None)
        self._judge(changes, command, effective=effective if effective < now else "")
        self._happen(command.type, effective, changes)

    # ------------------------------------------------------------ locks

    def _find(self, kind: str, id: str, now: str = "") -> Kept:
        kept = self.locks.get(id)
        self._stop("hold_not_found", kept is None or kept.kind != kind)
        assert kept is not None
        self._stop("hold_not_open", kept.remaining == 0)
        self._stop("hold_expired", bool(now) and "" < kept.expires <= now)
        return kept

    def _expiry(self, command: c.Hold | c.HoldExtend, now: str, default: int | None) -> str:
        seconds = command.expires_in_seconds if command.expires_in_seconds is not None else default
        self._stop("invalid_input", not command.expires and seconds is None)
        expires = command.expires or add_seconds(now, seconds or 0)
        self._stop("invalid_input", expires <= now)
        return expires

    def _lock(self, kind: str, command: Any, now: str, row: EventType, expires: str = "", account: str = "") -> None:
        account = account or command.account
        leg = Leg(account, account, command.asset, command.amount, "available", LOCKED_IN[kind])  # type: ignore[arg-type]
        changes = self._legs([leg], row)
        self._judge(changes, command, soft=kind == "commitment" and self.policy["commitment_mode"] == "SOFT")
        id = self._happen(command.event_type, now, changes)
        if kind == "commitment":
            id = f"commitment {command.refs['commitment']} {account} {command.asset}"
            found = self.locks.get(id)
            if found is not None and found.remaining:
                more = command.amount
                self.locks[id] = replace(found, amount=found.amount + more, remaining=found.remaining + more)
                return
        game = (command.refs or {}).get("round", "")
        self.locks[id] = Kept(kind, account, command.asset, command.amount, command.amount, expires=expires, round=game)

    def _leave(self, id: str, freed: int, taken: int, ended: str, partly: str = "") -> None:
        kept = self.locks[id]
        remaining = kept.remaining - freed
        state = ended if not remaining else partly or kept.state
        self.locks[id] = replace(kept, remaining=remaining, taken=kept.taken + taken, state=state)

    def _within(self, kept: Kept, amount: int) -> Leg:
        return Leg(kept.account, kept.account, kept.asset, amount, LOCKED_IN[kept.kind], "available")  # type: ignore[arg-type]

    def _part(self, kept: Kept, amount: int | None) -> int:
        if amount is None:
            return kept.remaining
        self._amount(amount)
        self._stop("over_capture", amount > kept.remaining)
        return amount

    def do_hold(self, command: c.Hold, kind: EventType, now: str) -> None:
        expires = self._expiry(command, now, self.policy["hold_expires_in_seconds"])
        self._lock("hold", command, now, kind, expires)

    def do_hold_top_up(self, command: c.HoldTopUp, kind: EventType, now: str) -> None:
        kept = self._find("hold", command.hold, now)
        changes = self._legs([Leg(kept.account, kept.account, kept.asset, command.amount, "available", "held")], kind)
        self._judge(changes, command)
        self._happen("hold_top_up", now, changes)
        more = command.amount
        self.locks[command.hold] = replace(kept, amount=kept.amount + more, remaining=kept.remaining + more)

    def do_hold_extend(self, command: c.HoldExtend, kind: EventType, now: str) -> None:
        kept = self._find("hold", command.hold, now)
        expires = self._expiry(command, now, None)
        self._conditions(command, {})
        self._happen("hold_extend", now)
        self.locks[command.hold] = replace(kept, expires=expires)

    def do_capture(self, command: c.Capture, kind: EventType, now: str) -> None:
        kept = self._find("hold", command.hold, now)
        self._stop("empty_transaction", not command.splits)
        named = sum(split.amount for split in command.splits if split.amount is not None)
        rest = kept.remaining - named
        takes_rest = any(split.amount is None for split in command.splits)
        for split in command.splits:
            self._wrong("self_transfer", split.to_account == kept.account and split.to_bucket == "available")
            self._wrong("amount_out_of_range", split.amount is not None and not 0 < split.amount <= MAX)
        self._wrong("over_capture", rest < 0 or (rest == 0 and takes_rest))
        self._stop("over_capture", bool(self.broken) or rest < 0)
        legs = [
            Leg(kept.account, split.to_account, kept.asset, split.amount or rest, "held", split.to_bucket)
            for split in command.splits
        ]
        taken = sum(leg.amount for leg in legs)
        back = kept.remaining - taken if command.final else 0
        changes = self._legs([*legs, *([self._within(kept, back)] if back else [])], kind)
        self._judge(changes, command)
        self._happen("capture", now, changes, command.hold)
        self._leave(command.hold, taken + back, taken, "captured", "partially_captured")

    def do_release(self, command: c.Release, kind: EventType, now: str) -> None:
        self._give_back("hold", command.hold, command, kind, now, "captured", command.amount)

    def do_hold_expire(self, command: c.HoldExpire, kind: EventType, now: str) -> None:
        kept = self._find("hold", command.hold)
        self._stop("hold_not_expired", kept.expires > now)
        self._give_back("hold", command.hold, command, kind, now, "expired", None, ended="expired")

    def _give_back(
        self,
        of: str,
        id: str,
        command: Any,
        kind: EventType,
        now: str,
        paid: str,
        amount: int | None,
        ended: str = "released",
    ) -> None:
        kept = self._find(of, id)
        part = self._part(kept, amount)
        changes = self._legs([self._within(kept, part)], kind)
        self._judge(changes, command)
        self._happen(command.event_type, now, changes)
        self._leave(id, part, 0, paid if kept.taken else ended)

    def do_stake_lock(self, command: c.StakeLock, kind: EventType, now: str) -> None:
        self._lock("stake", command, now, kind)

    def do_stake_release(self, command: c.StakeRelease, kind: EventType, now: str) -> None:
        self._give_back("stake", command.stake, command, kind, now, "slashed", command.amount)

    def do_stake_slash(self, command: c.StakeSlash, kind: EventType, now: str) -> None:
        kept = self._find("stake", command.stake)
        part = self._part(kept, command.amount)
        leg = Leg(kept.account, command.to_account, kept.asset, part, "bonded", command.to_bucket)
        changes = self._legs([leg], kind)
        self._judge(changes, command)
        self._happen("stake_slash", now, changes)
        self._leave(command.stake, part, part, "slashed", "partially_slashed")

    def do_bet_stake(self, command: c.BetStake, kind: EventType, now: str) -> None:
        self._lock("bet", command, now, kind)

    def do_bet_settlement(self, command: c.BetSettlement, kind: EventType, now: str) -> None:
        kept = self._find("bet", command.bet)
        self._stop("invalid_input", (command.refs or {}).get("round") != kept.round)
        self._stop("self_transfer", command.house == kept.account)
        self._stop("invalid_input", command.payout < 0)
        legs = [Leg(kept.account, command.house, kept.asset, kept.remaining, "held", "available")]
        if command.payout:
            legs.append(Leg(command.house, kept.account, kept.asset, command.payout))
        changes = self._legs(legs, kind)
        self._judge(changes, command)
        self._happen("bet_settlement", now, changes)
        self._leave(command.bet, kept.remaining, kept.remaining, "settled")

    def do_bet_rollback(self, command: c.BetRollback, kind: EventType, now: str) -> None:
        kept = self._find("bet", command.bet)
        self._stop("invalid_input", (command.refs or {}).get("round") != kept.round)
        self._give_back("bet", command.bet, command, kind, now, "", None, ended="rolled_back")

    def do_commitment_create(self, command: c.CommitmentCreate, kind: EventType, now: str) -> None:
        self._stop("reference_required", bool(self.broken))
        self._account(command.member)
        self._wrong("member_not_found", command.asset not in self.accounts.get(command.member, Opened()).limits)
        self._wrong("commitments_disabled", self.policy["commitment_mode"] == "DISABLED")
        self._lock("commitment", command, now, kind, account=command.member)

    def do_commitment_fulfil(self, command: c.CommitmentFulfil, kind: EventType, now: str) -> None:
        self._free(command, kind, now, command.legs, "fulfilled")

    def do_commitment_cancel(self, command: c.CommitmentCancel, kind: EventType, now: str) -> None:
        self._free(command, kind, now, (), "cancelled")

    def _free(self, command: Any, kind: EventType, now: str, legs: tuple[Leg, ...], ended: str) -> None:
        self._account(command.member)
        id = f"commitment {(command.refs or {}).get('commitment', '')} {command.member} {command.asset}"
        kept = self.locks.get(id)
        part = command.amount if command.amount is not None else kept.remaining if kept else 0
        self._stop("amount_out_of_range", command.amount is not None and command.amount < 1)
        self._stop("negative_reserve", kept is None or not 0 < part <= kept.remaining)
        assert kept is not None
        self._wrong("move_not_allowed", any(leg.from_bucket != "available" for leg in legs))
        changes = self._legs([self._within(kept, part), *legs], kind)
        self._judge(changes, command)
        self._happen(command.event_type, now, changes)
        self._leave(id, part, part if ended == "fulfilled" else 0, ended)

    # ------------------------------------------------------------ repair

    def _original(self, id: str) -> Happened:
        seq = self._seq(id)
        self._stop("transaction_not_found", seq is None)
        assert seq is not None
        return self.events[seq]

    def _way_back(self, original: Happened) -> dict[Name, int]:
        back: dict[Name, int] = defaultdict(int)
        for (account, asset, bucket), change in original.changes.items():
            back[account, asset, "available" if bucket in ("held", "bonded") else bucket] -= change
        return {name: amount for name, amount in back.items() if amount}

    def do_reverse(self, command: c.Reverse, kind: EventType, now: str) -> None:
        original = self._original(command.transaction)
        row = EVENT_TYPES.get(original.type) or self.types[original.type]
        self._stop("not_reversible", not row.reversible)
        self._stop("charge_not_open", command.transaction in self.final)
        done = self.undone.get(command.transaction, {})
        left = {name: amount - done.get(name, 0) for name, amount in self._way_back(original).items()}
        if command.legs:
            self._stop("invalid_input", command.amount is not None)
            asked = self._legs(command.legs, kind)
        elif command.amount is None:
            asked = left
        else:
            self._amount(command.amount)
            self._stop("already_reversed", not any(left.values()))
            self._stop("invalid_input", len(left) > 2)
            asked = {name: command.amount if amount > 0 else -command.amount for name, amount in left.items()}
        too_much = any(not min(0, left.get(n, 0)) <= amount <= max(0, left.get(n, 0)) for n, amount in asked.items())
        self._stop("already_reversed", too_much or not any(asked.values()))
        self._judge(asked, command)
        self._happen("reversal", now, asked)
        self.undone[command.transaction] = {name: done.get(name, 0) + asked.get(name, 0) for name in {**done, **asked}}

    def do_finalize_charge(self, command: c.FinalizeCharge, kind: EventType, now: str) -> None:
        original = self._original(command.charge)
        self._stop("not_reversible", original.type != "capture")
        back, done = self._way_back(original), self.undone.get(command.charge, {})
        refunded = bool(done) and all(done.get(name, 0) == amount for name, amount in back.items())
        self._wrong("charge_not_open", command.charge in self.final or refunded)
        self._conditions(command, {})
        self._happen("charge_finalized", now)
        self.final.add(command.charge)

    # ------------------------------------------------------------ accounts

    def _exists(self, address: str, *statuses: str) -> Opened:
        used = address in self.accounts or any(name[0] == address for name in self.versions)
        self._stop("account_not_found", not used)
        opened = self.accounts.get(address, Opened())
        self._stop("account_not_active", opened.status not in statuses)
        return opened

    def _limit(self, address: str, limit: int) -> None:
        self._stop("invalid_input", not 0 <= limit <= MAX or role_of(address) not in ("holder", "clearing"))
        bounded = role_of(address) == "holder"
        self._wrong(
            "limit_out_of_bounds", bounded and not self.policy["limit_min"] <= limit <= self.policy["limit_max"]
        )

    def do_open_account(self, command: c.OpenAccount, kind: EventType, now: str) -> None:
        self._wrong("account_exists", command.account in self.accounts)
        self._wrong("invalid_input", command.floorless and role_of(command.account) != "clearing")
        for asset, limit in command.limits.items():
            self._asset(asset)
            self._limit(command.account, limit)
        for asset in command.ceilings:
            self._asset(asset)
        self._conditions(command, {})
        self._happen("account_opened", now)
        opened = Opened("active", dict(command.limits), dict(command.ceilings), command.floorless)
        self.accounts[command.account] = opened

    def do_freeze_account(self, command: c.FreezeAccount, kind: EventType, now: str) -> None:
        self._status(command, now, "frozen", "active")

    def do_unfreeze_account(self, command: c.UnfreezeAccount, kind: EventType, now: str) -> None:
        self._status(command, now, "active", "frozen")

    def _status(self, command: Any, now: str, new: str, old: str) -> None:
        opened = self._exists(command.account, old)
        self._conditions(command, {})
        self._happen(command.event_type, now)
        self.accounts[command.account] = replace(opened, status=new)

    def do_exclude_account(self, command: c.ExcludeAccount, kind: EventType, now: str) -> None:
        self._end(command, now, "excluded")

    def do_close_account(self, command: c.CloseAccount, kind: EventType, now: str) -> None:
        self._end(command, now, "closed")

    def _end(self, command: Any, now: str, status: str) -> None:
        address, heir = command.account, command.settle_to
        opened = self._exists(address, "active", "frozen")
        if heir:
            self._account(heir)
            self._stop("invalid_input", heir == address or role_of(heir) not in PARTIES)
        changes: dict[Name, int] = {}
        for name, amount in self.balances.items():
            if name[0] == address and amount:
                can_go = name[2] == "available" and heir and role_of(address) in PARTIES
                self._stop("account_not_empty", not can_go)
                changes[name], changes[heir, name[1], "available"] = -amount, amount
        if changes:
            self._judge(changes, command, ending=address)
        else:
            self._conditions(command, {})
        self._happen(command.event_type, now, changes)
        self.accounts[address] = replace(opened, status=status)

    def do_set_limit(self, command: c.SetLimit, kind: EventType, now: str) -> None:
        self._account(command.account)
        opened = self.accounts.get(command.account, Opened())
        self._wrong("account_not_active", opened.status in ("excluded", "closed"))
        self._asset(command.asset)
        limits, ceilings = dict(opened.limits), dict(opened.ceilings)
        if command.limit is not None:
            self._limit(command.account, command.limit)
            limits[command.asset] = command.limit
        if command.ceiling is not None:
            ceilings[command.asset] = command.ceiling
        elif command.clear_ceiling:
            ceilings.pop(command.asset, None)
        nothing = command.limit is None and command.ceiling is None and not command.clear_ceiling
        self._wrong("invalid_input", nothing)
        self._conditions(command, {})
        self._happen("limit_set", now)
        self.accounts[command.account] = replace(opened, limits=limits, ceilings=ceilings)

    # ------------------------------------------------------------ rules and records

    def do_open_ledger(self, command: c.OpenLedger, kind: EventType, now: str) -> None:
        self._stop("invalid_input")

    def do_set_policy(self, command: c.SetPolicy, kind: EventType, now: str) -> None:
        new = {**self.policy, **command.changes}
        self._wrong("invalid_input", not command.changes or new.keys() != self.policy.keys())
        self._wrong("invalid_input", not new["limit_min"] <= new["limit_default"] <= new["limit_max"])
        self._conditions(command, {})
        self._happen("policy_set", now)
        self.policy = new

    def do_define_asset(self, command: c.DefineAsset, kind: EventType, now: str) -> None:
        code = command.asset.partition("/")[0]
        self._wrong("invalid_input", code in self.assets)
        self._conditions(command, {})
        self._happen("asset_defined", now)
        self.assets[code] = command.asset

    def do_define_type(self, command: c.DefineType, kind: EventType, now: str) -> None:
        base = EVENT_TYPES.get(command.base)
        self._stop("invalid_input", command.name in EVENT_TYPES or command.name in self.types)
        self._stop("invalid_input", base is None or base.by != "post")
        assert base is not None
        self._conditions(command, {})
        self._happen("type_defined", now)
        self.types[command.name] = EventType(
            name=command.name,
            group=base.group,
            summary="",
            moves=base.moves,
            requires=(*base.requires, *((name,) for name in command.requires)),
            needs=base.needs,
            by="post",
            reversible=True,
        )

    def do_record_reserve(self, command: c.RecordReserve, kind: EventType, now: str) -> None:
        self._asset(command.asset)
        self._wrong("invalid_input", not 0 <= command.haircut_bps <= 10_000)
        self._record(command, now)

    def do_issue_attestation(self, command: c.IssueAttestation, kind: EventType, now: str) -> None:
        self._wrong("invalid_input", len(command.digest) != 64)
        self._record(command, now)

    def do_rotate_key(self, command: c.RotateKey, kind: EventType, now: str) -> None:
        self._wrong("invalid_input", not command.public_key)
        self._record(command, now)

    def _record(self, command: Any, now: str) -> None:
        self._conditions(command, {})
        self._happen(command.event_type, now)

    def do_close_period(self, command: c.ClosePeriod, kind: EventType, now: str) -> None:
        self._wrong("invalid_input", command.until > now or command.until <= self.closed)
        self._record(command, now)
        self.closed = command.until
