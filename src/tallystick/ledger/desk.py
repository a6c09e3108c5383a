"""The desk: one ledger's book with its store at hand. Here commands become sealed batches.

It loads what the kernel asks for, answers repeated keys from the journal, and gathers what a commit will write. It is
used by one thread at a time: the writer's leader.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from msgspec import Struct, field

from tallystick.clock import Clock
from tallystick.commands import Command, OpenLedger
from tallystick.errors import Archived, IdempotencyConflict, LedgerCorrupt, Refusal
from tallystick.events import Event
from tallystick.journal import decode_event, leaf_hash, seal, seal_transfers
from tallystick.kernel import Book, NotLoaded, Run, apply, decide, run_transfers, shows_request
from tallystick.kernel.book import ALWAYS_LOADED, Mark
from tallystick.kernel.needs import unknown_accounts, unknown_locks
from tallystick.ledger.history import lowest_since
from tallystick.ledger.keys import KeyFilter, NoFilter
from tallystick.ledger.openings import Salts, as_committed, commit, has_erasable, random_salt
from tallystick.ledger.rows import add_rows
from tallystick.ledger.views import Posted
from tallystick.stores.base import (
    EMPTY_HEAD,
    Batch,
    Changes,
    EntryRow,
    Head,
    OpeningRow,
    Store,
    key_number,
    key_numbers,
    while_others_wait,
)

MAX_ACCOUNTS_IN_MEMORY = 500_000
MAX_OBJECTS_IN_MEMORY = 500_000
KEYS_PER_SAVE = 65_536
"""The key filter is written down when so many keys are new; a large one, while at work, at every eighth of its size."""

NEAR = 256
"""Events that lie so close are read together."""

OPENING_KEY = "ledger_opened"
OPENING_SOURCE = "tallystick"

Result = Posted | Refusal | Archived
"""What a command comes to. Archived: it hangs on an event whose file is away, which is no other command's affair."""


class _Gathered(Struct):
    """What was decided since the last batch was taken."""

    bodies: list[bytes] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    keys: dict[int, int] = field(default_factory=dict)
    twins: list[tuple[int, int]] = field(default_factory=list)
    """(number, seq) of keys whose number another key of the same batch has too."""
    references: list[tuple[str, str, int]] = field(default_factory=list)
    backdated: list[tuple[int, int, str, int]] = field(default_factory=list)
    openings: list[OpeningRow] = field(default_factory=list)


class Save(Struct, frozen=True):
    """A point to return to: the book's, and how much was gathered by then."""

    mark: Mark
    lengths: tuple[int, ...]


class Desk:
    """See the module. ``policy`` is used only if the ledger does not exist yet; ``passing``: for one call only."""

    def __init__(
        self,
        store: Store,
        name: str,
        clock: Clock,
        policy: dict[str, Any],
        *,
        salts: Salts = random_salt,
        passing: bool = False,
    ) -> None:
        self.name = name
        self._store = store
        self._clock = clock
        self._salts = salts
        self._policy = policy
        self._filter: KeyFilter | None = NoFilter() if passing else None
        self._keyed = EMPTY_HEAD  # the keys of all events before this head are in the filter
        self._saved_keys: list[tuple[int, str]] = []  # size and SHA-256 of each segment that was kept
        self._stored_keys: dict[int, list[int]] = {}
        self._repeated: dict[int, bytes | Archived] = {}
        self._in_flight: deque[tuple[Batch, _Gathered]] = deque()
        self.drop()

    def drop(self) -> None:
        """Forget the book and what was decided on it; it is read again when it is needed."""
        self._book: Book | None = None
        self._gathered = _Gathered()
        self._taken = EMPTY_HEAD
        self._in_flight.clear()
        self.now = ""

    # ------------------------------------------------------------ rounds

    @property
    def head(self) -> Head:
        """Where the book stands in the store; nothing is in flight, and nothing is gathered."""
        self._load()
        return self._taken

    @while_others_wait()
    def catch_up(self, changes: Changes | None) -> None:
        """Bring the book past what other writers did since ``head``; what it does not hold it need not learn."""
        if changes is None:
            return
        book = self.book
        for account, asset, bucket, balance in changes.balances:
            if account in book.known:
                book.pockets.setdefault((asset, bucket), {})[account] = balance
        for kind, id, value in changes.objects:
            if kind in ALWAYS_LOADED or (kind, id) in book.objects or (kind == "account" and id in book.known):
                book.remember(kind, id, value)
        head = changes.head
        book.seq, book.hash, book.time, book.balances_made = head.seq, head.hash, head.time, head.balances
        if changes.keys is not None and self._filter is not None and self._keyed == self._taken:
            self._filter.add(changes.keys)
            self._saved_keys = []
            self._keyed = head
        else:
            self._know_keys(head)
        self._taken = head

    def number_of(self, account: str, asset: str, bucket: str) -> int | None:
        """The number of a balance; 0 if the book does not hold the account, None if it does not know the balance."""
        if account not in self.book.known:
            return 0
        held = self.book.pockets.get((asset, bucket), {}).get(account)
        return None if held is None else held.id

    def begin(self) -> None:
        """Start a round: the book stands at the journal's end, and it is now."""
        self._load()
        self.now = max(self._clock(), self.book.time)

    @property
    def position(self) -> int:
        """The next sequence number, as far as it is known; 0 for a ledger that was not opened."""
        return self._book.seq if self._book is not None else 0

    @property
    def book(self) -> Book:
        assert self._book is not None, "begin() comes first"
        return self._book

    def save(self) -> Save:
        """A point to which ``restore`` returns."""
        return Save(self.book.mark(), tuple(len(getattr(self._gathered, name)) for name in _Gathered.__struct_fields__))

    def restore(self, save: Save) -> None:
        """Take back everything since the save."""
        self.book.rollback(save.mark)
        for name, length in zip(_Gathered.__struct_fields__, save.lengths, strict=True):
            gathered = getattr(self._gathered, name)
            if isinstance(gathered, dict):
                while len(gathered) > length:
                    gathered.popitem()
            else:
                del gathered[length:]

    def release(self, save: Save) -> None:
        """Forget the way back."""
        if save.mark.undo == 0:
            self.book.keep()

    def take(self) -> Batch | None:
        """What was gathered, as a batch behind the one taken before; None if there is nothing."""
        if not self._gathered.bodies:
            return None
        book, gathered = self.book, self._gathered
        head = Head(book.seq, book.hash, book.time, book.balances_made)
        batch = Batch(
            ledger=self.name,
            expected=self._taken,
            head=head,
            bodies=gathered.bodies,
            entries=gathered.entries,
            keys=sorted([*gathered.keys.items(), *gathered.twins], key=itemgetter(1)),
            references=gathered.references,
            backdated=gathered.backdated,
            openings=gathered.openings,
            balances=book.new_balances,
            objects=[(kind, id, book.objects[kind, id]) for kind, id in book.changed],
        )
        self._gathered = _Gathered()
        book.new_balances = []
        book.changed = {}
        self._taken = head
        self._in_flight.append((batch, gathered))
        return batch

    def stored(self, seq: int) -> None:
        """All events before this number are durable now, and the store knows their keys."""
        while self._in_flight and self._in_flight[0][0].head.seq <= seq:
            batch, _ = self._in_flight.popleft()
            self._keyed = batch.head
            for kind, id, value in batch.objects:
                if kind == "lock" and not value.is_open and self.book.objects.get(("lock", id)) is value:
                    del self.book.objects["lock", id]

    def trim(self) -> None:
        """Keep memory within its limits; only between rounds, with nothing in flight."""
        book = self._book
        if book is None or self._in_flight or self._gathered.bodies:
            return
        if len(book.known) > MAX_ACCOUNTS_IN_MEMORY or len(book.objects) > MAX_OBJECTS_IN_MEMORY:
            self.drop()

    # ------------------------------------------------------------ deciding

    @while_others_wait()
    def decide(self, commands: Sequence[Command]) -> list[Result]:
        """One result for each command, in order; each is decided on the book as the ones before left it. Raises
        NotAtHand if what the commands need takes long to be had: drop the book, get it, and decide anew."""
        results: list[Result] = []
        if not commands:
            return results
        self.foresee(commands)
        numbers = _numbers(commands)
        suspects = self._confirm(commands, numbers)
        position, count = 0, len(commands)
        stops = iter([*sorted(suspects), count])
        stop = next(stops)
        while position < count:
            if position == stop:
                results.append(self._one(commands[position], numbers[position]))
                position += 1
                stop = next(stops)
                continue
            run = run_transfers(self.book, commands, position, stop)
            if run is None:
                results.append(self._one(commands[position], numbers[position]))
                position += 1
            else:
                results.extend(self._seal_run(run, numbers[position : position + len(run.moved)]))
                position += len(run.moved)
        self._stored_keys, self._repeated = {}, {}  # of a batch asked again these are all its events
        return results

    def open_ledger(self) -> None:
        """The ledger's first event."""
        command = OpenLedger(key=OPENING_KEY, source=OPENING_SOURCE, name=self.name, policy=self._policy)
        result = self._one(command, key_number(command.source, command.key))
        if not isinstance(result, Posted):
            raise result

    def _seal_run(self, run: Run, numbers: list[int]) -> list[Posted]:
        book, first = self.book, self.book.seq
        bodies, hashes = seal_transfers(
            run.moved, ledger=self.name, source=run.source, actor=run.actor, time=self.now, seq=first, prev=book.hash
        )
        book.seq += len(bodies)
        book.hash = hashes[-1]
        book.time = self.now
        gathered = self._gathered
        gathered.bodies += bodies
        gathered.entries += run.entries
        self._use_keys(numbers, first)
        name, time = self.name, self.now
        return [Posted(name, seq, hash, time) for seq, hash in enumerate(hashes, first)]

    def _one(self, command: Command, number: int) -> Result:
        try:
            again = self._answer_again(command, number)
            if again is not None:
                return again
            openings: list[OpeningRow] = []
            if has_erasable(command):
                command, openings = commit(command, self.book.seq, self._salts)
            event = self._decide(command, {row[0] for row in openings})
            body, hash = seal(event, self.book.hash)
        except (Refusal, Archived) as refusal:
            return refusal
        finally:
            self.book.passing.clear()
        book, gathered = self.book, self._gathered
        apply(book, event, hash)
        gathered.bodies.append(body)
        gathered.openings += openings
        add_rows(event, book, gathered)
        self._use_keys([number], event.seq)
        return Posted(self.name, event.seq, hash, event.time)

    def _decide(self, command: Command, committed: set[str]) -> Event:
        while True:
            try:
                return decide(self.book, command, self.now, committed)
            except NotLoaded as missing:
                self._fetch(missing)

    # ------------------------------------------------------------ idempotency

    def _use_keys(self, numbers: list[int], first: int) -> None:
        """The events from ``first`` on bear these keys."""
        assert self._filter is not None
        self._filter.add(numbers)
        if len(numbers) == 1 and numbers[0] in self._gathered.keys:
            self._gathered.twins.append((numbers[0], first))
        else:
            self._gathered.keys.update(zip(numbers, range(first, first + len(numbers)), strict=True))

    def _unwritten(self, number: int) -> list[int]:
        """The events that bear a key of this number and are not in the store yet."""
        found = []
        for gathered in [*(gathered for _, gathered in self._in_flight), self._gathered]:
            if number in gathered.keys:
                found.append(gathered.keys[number])
                found += [seq for twin, seq in gathered.twins if twin == number]
        return found

    def _confirm(self, commands: Sequence[Command], numbers: list[int]) -> set[int]:
        """The positions of the commands whose key was used before, or stands twice in these commands."""
        assert self._filter is not None
        suspects = self._filter.suspects(numbers)
        if not suspects:
            return suspects
        wanted = [numbers[position] for position in suspects]
        self._stored_keys = self._store.find_keys(self.name, wanted)
        self._repeated = self._read_near(sorted(seq for seqs in self._stored_keys.values() for seq in seqs))
        times = Counter(numbers)
        return {
            position
            for position in suspects
            if (number := numbers[position]) in self._stored_keys or times[number] > 1 or self._unwritten(number)
        }

    def _read_near(self, seqs: Sequence[int]) -> dict[int, bytes | Archived]:
        """These events' bytes; those that lie close together come in one read, as when a whole batch is asked again.
        For one whose file is away, the error that says so: it is for whoever asks for that one."""
        found: dict[int, bytes | Archived] = {}
        start = 0
        for index, seq in enumerate(seqs):
            if index + 1 == len(seqs) or seqs[index + 1] - seq > NEAR:
                first, together = seqs[start], seqs[start : index + 1]
                try:
                    read = dict(enumerate(self._store.events(self.name, first, seq - first + 1), first))
                    found.update((wanted, read[wanted]) for wanted in together if wanted in read)
                except Archived as away:  # what lies beside that file is read one by one
                    lost = range(away.data["first"], away.data["last"] + 1)
                    found.update((wanted, away) for wanted in together if wanted in lost)
                start = index + 1
        return found

    def _answer_again(self, command: Command, number: int) -> Result | None:
        """The first answer to this key, or a conflict; None for a new key. Raises Archived if nobody can tell."""
        for seq in [*self._stored_keys.get(number, ()), *self._unwritten(number)]:
            body = self._repeated.get(seq) or self._body(seq)
            if isinstance(body, Archived):
                raise body
            event = decode_event(body)
            if event.source == command.source and event.idem == command.key:
                same = as_committed(command, event, self._openings) if has_erasable(command) else command
                if same is not None and shows_request(event, same):
                    return Posted(self.name, seq, leaf_hash(body), event.time, True)
                return IdempotencyConflict(key=command.key, transaction=event.id)
        return None

    def _openings(self, commitments: Sequence[str]) -> dict[str, OpeningRow]:
        """What opens these commitments, also of events that are not in the store yet."""
        found = self._store.openings(self.name, commitments)
        for gathered in [*(gathered for _, gathered in self._in_flight), self._gathered]:
            found.update((row[0], row) for row in gathered.openings if row[0] in commitments)
        return found

    # ------------------------------------------------------------ loading

    def _load(self) -> None:
        if self._book is not None:
            return
        store, name = self._store, self.name
        head = store.head(name)
        book = Book(name)
        if head is not None:
            book.seq, book.hash, book.time, book.balances_made = head.seq, head.hash, head.time, head.balances
            for kind in ALWAYS_LOADED:
                for id, value in store.load_objects(name, kind).items():
                    book.remember(kind, id, value)
            self._taken = head
        else:
            self._taken = EMPTY_HEAD
        self._know_keys(self._taken)
        self._book = book

    def foresee(self, commands: Sequence[Command]) -> None:
        """Load what the commands name and the book does not hold, in one query each."""
        self._load()
        try:
            accounts = unknown_accounts(self.book, commands)
            locks = unknown_locks(self.book, commands)
        except (TypeError, AttributeError):  # something is not even text: deciding says what
            return
        self._know(accounts)
        if locks:
            found = self._store.load_objects(self.name, "lock", locks)
            for id in locks:
                self.book.remember("lock", id, found.get(id))

    def _know(self, addresses: Sequence[str]) -> None:
        if addresses:
            for address, loaded in self._store.load_accounts(self.name, addresses).items():
                self.book.know(address, loaded.declared, loaded.balances)

    def _fetch(self, missing: NotLoaded) -> None:
        kind, id = missing.kind, missing.id
        if kind == "account":
            self._know([id])
        elif kind == "event":
            self.book.remember("event", id, decode_event(self._body(id)))
        elif kind == "history":
            account, asset, bucket, effective = id
            balance = self.book.balance(account, asset, bucket)
            pending, backdated = list(self._gathered.entries), list(self._gathered.backdated)
            for batch, _ in self._in_flight:
                pending += batch.entries
                backdated += batch.backdated
            lowest = lowest_since(
                self._store,
                self.name,
                balance,
                effective,
                seq_at=self._seq_at,
                time_of=lambda seq: decode_event(self._body(seq)).time,
                pending=pending,
                pending_backdated=backdated,
            )
            self.book.remember("history", id, lowest)
        else:
            self.book.remember(kind, id, self._store.load_objects(self.name, kind, [id]).get(id))

    def _seq_at(self, time: str) -> int:
        """How many events were recorded up to this time, which lies before now; those in flight count."""
        for batch, _ in reversed(self._in_flight):
            if batch.head.time <= time:
                return batch.head.seq
        return self._store.seq_at(self.name, time)

    def _body(self, seq: int) -> bytes:
        for batch, _ in self._in_flight:
            if batch.expected.seq <= seq < batch.head.seq:
                return batch.bodies[seq - batch.expected.seq]
        if self._taken.seq <= seq < self.book.seq:
            return self._gathered.bodies[seq - self._taken.seq]
        body = self._store.event(self.name, seq)
        if body is None:
            raise LedgerCorrupt(where=f"event {self.name}/{seq}", problem="it is missing")
        return body

    # ------------------------------------------------------------ the key filter

    def _know_keys(self, head: Head) -> None:
        """Have the keys of all events before this head in the filter: also of those that another process posted after
        the filter was loaded."""
        if isinstance(self._filter, NoFilter):
            return
        if self._filter is None or not self._continues(head):
            self._filter = self._load_filter(head.seq)
        elif head.seq > self._keyed.seq:
            self._filter.add([number for number, _ in self._store.key_numbers(self.name, self._keyed.seq, head.seq)])
            self._saved_keys = []  # and what is kept in the store may be the other one's
        self._keyed = head

    def _continues(self, head: Head) -> bool:
        """Whether the journal still begins with all that the filter knows. A server that lost its last events may have
        taken the place of another, and have other events where those stood."""
        known = self._keyed
        return head == known if head.seq <= known.seq else self._is_here(known.seq, known.hash)

    def _is_here(self, seq: int, hash: str) -> bool:
        """Whether the event before this number is there, and has this hash."""
        if not seq:
            return True
        try:
            last = self._store.events(self.name, seq - 1, 1)
        except Archived:  # nobody can tell, and a file that is away keeps nobody from posting
            return False
        return bool(last) and leaf_hash(last[0]) == hash

    def _load_filter(self, events: int) -> KeyFilter:
        """The filter that was kept, if one writer kept all of it, of just these events, with the keys since; else a
        filter of all keys."""
        loaded, first = None, 0
        self._saved_keys = []
        kept = self._store.kept(self.name, "keys")
        if kept is not None:
            about = json.loads(kept)
            digests = about.get("sha256", [])
            bodies = [self._store.kept(self.name, f"keys/{index}") or b"" for index in range(len(digests))]
            whole = about["events"] <= events and digests == [_sha256(body) for body in bodies]
            if whole and self._is_here(about["events"], about.get("hash", "")):
                loaded, first = KeyFilter.load(bodies), about["events"]
        if loaded is None:
            loaded, first = KeyFilter(), 0
        else:
            self._saved_keys = list(zip(loaded.sizes, digests, strict=True))
        loaded.add([number for number, _ in self._store.key_numbers(self.name, first)])
        return loaded

    def take_filter(self, *, at_work: bool) -> dict[str, bytes]:
        """What to keep of the key filter if much of it is new, in this order; between rounds, with nothing in flight.

        What is written last names every segment by its hash: another process may keep its own in between.
        """
        if self._filter is None or self._in_flight or self._book is None:
            return {}
        sizes, kept = self._filter.sizes, self._saved_keys  # which a failure in the background may empty meanwhile
        enough = max(KEYS_PER_SAVE, self._filter.capacity // 8) if at_work else KEYS_PER_SAVE
        if sum(sizes) - sum(size for size, _ in kept) < enough or self._others_kept(enough):
            return {}
        found, saved = {}, []
        for index, size in enumerate(sizes):
            if index < len(kept) and kept[index][0] == size:
                saved.append(kept[index])
            else:
                found[f"keys/{index}"] = body = self._filter.dump(index)
                saved.append((size, _sha256(body)))
        about = {"events": self.book.seq, "hash": self.book.hash, "sha256": [digest for _, digest in saved]}
        self._saved_keys = saved
        return {**found, "keys": json.dumps(about).encode()}

    def filter_lost(self) -> None:
        """What was taken could not be kept: the next time all of it is taken."""
        self._saved_keys = []

    def _others_kept(self, enough: int) -> bool:
        """Whether another process has kept a filter that lacks fewer keys than that."""
        if self._saved_keys or not self._store.shared:
            return False
        kept = self._store.kept(self.name, "keys")
        return kept is not None and self.book.seq - int(json.loads(kept)["events"]) < enough


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _numbers(commands: Sequence[Command]) -> list[int]:
    """The key number of each command; 0 for one whose key is not text, which deciding refuses."""
    source = commands[0].source
    try:
        if all(command.source == source for command in commands):
            return key_numbers(source, [command.key for command in commands])
        return [key_number(command.source, command.key) for command in commands]
    except (TypeError, AttributeError, UnicodeEncodeError):
        return [_number(command) for command in commands]


def _number(command: Command) -> int:
    try:
        return key_number(command.source, command.key)
    except (TypeError, AttributeError, UnicodeEncodeError):
        return 0
