-- The ledger's tables. Everything but `event` can be made again from `event`.
--
-- `ledger` is the first column of every key, and every statement names it: a ledger is the unit of order and of
-- distribution. Text is compared byte by byte (COLLATE "C"), so that order is the same everywhere.
--
-- Partitions are months of recording (`period`, such as 202601): they are what retention closes. Keys of a partition
-- are unique within a *part*, a range of sequence numbers: within a part the index is random, across parts it only
-- grows, so that what is being written stays in a small, warm corner of it however large the ledger is.
--
-- The schema itself is made by whoever runs this, so that one who may not make schemas can be given one.

-- Which installation this is: a posting that joins a transaction must not end up in another one.
CREATE TABLE tallystick.installation (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
INSERT INTO tallystick.installation DEFAULT VALUES;

CREATE TABLE tallystick.ledger (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- Where each ledger stands. Whoever appends moves this row first, and so holds the ledger until the transaction ends.
-- `since`, `moved_by` and the checks are the database's own: see guards.
CREATE TABLE tallystick.head (
    ledger integer PRIMARY KEY REFERENCES tallystick.ledger,
    seq bigint NOT NULL DEFAULT 0,
    hash text COLLATE "C" NOT NULL DEFAULT repeat('0', 64),
    time text COLLATE "C" NOT NULL DEFAULT '',
    balances bigint NOT NULL DEFAULT 0,
    period integer NOT NULL DEFAULT 0,
    since bigint NOT NULL DEFAULT 0,
    moved_by xid8
) WITH (fillfactor = 10);

-- Which events each ledger recorded in which period: from `first` on, up to the next period's first.
CREATE TABLE tallystick.stretch (
    ledger integer NOT NULL REFERENCES tallystick.ledger,
    period integer NOT NULL,
    first bigint NOT NULL,
    PRIMARY KEY (ledger, period)
);

-- The journal: the exact bytes of `count` events from `seq` on, joined by line feeds (canonical JSON holds none).
-- `time` and `hash` are those of the last of them. As many events share a row as fit into a page of 8 KiB.
CREATE TABLE tallystick.event (
    ledger integer NOT NULL,
    period integer NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    count integer NOT NULL CHECK (count BETWEEN 1 AND 256),
    encoding integer NOT NULL,
    time text COLLATE "C" NOT NULL,
    hash text COLLATE "C" NOT NULL,
    body bytea NOT NULL
) PARTITION BY RANGE (period);

-- Assets have numbers, so that a balance's id can say which asset it is of; `balances` is how many each has, kept by a
-- guard. So whether a balance exists, and of which asset it is, can be seen from its id and this small table.
CREATE TABLE tallystick.asset (
    ledger integer NOT NULL REFERENCES tallystick.ledger,
    number integer NOT NULL CHECK (number BETWEEN 1 AND 4194303),
    asset text COLLATE "C" NOT NULL,
    balances bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (ledger, number),
    UNIQUE (ledger, asset),
    UNIQUE (ledger, number, asset)
);

-- Which account, asset and bucket a balance's id stands for: asset number x 2^40 + a number that counts from 1 within the
-- asset. `number` counts from 1 within the ledger, as in every other store.
CREATE TABLE tallystick.balance (
    ledger integer NOT NULL,
    id bigint NOT NULL,
    number bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    asset text COLLATE "C" NOT NULL,
    bucket text COLLATE "C" NOT NULL,
    asset_number integer GENERATED ALWAYS AS ((id >> 40)::integer) STORED,
    PRIMARY KEY (ledger, id),
    UNIQUE (ledger, number),
    UNIQUE (ledger, account, asset, bucket),
    FOREIGN KEY (ledger, asset_number, asset) REFERENCES tallystick.asset (ledger, number, asset)
);

-- One signed change of one balance. `before` is redundant on purpose: a row that was altered does not add up.
CREATE TABLE tallystick.entry (
    ledger integer NOT NULL,
    period integer NOT NULL,
    balance bigint NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    seq bigint NOT NULL CHECK (seq >= 0),
    amount bigint NOT NULL,
    before bigint NOT NULL,
    after bigint NOT NULL,
    CONSTRAINT entry_adds_up CHECK (after = before + amount)
) PARTITION BY RANGE (period);

-- Which event bears an idempotency key: `number` is made from source and key. Two keys of one part that have the same
-- number by chance are told apart by `twin`, and by reading their events.
CREATE TABLE tallystick.idempotency (
    ledger integer NOT NULL,
    period integer NOT NULL,
    number bigint NOT NULL,
    seq bigint NOT NULL,
    twin integer NOT NULL
) PARTITION BY RANGE (period);

-- Which events name a causal reference.
CREATE TABLE tallystick.reference (
    ledger integer NOT NULL,
    period integer NOT NULL,
    seq bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL
) PARTITION BY RANGE (period);

-- Entries that took effect before they were recorded.
CREATE TABLE tallystick.backdated (
    ledger integer NOT NULL,
    balance bigint NOT NULL,
    seq bigint NOT NULL,
    effective text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (ledger, balance, seq)
);

-- The latest value of each object (account, lock, policy, ...), as JSON; the columns beside it are there to be found by.
-- `seq` is the head behind which the value was written: a writer that fell behind reads what changed since.
CREATE TABLE tallystick.object (
    ledger integer NOT NULL,
    kind text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    place text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    expires text COLLATE "C" NOT NULL,
    body text COLLATE "C" NOT NULL,
    PRIMARY KEY (ledger, kind, id)
);
CREATE INDEX object_by_seq ON tallystick.object (ledger, seq);
CREATE INDEX object_by_place ON tallystick.object (ledger, kind, place);
CREATE INDEX object_by_account ON tallystick.object (ledger, account, place) WHERE account <> '';
CREATE INDEX object_by_expiry ON tallystick.object (ledger, expires) WHERE expires <> '';

-- All balances as they stood before the first event of `part` (32,768 events each); `snapshot_point` says which
-- snapshots are whole.
CREATE TABLE tallystick.snapshot (
    ledger integer NOT NULL,
    part integer NOT NULL,
    balance bigint NOT NULL,
    version bigint NOT NULL,
    after bigint NOT NULL,
    PRIMARY KEY (ledger, part, balance)
);
CREATE TABLE tallystick.snapshot_point (
    ledger integer NOT NULL,
    part integer NOT NULL,
    PRIMARY KEY (ledger, part)
);

-- Bytes that are kept for speed alone and may vanish: what they were made from is elsewhere.
CREATE TABLE tallystick.cache (
    ledger integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (ledger, name)
);

-- Closed periods that were moved out of the database, and where each of their files lies.
CREATE TABLE tallystick.archive (
    period integer NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('event', 'entry')),
    path text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    archived text COLLATE "C" NOT NULL,
    PRIMARY KEY (period, kind)
);

-- Tables that stay small are made known to the planner from their first rows on. Without that it would wait for fifty, and
-- take each for a thousand until then.
ALTER TABLE tallystick.ledger SET (autovacuum_analyze_threshold = 1);
ALTER TABLE tallystick.stretch SET (autovacuum_analyze_threshold = 1);
ALTER TABLE tallystick.asset SET (autovacuum_analyze_threshold = 1);
ALTER TABLE tallystick.snapshot_point SET (autovacuum_analyze_threshold = 1);
