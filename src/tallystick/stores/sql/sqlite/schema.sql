-- The schema of a ledger file, version 2. Everything but `event`, `opening` and `checkpoint` can be made again
-- from `event`.

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The journal: the exact bytes of `count` events from `seq` on, joined by line feeds (canonical JSON holds none).
-- `time` and `hash` are those of the last of them. The head of a ledger is its last row here.
CREATE TABLE event (
    ledger INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    time TEXT NOT NULL,
    hash TEXT NOT NULL,
    encoding INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (ledger, seq)
) STRICT, WITHOUT ROWID;

-- The texts that events only commit to, with the salts that open the commitments: here, and nowhere else, a row may be
-- erased. They lie in the order in which they came, so that a page that is full is never moved: what is moved leaves a
-- copy of its bytes behind.
CREATE TABLE opening (
    id INTEGER PRIMARY KEY,
    ledger INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    commitment TEXT NOT NULL,
    salt BLOB NOT NULL,
    text BLOB NOT NULL,
    UNIQUE (ledger, commitment)
) STRICT;
CREATE INDEX opening_by_seq ON opening (ledger, seq);

-- The Merkle tree over the events: a row for each tile of up to 256 hashes. The last one of a level grows.
CREATE TABLE log_tile (
    id INTEGER PRIMARY KEY,
    ledger INTEGER NOT NULL,
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    UNIQUE (ledger, level, number)
) STRICT;

-- What was signed of the tree: every note as it was. A later one of the same size bears more signatures.
CREATE TABLE checkpoint (
    ledger INTEGER NOT NULL,
    size INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    note BLOB NOT NULL,
    PRIMARY KEY (ledger, size, revision)
) STRICT, WITHOUT ROWID;

-- Which account, asset and bucket a balance id stands for.
CREATE TABLE balance (
    ledger INTEGER NOT NULL,
    id INTEGER NOT NULL,
    account TEXT NOT NULL,
    asset TEXT NOT NULL,
    bucket TEXT NOT NULL,
    PRIMARY KEY (ledger, id),
    UNIQUE (ledger, account, asset, bucket)
) STRICT, WITHOUT ROWID;

-- One signed change of one balance. `part` is seq / 32768: within a part the key is random, across parts it only
-- grows, so what is written stays in a small, warm corner of the tree however large the ledger is.
-- `before` is redundant on purpose: a row that was altered does not add up.
CREATE TABLE entry (
    ledger INTEGER NOT NULL,
    part INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    version INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    before INTEGER NOT NULL,
    after INTEGER NOT NULL,
    PRIMARY KEY (ledger, part, balance, version)
) STRICT, WITHOUT ROWID;

-- Which event bears an idempotency key: `number` is made from source and key; equal numbers are told apart by reading.
CREATE TABLE idempotency (
    ledger INTEGER NOT NULL,
    part INTEGER NOT NULL,
    number INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (ledger, part, number, seq)
) STRICT, WITHOUT ROWID;

-- Which events name a causal reference.
CREATE TABLE reference (
    ledger INTEGER NOT NULL,
    part INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (ledger, part, name, value, seq)
) STRICT, WITHOUT ROWID;

-- Entries that took effect before they were recorded.
CREATE TABLE backdated (
    ledger INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    effective TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (ledger, balance, seq)
) STRICT, WITHOUT ROWID;

-- The latest value of each object (account, lock, policy, ...), as JSON; the columns beside it are there to be found by.
CREATE TABLE object (
    ledger INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    place TEXT NOT NULL,
    account TEXT NOT NULL,
    state TEXT NOT NULL,
    expires TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (ledger, kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX object_by_place ON object (ledger, kind, place);
CREATE INDEX object_by_account ON object (ledger, kind, account, place);
CREATE INDEX object_by_expiry ON object (ledger, expires) WHERE expires <> '';

-- All balances as they stood before the first event of `part`; `snapshot_point` says which snapshots are whole.
CREATE TABLE snapshot (
    ledger INTEGER NOT NULL,
    part INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    version INTEGER NOT NULL,
    after INTEGER NOT NULL,
    PRIMARY KEY (ledger, part, balance)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshot_point (
    ledger INTEGER NOT NULL,
    part INTEGER NOT NULL,
    PRIMARY KEY (ledger, part)
) STRICT, WITHOUT ROWID;

-- Bytes that are kept for speed alone and may vanish: what they were made from is elsewhere in this file.
CREATE TABLE cache (
    ledger INTEGER NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (ledger, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER event_is_never_updated BEFORE UPDATE ON event
BEGIN SELECT raise(ABORT, 'an event is never changed'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN SELECT raise(ABORT, 'an event is never deleted'); END;
-- INSERT OR REPLACE deletes what is in its way without asking the trigger above. For entries such a guard would cost
-- a seventh of all writing; an entry that was replaced is found by the check against the journal.
CREATE TRIGGER event_is_never_replaced BEFORE INSERT ON event
WHEN EXISTS (SELECT 1 FROM event WHERE ledger = new.ledger AND seq = new.seq)
BEGIN SELECT raise(ABORT, 'an event is never replaced'); END;
CREATE TRIGGER entry_is_never_updated BEFORE UPDATE ON entry
BEGIN SELECT raise(ABORT, 'an entry is never changed'); END;
CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
BEGIN SELECT raise(ABORT, 'an entry is never deleted'); END;
CREATE TRIGGER log_tile_only_grows BEFORE UPDATE ON log_tile
WHEN new.ledger <> old.ledger OR new.level <> old.level OR new.number <> old.number
    OR substr(new.hashes, 1, length(old.hashes)) <> old.hashes
BEGIN SELECT raise(ABORT, 'a tile only grows'); END;
CREATE TRIGGER log_tile_is_never_deleted BEFORE DELETE ON log_tile
BEGIN SELECT raise(ABORT, 'a tile is never deleted'); END;
CREATE TRIGGER checkpoint_is_never_updated BEFORE UPDATE ON checkpoint
BEGIN SELECT raise(ABORT, 'a checkpoint is never changed'); END;
CREATE TRIGGER checkpoint_is_never_deleted BEFORE DELETE ON checkpoint
BEGIN SELECT raise(ABORT, 'a checkpoint is never deleted'); END;
CREATE TRIGGER checkpoint_is_never_replaced BEFORE INSERT ON checkpoint
WHEN EXISTS (SELECT 1 FROM checkpoint WHERE ledger = new.ledger AND size = new.size AND revision = new.revision)
BEGIN SELECT raise(ABORT, 'a checkpoint is never replaced'); END;
CREATE TRIGGER opening_is_never_updated BEFORE UPDATE ON opening
BEGIN SELECT raise(ABORT, 'an opening is erased, not changed'); END;
CREATE TRIGGER opening_is_never_replaced BEFORE INSERT ON opening
WHEN EXISTS (SELECT 1 FROM opening WHERE ledger = new.ledger AND commitment = new.commitment)
BEGIN SELECT raise(ABORT, 'an opening is never replaced'); END;
