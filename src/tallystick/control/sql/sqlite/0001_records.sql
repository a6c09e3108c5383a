-- The operator's records beside a ledger file. Bodies are records as JSON; what they are looked for by has a column.

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_by_subject ON api_key (subject, id);

-- One row, counted up by every change of a key.
CREATE TABLE api_key_version (
    version INTEGER NOT NULL
) STRICT;
INSERT INTO api_key_version (version) VALUES (0);

CREATE TABLE endpoint (
    id TEXT PRIMARY KEY,
    ledger TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_by_ledger ON endpoint (ledger, id);

-- How far an endpoint has come: apart from it, because this changes all the time.
CREATE TABLE progress (
    endpoint TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was not accepted yet. `lanes` is a JSON array of accounts.
CREATE TABLE delivery (
    endpoint TEXT NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due TEXT NOT NULL,
    problem TEXT NOT NULL,
    lanes TEXT NOT NULL,
    redelivery INTEGER NOT NULL,
    PRIMARY KEY (endpoint, seq)
) STRICT, WITHOUT ROWID;

-- The log of tries, in the order of time, so that it grows at its end and is pruned at its beginning.
CREATE TABLE attempt (
    endpoint TEXT NOT NULL,
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    time TEXT NOT NULL,
    status INTEGER NOT NULL,
    problem TEXT NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (endpoint, time, seq, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_by_event ON attempt (endpoint, seq);

-- No holder: it was let go of. A lease's row stays, so that its token only grows.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until TEXT NOT NULL,
    token INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    job TEXT NOT NULL,
    ledger TEXT NOT NULL,
    started TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, ledger, started)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_by_time ON run (started, job, ledger);

CREATE TABLE report (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL,
    time TEXT NOT NULL,
    ok INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX report_by_ledger ON report (ledger, id);

CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
