"""The proof, from the bytes of the events alone: entries sum to zero, no balance goes below its floor, versions and
events have no gaps, the chain holds, time never runs backwards, a key is used once, a hold pays out no more than it
has, and a reversal no more than there was. And that the tables say the same.

Nothing of the library is used. Each broken rule is one finding, a sentence; a ledger that keeps all rules has none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from typing import Any

from tests.concurrency.evidence import Evidence

GENESIS = "0" * 64
LARGEST = 2**63 - 1
PART = 2**15
"""A snapshot is of the balances before every so-manieth event."""

FLOORLESS = ("@issuance", "@external:")
SET_ASIDE = ("held", "bonded")

Name = tuple[str, str, str]


class Proof:
    """Reads a ledger's events in order and notes everything that is not as it must be."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.findings: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.hashes: list[str] = []
        self.latest: dict[Name, tuple[int, int]] = {}
        """(version, amount) of each balance."""
        self.limits: dict[tuple[str, str], int] = {}
        self.frozen: set[str] = set()
        self.keys: dict[tuple[str, str], int] = {}
        self.holds: dict[str, tuple[Name, int]] = {}
        """What each hold still keeps, and in which balance."""
        self._left: dict[int, dict[Name, int]] = {}
        self._snapshots: dict[int, dict[Name, tuple[int, int]]] = {}

    def find(self) -> list[str]:
        """Everything that is wrong."""
        self._unpack()
        last_hash, last_time = GENESIS, ""
        for seq, (event, hash) in enumerate(zip(self.events, self.hashes, strict=True)):
            if seq % PART == 0:
                self._snapshots[seq // PART] = dict(self.latest)
            self._check_place(seq, event, last_hash, last_time)
            self._check_key(seq, event)
            changes = self._check_entries(seq, event)
            self._check_hold(seq, event, changes)
            self._check_reversal(seq, event, changes)
            self._declare(event)
            last_hash, last_time = hash, event["time"]
        self._check_sums()
        self._check_held()
        self._check_tables(last_hash, last_time)
        return self.findings

    def _say(self, seq: int, problem: str) -> None:
        self.findings.append(f"{self.evidence.ledger}/{seq}: {problem}")

    # ------------------------------------------------------------ events

    def _unpack(self) -> None:
        for seq, count, hash, body in self.evidence.rows:
            bodies = bytes(body).split(b"\n")
            if seq != len(self.events) or count != len(bodies):
                self._say(seq, f"its row of {count} events does not begin behind event {len(self.events) - 1}")
            self.events += [json.loads(one) for one in bodies]
            self.hashes += [hashlib.sha256(b"\0" + one).hexdigest() for one in bodies]
            if self.hashes[-1] != hash:
                self._say(seq, "its row names another hash than that of its last event")

    def _check_place(self, seq: int, event: dict[str, Any], last_hash: str, last_time: str) -> None:
        if event["seq"] != seq or event["ledger"] != self.evidence.ledger:
            self._say(seq, f"it says it is {event['ledger']}/{event['seq']}")
        if event["prev"] != last_hash:
            self._say(seq, "it names another hash than that of the event before")
        if event["time"] < last_time:
            self._say(seq, "time ran backwards")

    def _check_key(self, seq: int, event: dict[str, Any]) -> None:
        key = (event["source"], event["idem"])
        if key in self.keys:
            self._say(seq, f"its key {key} is that of event {self.keys[key]}")
        self.keys[key] = seq

    def _check_entries(self, seq: int, event: dict[str, Any]) -> dict[Name, int]:
        sums: Counter[str] = Counter()
        changes: dict[Name, int] = {}
        for entry in event.get("entries", ()):
            name = (entry["account"], entry["asset"], entry["bucket"])
            amount, before, after = (int(entry[field]) for field in ("amount", "before", "after"))
            version, was = self.latest.get(name, (0, 0))
            sums[entry["asset"]] += amount
            if name in changes:
                self._say(seq, f"two entries of {name}")
            if after != before + amount:
                self._say(seq, f"after is not before + amount in {name}")
            if before != was:
                self._say(seq, f"{name} was {was} before, not {before}")
            if entry["version"] != version + 1:
                self._say(seq, f"version {entry['version']} of {name} follows version {version}")
            if amount < 0 and after < self._floor(name):
                self._say(seq, f"{name} goes to {after}, below its floor of {self._floor(name)}")
            if abs(after) > LARGEST or not amount:
                self._say(seq, f"{name} is changed by {amount} to {after}")
            changes[name] = amount
            self.latest[name] = (entry["version"], after)
        for asset, total in sums.items():
            if total:
                self._say(seq, f"its entries in {asset} sum to {total}")
        for account in {name[0] for name in changes} & self.frozen:
            own = {name: amount for name, amount in changes.items() if name[0] == account}
            if sum(own.values()) < 0 or any(amount < 0 for name, amount in own.items() if name[2] == "available"):
                self._say(seq, f"{account} is frozen, and pays")
        return changes

    def _floor(self, name: Name) -> int:
        account, asset, bucket = name
        if bucket != "available":
            return 0
        return -LARGEST if account.startswith(FLOORLESS) else -self.limits.get((account, asset), 0)

    def _check_hold(self, seq: int, event: dict[str, Any], changes: dict[Name, int]) -> None:
        """What is set aside changes only by its hold's own events, and no hold gives more than it has."""
        data = event.get("data", {})
        aside = {name: amount for name, amount in changes.items() if name[2] in SET_ASIDE}
        if event["type"] == "hold":
            id = f"{self.evidence.ledger}/{seq}"
            ((name, amount),) = aside.items()
            self.holds[id] = (name, amount)
        elif data.get("hold") in self.holds and aside:
            name, kept = self.holds[data["hold"]]
            if set(aside) != {name}:
                self._say(seq, f"it is about {data['hold']}, and changes {sorted(aside)}")
            self.holds[data["hold"]] = (name, kept + aside.get(name, 0))
            if kept + aside.get(name, 0) < 0:
                self._say(seq, f"{data['hold']} gives more than it has")
            paid = sum(amount for other, amount in changes.items() if other not in aside and amount > 0)
            if event["type"] == "capture" and paid != -aside.get(name, 0):
                self._say(seq, f"{data['hold']} gives {-aside.get(name, 0)}, and {paid} arrives")
        elif aside:
            self._say(seq, f"a {event['type']} changes what is set aside")

    def _check_reversal(self, seq: int, event: dict[str, Any], changes: dict[Name, int]) -> None:
        """No more of a transaction is undone than there was."""
        self._left[seq] = {}
        for (account, asset, bucket), amount in changes.items():
            back = (account, asset, "available" if bucket in SET_ASIDE else bucket)
            self._left[seq][back] = self._left[seq].get(back, 0) - amount
        if event["type"] == "reversal":
            original = int(event["data"]["reverses"].rpartition("/")[2])
            for name, amount in changes.items():
                room = self._left[original].get(name, 0)
                if not (0 <= amount <= room or room <= amount <= 0):
                    self._say(seq, f"it undoes {amount} of {room} in {name} of event {original}")
                self._left[original][name] = room - amount

    def _declare(self, event: dict[str, Any]) -> None:
        data, type = event.get("data", {}), event["type"]
        if type == "account_opened":
            self.limits.update(((data["account"], asset), int(limit)) for asset, limit in data["limits"].items())
        elif type == "limit_set":
            self.limits[data["account"], data["asset"]] = int(data["limit"])
        elif type == "account_frozen":
            self.frozen.add(data["account"])
        elif type == "account_unfrozen":
            self.frozen.discard(data["account"])

    # ------------------------------------------------------------ the whole

    def _check_sums(self) -> None:
        totals: Counter[str] = Counter()
        for (_, asset, _), (_, amount) in self.latest.items():
            totals[asset] += amount
        self.findings += [
            f"{self.evidence.ledger}: {asset} sums to {total}" for asset, total in totals.items() if total
        ]

    def _check_held(self) -> None:
        kept: dict[Name, int] = defaultdict(int)
        for name, amount in self.holds.values():
            kept[name] += amount
        for name, (_, amount) in self.latest.items():
            if name[2] in SET_ASIDE and amount != kept[name]:
                self.findings.append(f"{self.evidence.ledger}: {name} is {amount}, its holds keep {kept[name]}")

    def _check_tables(self, last_hash: str, last_time: str) -> None:
        found = self.evidence
        derived = [
            (
                seq,
                e["account"],
                e["asset"],
                e["bucket"],
                e["version"],
                int(e["amount"]),
                int(e["before"]),
                int(e["after"]),
            )
            for seq, event in enumerate(self.events)
            for e in event.get("entries", ())
        ]
        self._compare("entries", found.entries, derived)
        self._compare("balances", found.balances, list(self.latest))
        self._compare("keys", found.keys, [(key_number(*key), seq) for key, seq in self.keys.items()])
        references = [
            (name, value, seq) for seq, event in enumerate(self.events) for name, value in event.get("refs", {}).items()
        ]
        self._compare("references", found.references, references)
        locks = [(id, lock["remaining"]) for id, lock in found.locks.items()]
        self._compare("locks", locks, [(id, kept) for id, (_, kept) in self.holds.items()])
        self._compare("heads", [found.head], [(len(self.events), last_hash, last_time, len(self.latest))])
        parts = {part for part, *_ in found.snapshots}
        snapshots = [(part, *name, *state) for part in parts for name, state in self._snapshots.get(part, {}).items()]
        self._compare("snapshots", found.snapshots, snapshots)

    def _compare(self, what: str, stored: list[Any], derived: list[Any]) -> None:
        """The rows of a table, and those that the events say there must be; each just once."""
        rows, wanted = Counter(map(tuple, stored)), Counter(map(tuple, derived))
        for row in rows - wanted:
            self.findings.append(f"{self.evidence.ledger}: the table of {what} has {row}, the events have not")
        for row in wanted - rows:
            self.findings.append(f"{self.evidence.ledger}: the table of {what} lacks {row}")


def key_number(source: str, key: str) -> int:
    """The number under which a key is indexed."""
    return int.from_bytes(hashlib.blake2b(f"{source}\0{key}".encode(), digest_size=8).digest(), "big") >> 1
