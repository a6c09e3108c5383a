"""Audit: the whole ledger checked against its own events, and its projections made again from them.

Replay trusts nothing but the event bytes: their canonical form, their chain, and that applying them one by one from an
empty book gives every balance, account, lock and record that the live projections show; and the log over them, if
there is one, must have the tiles and roots of just these events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tallystick.erasable import commitments_in
from tallystick.errors import Archived, LedgerCorrupt, Unavailable
from tallystick.journal import check_link, decode_event, decode_strict, leaf_hash
from tallystick.kernel import Book, NotLoaded, apply
from tallystick.ledger.history import Backdated
from tallystick.ledger.keys import KeyFilter
from tallystick.ledger.log_audit import LogAudit
from tallystick.ledger.openings import opens
from tallystick.ledger.rows import add_rows
from tallystick.ledger.views import Finding, Report
from tallystick.stores.base import OBJECT_TYPES, Batch, Head, Store, key_number

Progress = Callable[[int, int], None]
"""Told (done, of how many) from time to time."""

EVENTS_PER_READ = 4_096
MAX_FINDINGS = 100
MAX_CATCH_UPS = 20
"""How often replay takes in what was posted while it ran."""


class _Replayer:
    """A book that is brought past every event, and the batches that a store would have been given."""

    def __init__(self, store: Store, name: str, progress: Progress | None) -> None:
        self.store = store
        self.name = name
        self.progress = progress
        self.book = Book(name, complete=True)
        self.entries = 0
        self.keys = KeyFilter()

    def batches(self, head: Head) -> Iterator[Batch]:
        """One batch for each read of events up to this head. Raises LedgerCorrupt at the first that is not right."""
        book = self.book
        while book.seq < head.seq:
            bodies = self.store.events(self.name, book.seq, min(EVENTS_PER_READ, head.seq - book.seq))
            if not bodies:
                raise LedgerCorrupt(where=f"event {self.name}/{book.seq}", problem="it is missing", seq=book.seq)
            yield self._batch(bodies)
            if self.progress is not None:
                self.progress(book.seq, head.seq)
        if book.seq and book.hash != head.hash:
            raise LedgerCorrupt(where=f"event {self.name}/{head.seq - 1}", problem="the head names another hash")

    def _batch(self, bodies: list[bytes]) -> Batch:
        book = self.book
        expected = Head(book.seq, book.hash, book.time, book.balances_made)
        batch = Batch(ledger=self.name, expected=expected, head=expected, bodies=bodies)
        for body in bodies:
            event = decode_strict(body)
            check_link(event, book.seq, book.hash)
            try:
                apply(book, event, leaf_hash(body))
            except (NotLoaded, KeyError, ValueError, StopIteration, msgspec.ValidationError) as error:
                raise LedgerCorrupt(
                    where=f"event {event.id}", problem=f"it cannot be applied: {error!r}", seq=event.seq
                ) from None
            add_rows(event, book, batch)
            batch.keys.append((key_number(event.source, event.idem), event.seq))
            self.entries += len(event.entries)
        batch.head = Head(book.seq, book.hash, book.time, book.balances_made)
        batch.balances, book.new_balances = book.new_balances, []
        batch.objects = [(kind, id, book.objects[kind, id]) for kind, id in book.changed]
        book.changed = {}
        return batch


def replay(store: Store, name: str, progress: Progress | None = None) -> Report:
    """See Ledger.replay."""
    began = time.monotonic()
    replayer = _Replayer(store, name, progress)
    findings: list[Finding] = [Finding("storage", problem) for problem in store.check()]
    try:
        findings += _compare_all(store, name, replayer)
    except (LedgerCorrupt, Archived) as corrupt:
        findings.append(_damage(corrupt))
    return _report(replayer, began, findings)


def rebuild(store: Store, name: str, progress: Progress | None = None) -> Report:
    """See Ledger.rebuild."""
    began = time.monotonic()
    replayer = _Replayer(store, name, progress)
    findings: list[Finding] = []
    try:
        store.rebuild(_all_batches(replayer))
    except (LedgerCorrupt, Archived) as corrupt:
        findings.append(_damage(corrupt))
    return _report(replayer, began, findings)


def _damage(corrupt: LedgerCorrupt | Archived) -> Finding:
    problem = corrupt if isinstance(corrupt, Archived) else corrupt.data.get("problem", corrupt)
    return Finding(str(corrupt.data.get("where", "?")), str(problem))


def _all_batches(replayer: _Replayer) -> Iterator[Batch]:
    head = replayer.store.head(replayer.name)  # asked when the store has stopped everyone else from writing
    if head is not None:
        yield from replayer.batches(head)


def _report(replayer: _Replayer, began: float, findings: list[Finding]) -> Report:
    book = replayer.book
    return Report(
        ledger=replayer.name,
        events=book.seq,
        entries=replayer.entries,
        balances=book.balances_made,
        seconds=time.monotonic() - began,
        head=book.hash,
        findings=findings[:MAX_FINDINGS],
    )


# ---------------------------------------------------------------- comparing


def _compare_all(store: Store, name: str, replayer: _Replayer) -> list[Finding]:
    """What differs. Others may post meanwhile: then what they posted is replayed as well, until nothing is new."""
    findings: list[Finding] = []
    log = LogAudit(store, name)
    for _ in range(MAX_CATCH_UPS):
        head = store.head(name)
        if head is None:
            return findings
        late = set(store.backdated(name))
        for batch in replayer.batches(head):
            _compare_rows(store, name, batch, late, findings)
            _check_keys(store, name, batch, replayer.keys, findings)
            _check_openings(store, name, batch, findings)
            findings += log.pass_by(batch.bodies)
        states: list[Finding] = []
        _compare_balances(store, name, replayer.book, states)
        _compare_objects(store, name, replayer.book, states)
        for row in store.openings_between(name, head.seq, 2**62):
            _differs(states, name, row[3], f"the opening of {row[0]}")
        if store.head(name) == head:
            _check_sums(replayer.book, states)
            return [*findings, *log.end(), *states]
    raise Unavailable(reason=f"{name} is posted to faster than it can be replayed; replay a copy of it")


def _compare_rows(store: Store, name: str, batch: Batch, late: set[Backdated], findings: list[Finding]) -> None:
    """What is derived from each of these events, both ways: nothing missing, nothing besides."""
    first, before = batch.expected.seq, batch.head.seq
    wanted = sorted({row[0] for row in batch.entries})
    entries = store.entries(name, wanted, first, before, 2**31) if wanted else []
    for row in set(entries) ^ set(batch.entries):
        _differs(findings, name, row[2], f"its entry of balance {row[0]}")
    for number, seq in set(store.key_numbers(name, first, before)) ^ set(batch.keys):
        _differs(findings, name, seq, f"its idempotency key's index ({number})")
    for kind, value, seq in set(store.references_between(name, first, before)) ^ set(batch.references):
        _differs(findings, name, seq, f"its reference {kind} {value}")
    here = {row for row in late if first <= row[1] < before}
    for balance, seq, _, _ in here ^ set(batch.backdated):
        _differs(findings, name, seq, f"its back-dating of balance {balance}")


def _differs(findings: list[Finding], name: str, seq: int, what: str) -> None:
    if len(findings) < MAX_FINDINGS:
        findings.append(Finding(f"event {name}/{seq}", f"{what} is not what the journal says"))


def _check_keys(store: Store, name: str, batch: Batch, keys: KeyFilter, findings: list[Finding]) -> None:
    """No two events bear one key of one source."""
    numbers = [number for number, _ in batch.keys]
    suspects = [numbers[position] for position in keys.suspects(numbers)]
    keys.add(numbers)
    for seqs in store.find_keys(name, suspects).values() if suspects else ():
        seen: set[tuple[str, str]] = set()
        for seq in sorted(seqs) if len(seqs) > 1 else ():
            body = store.event(name, seq)
            event = decode_event(body) if body else None
            if event is not None and (event.source, event.idem) in seen:
                findings.append(
                    Finding(f"event {name}/{seq}", f"the key {event.idem!r} of {event.source} was used before")
                )
            elif event is not None:
                seen.add((event.source, event.idem))


def _check_openings(store: Store, name: str, batch: Batch, findings: list[Finding]) -> None:
    """What opens a commitment leads to it, and its event holds it. One that is not there was erased."""
    first = batch.expected.seq
    for row in store.openings_between(name, first, batch.head.seq):
        held = commitments_in(decode_event(batch.bodies[row[3] - first]).data).values()
        if row[0] not in held or not opens(row):
            _differs(findings, name, row[3], f"the opening of {row[0]}")


def _compare_balances(store: Store, name: str, book: Book, findings: list[Finding]) -> None:
    live = {row[:3]: row[3] for row in store.balances(name, book.seq)}
    replayed = {
        (account, asset, bucket): balance
        for (asset, bucket), pocket in book.pockets.items()
        for account, balance in pocket.items()
    }
    _compare("balance", live, replayed, findings)


def _compare_objects(store: Store, name: str, book: Book, findings: list[Finding]) -> None:
    for kind in sorted(OBJECT_TYPES):
        live = store.load_objects(name, kind)
        replayed = {id: value for (found, id), value in book.objects.items() if found == kind}
        _compare(kind, live, replayed, findings)


def _compare(what: str, live: dict[Any, Any], replayed: dict[Any, Any], findings: list[Finding]) -> None:
    for place in sorted(live.keys() | replayed.keys(), key=str):
        if live.get(place) != replayed.get(place):
            where = " ".join(place) if isinstance(place, tuple) else place
            findings.append(
                Finding(f"{what} {where}", f"it is {live.get(place)}, the journal says {replayed.get(place)}")
            )


def _check_sums(book: Book, findings: list[Finding]) -> None:
    """Over the ledger all balances of an asset sum to zero, and what is held is what open locks keep."""
    totals: dict[str, int] = {}
    for (asset, _), pocket in book.pockets.items():
        totals[asset] = totals.get(asset, 0) + sum(balance.amount for balance in pocket.values())
    findings.extend(Finding(f"asset {asset}", f"it sums to {total}") for asset, total in totals.items() if total)
    kept: dict[tuple[str, str, str], int] = {}
    for (kind, _), lock in book.objects.items():
        if kind == "lock" and lock.is_open:
            place = (lock.account, lock.asset, lock.bucket)
            kept[place] = kept.get(place, 0) + lock.remaining
    for bucket in ("held", "bonded"):
        for (asset, found), pocket in book.pockets.items():
            for account, balance in pocket.items() if found == bucket else ():
                if kept.get((account, asset, bucket), 0) != balance.amount:
                    findings.append(
                        Finding(f"balance {account} {asset} {bucket}", "it is not what the open locks keep")
                    )
