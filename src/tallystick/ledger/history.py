"""Effective time: how balances stood, as we now know, and how low one has stood since a moment.

An entry takes effect when it is recorded, unless it was back-dated. So what a balance was worth at an effective time
is what had been recorded by then, plus what was back-dated to then or earlier later on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tallystick.kernel import Balance
from tallystick.stores.base import EntryRow, Store

Backdated = tuple[int, int, str, int]


def lowest_since(
    store: Store,
    ledger: str,
    balance: Balance,
    effective: str,
    *,
    seq_at: Callable[[str], int],
    time_of: Callable[[int], str],
    pending: Iterable[EntryRow] = (),
    pending_backdated: Iterable[Backdated] = (),
) -> int:
    """The lowest amount that a balance stands at from ``effective`` on, up to now, by effective time.

    What happens at one instant counts together. ``pending`` are entries that were decided but are not in the store yet;
    ``seq_at`` (how many events were recorded up to a time) and ``time_of`` (when one was) know of them too. Cost: the
    balance's entries since then, and the reading of a few events.
    """
    if not balance.id:
        return 0
    first = seq_at(effective)
    rows = list(store.entries(ledger, [balance.id], first, 2**62, 2**62))
    late = [row for row in store.backdated(ledger, [balance.id]) if row[1] >= first]
    known, known_late = {row[2] for row in rows}, {row[1] for row in late}  # what is pending may be stored in between
    rows += [row for row in pending if row[0] == balance.id and row[2] >= first and row[2] not in known]
    late += [row for row in pending_backdated if row[0] == balance.id and row[1] >= first and row[1] not in known_late]
    amount = balance.amount - sum(row[3] for row in rows)
    amount += sum(row[3] for row in late if row[2] <= effective)
    late_seqs = {row[1] for row in late}
    steps = [(row[2], "", row[3]) for row in rows if row[2] not in late_seqs]
    steps += [(seq_at(row[2]), row[2], row[3]) for row in late if row[2] > effective]
    # What was back-dated comes before the event at its place, which was recorded later than it took effect.
    steps.sort(key=lambda step: (step[0], not step[1], step[1]))
    stood = [(amount, -1)]
    for index, (_, _, change) in enumerate(steps):
        amount += change
        stood.append((amount, index))

    def moment(index: int) -> str:
        seq, took_effect, _ = steps[index]
        return took_effect or time_of(seq)

    ends = (
        lowest for lowest, index in sorted(stood) if index in (-1, len(steps) - 1) or moment(index) != moment(index + 1)
    )
    return next(ends)


def late_changes(rows: Iterable[Backdated], effective: str, first: int, before: int) -> dict[int, int]:
    """What back-dating added to each balance as of ``effective``: recorded from ``first`` up to before ``before``."""
    changes: dict[int, int] = {}
    for balance, seq, took_effect, amount in rows:
        if first <= seq < before and took_effect <= effective:
            changes[balance] = changes.get(balance, 0) + amount
    return changes
