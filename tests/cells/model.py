"""A cell in the fewest words: what each operation must come to, kept apart from everything that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

LIMIT_MIN, LIMIT_MAX = 500, 5_000


@dataclass
class Person:
    """A member of the model. ``highest`` is the highest limit it ever had."""

    limit: int
    balance: int = 0
    reserve: int = 0
    frozen: bool = False
    gone: bool = False
    highest: int = 0
    commitments: dict[str, int] = field(default_factory=dict)


class Model:
    """Each method answers with the words of which one must be given, or with nothing after it did the operation."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}

    def present(self, name: str) -> bool:
        return name in self.people and not self.people[name].gone

    def add(self, name: str, limit: int) -> set[str]:
        if name in self.people:
            return {"account_exists"}
        if not LIMIT_MIN <= limit <= LIMIT_MAX:
            return {"LIMIT_OUT_OF_BOUNDS"}
        self.people[name] = Person(limit, highest=limit)
        return set()

    def set_limit(self, name: str, limit: int) -> set[str]:
        if not self.present(name):
            return {"MEMBER_NOT_FOUND"}
        if not LIMIT_MIN <= limit <= LIMIT_MAX:
            return {"LIMIT_OUT_OF_BOUNDS"}
        person = self.people[name]
        person.limit, person.highest = limit, max(limit, person.highest)
        return set()

    def freeze(self, name: str, frozen: bool) -> set[str]:
        if not self.present(name):
            return {"MEMBER_NOT_FOUND"}
        if self.people[name].frozen == frozen:
            return {"MEMBER_FROZEN"} if frozen else {"account_not_active"}
        self.people[name].frozen = frozen
        return set()

    def pay(self, updates: list[tuple[str, int]]) -> set[str]:
        if sum(delta for _, delta in updates):
            return {"CONSERVATION_VIOLATION"}
        net: dict[str, int] = {}
        for name, delta in updates:
            net[name] = net.get(name, 0) + delta
        if not all(self.present(name) for name in net):
            return {"MEMBER_NOT_FOUND"}
        if not any(net.values()):
            return {"empty_transaction"}
        wrong = {word for name, delta in net.items() if (word := self._debit(self.people[name], delta))}
        if not wrong:
            for name, delta in net.items():
                self.people[name].balance += delta
        return wrong

    def _debit(self, person: Person, delta: int) -> str:
        if delta >= 0:
            return ""
        if person.frozen:
            return "MEMBER_FROZEN"
        if person.balance + delta < -person.limit:
            return "FLOOR_VIOLATION"
        return "ESCROW_VIOLATION" if person.balance + delta - person.reserve < -person.limit else ""

    def reserve(self, name: str, delta: int, commitment: str) -> set[str]:
        if not self.present(name):
            return {"MEMBER_NOT_FOUND"}
        person = self.people[name]
        kept = person.commitments.get(commitment, 0) + delta
        if kept < 0:
            return {"NEGATIVE_RESERVE"}
        if delta > 0 and person.frozen:
            return {"MEMBER_FROZEN"}
        if delta > 0 and person.balance - person.reserve - delta < -person.limit:
            return {"ESCROW_VIOLATION"}
        person.commitments[commitment] = kept
        person.reserve += delta
        return set()

    def remove(self, name: str, heir: str) -> set[str]:
        if heir == name:
            return {"invalid_input"}
        if not self.present(name) or (heir and not self.present(heir)):
            return {"MEMBER_NOT_FOUND"}
        person = self.people[name]
        if person.reserve or (person.balance and not heir):
            return {"account_not_empty"}
        wrong = self._debit(self.people[heir], person.balance) if heir else ""
        if not wrong:
            if person.balance:
                self.people[heir].balance += person.balance
            person.balance, person.gone = 0, True
        return {wrong} if wrong else set()
