"""What the workers ask for: by chance, with keys that say what belongs together, and some that all of them share."""

from __future__ import annotations

from collections import defaultdict, deque
from random import Random
from typing import Any

from msgspec import Struct

from tallystick import commands as c
from tallystick.commands import Command, Leg, Split

USD = "USD/2"
PEOPLE = [f"users:{number}" for number in range(20)]
FROZEN = PEOPLE[:2]
"""Those who are, now and then; of the others most postings succeed."""
MEMBERS = [f"members:{number}" for number in range(4)]
FUNDS = 1_000_000
SHARED = "shared"
"""The source of the keys that every worker uses."""

SINGLE, APART, ATOMIC, DRY = "single", "apart", "atomic", "dry"
JOINED, UNDONE = "joined", "undone"
"""Within a transaction of the caller's, which is committed, or rolled back."""

KINDS: list[tuple[str, int, int]] = [
    (SINGLE, 1, 600),
    (APART, 8, 90),
    (APART, 30, 40),
    (APART, 250, 14),
    (APART, 2_100, 4),
    (ATOMIC, 3, 90),
    (ATOMIC, 20, 30),
    (ATOMIC, 200, 6),
    (JOINED, 1, 70),
    (JOINED, 5, 30),
    (JOINED, 150, 3),
    (UNDONE, 1, 30),
    (UNDONE, 5, 10),
    (DRY, 4, 20),
]
"""(kind, how many commands, how often). Many are copied, and 2,100 stored while they are decided."""

REMEMBERED = 40
WINDOW = 4
OTHER_REQUEST = 0.12


class Call(Struct, frozen=True):
    """One call of a worker: these commands, in this way, to this ledger."""

    kind: str
    ledger: str
    commands: list[Command]


def funding() -> list[Command]:
    """What every worker asks for first, under the same keys; whoever comes first opens the ledger."""
    opened = [c.OpenAccount(key=f"open {one}", source=SHARED, account=one, limits={USD: 2_000}) for one in MEMBERS]
    legs = [Leg("@issuance", one, USD, FUNDS) for one in PEOPLE]
    return [*opened, *(c.Post(key=f"fund {leg.to_account}", source=SHARED, type="mint", legs=(leg,)) for leg in legs)]


def shared_command(seed: int, ledger: str, index: int) -> Command:
    """The same for every worker, whoever makes it."""
    random = Random(f"{seed} {ledger} {index}")
    key, (payer, payee), amount = f"s{index}", random.sample(PEOPLE, 2), random.randint(1, 50)
    if random.random() < 0.2:
        return c.Hold(key=key, source=SHARED, account=payer, asset=USD, amount=amount, refs={"order": key})
    if random.random() < 0.1:
        leg = Leg("@external:bank", payee, USD, amount)
        return c.Post(key=key, source=SHARED, type="deposit", legs=(leg,), refs={"external_ref": key})
    return c.Transfer(key=key, source=SHARED, from_account=payer, to_account=payee, asset=USD, amount=amount)


class Planner:
    """The calls of one thread. It remembers what it was told, so that it can refer to it."""

    def __init__(self, seed: int, name: str, ledgers: list[str], first: int = 0) -> None:
        self.seed = seed
        self.name = name
        self.ledgers = ledgers
        self.random = Random(f"{seed} {name}")
        self.turn = first
        self._number = 0
        self._holds: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._posted: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def call(self) -> Call:
        """The next call; half of them go to the first ledger."""
        self.turn += 1
        ledger = self.ledgers[0] if self.random.random() < 0.5 else self.random.choice(self.ledgers)
        kind, size, _ = self.random.choices(KINDS, [weight for _, _, weight in KINDS])[0]
        self._number = 0
        may_share = kind in (SINGLE, APART, ATOMIC)
        return Call(kind, ledger, [self._command(ledger, f"{kind} {size}", may_share) for _ in range(size)])

    def learn(self, ledger: str, command: Command, id: str) -> None:
        """A command was posted under this id."""
        if isinstance(command, c.Hold):
            self._holds[ledger].append(id)
        elif isinstance(command, (c.Transfer, c.Capture, c.Post)):
            self._posted[ledger].append(id)

    def learn_holds(self, ledger: str, ids: list[str]) -> None:
        """These holds were seen, whoever made them."""
        self._holds[ledger].extend(ids)

    def _command(self, ledger: str, what: str, may_share: bool) -> Command:
        if may_share and self.random.random() < 0.15:
            return self._shared(ledger)
        self._number += 1
        return self._own(ledger, f"{self.name}.{self.turn} {what} {self._number}")

    def _shared(self, ledger: str) -> Command:
        """What others ask for at about the same time; now and then not quite the same."""
        found = shared_command(self.seed, ledger, self.turn + self.random.randint(0, WINDOW))
        if self.random.random() < OTHER_REQUEST:
            return _changed(found, self.name)
        return found

    def _own(self, ledger: str, key: str) -> Command:
        random = self.random
        payer, payee = random.sample(PEOPLE, 2)
        chance, amount = random.random(), random.randint(1, 400)
        if chance < 0.12:
            expires = random.choice([1, 3_600, 86_400])
            refs = {"order": key}
            return c.Hold(key=key, account=payer, asset=USD, amount=amount, refs=refs, expires_in_seconds=expires)
        if chance < 0.30 and self._holds[ledger]:
            return self._of_a_hold(key, random.choice(self._holds[ledger]), payee)
        if chance < 0.37 and self._posted[ledger]:
            part = random.choice([None, random.randint(1, 60)])
            return c.Reverse(key=key, transaction=random.choice(self._posted[ledger]), amount=part)
        if chance < 0.42:
            member, other = random.sample(MEMBERS, 2)
            payee = random.choice([other, payee])
            return c.Transfer(key=key, from_account=member, to_account=payee, asset=USD, amount=3 * amount)
        if chance < 0.44:
            return self._of_an_account(key)
        return c.Transfer(key=key, from_account=payer, to_account=payee, asset=USD, amount=amount)

    def _of_a_hold(self, key: str, hold: str, payee: str) -> Command:
        random = self.random
        chance, part = random.random(), random.choice([None, random.randint(1, 120)])
        if chance < 0.6:
            return c.Capture(key=key, hold=hold, splits=(Split(payee, part),), final=random.random() < 0.3)
        if chance < 0.8:
            return c.Release(key=key, hold=hold, amount=part)
        if chance < 0.9:
            return c.HoldTopUp(key=key, hold=hold, amount=random.randint(1, 50))
        return c.HoldExpire(key=key, hold=hold)

    def _of_an_account(self, key: str) -> Command:
        chance = self.random.random()
        if chance < 0.7:
            freezes = chance < 0.3
            return (c.FreezeAccount if freezes else c.UnfreezeAccount)(key=key, account=self.random.choice(FROZEN))
        member = self.random.choice(MEMBERS)
        return c.SetLimit(key=key, account=member, asset=USD, limit=self.random.choice([500, 2_000, 5_000]))


def _changed(command: Command, who: str) -> Command:
    fields: dict[str, Any] = {name: getattr(command, name) for name in command.__struct_fields__}
    return type(command)(**{**fields, "reason": f"as {who} wants it"})
