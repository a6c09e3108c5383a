-- The operator's records beside the ledgers of a database. Bodies are records as JSON, kept as the text that they are;
-- what they are looked for by has a column. Nobody but the owner may see any of it unless it is granted: it holds the
-- secrets that deliveries are signed with.

CREATE TABLE tallystick_service.api_key (
    id text COLLATE "C" PRIMARY KEY,
    subject text COLLATE "C" NOT NULL,
    body text NOT NULL
);
CREATE INDEX api_key_by_subject ON tallystick_service.api_key (subject, id);

-- One row, counted up by every change of a key. No sequence: its numbers show before what they count is committed.
CREATE TABLE tallystick_service.api_key_version (
    version bigint NOT NULL
);
INSERT INTO tallystick_service.api_key_version (version) VALUES (0);

CREATE TABLE tallystick_service.endpoint (
    id text COLLATE "C" PRIMARY KEY,
    ledger text COLLATE "C" NOT NULL,
    body text NOT NULL
);
CREATE INDEX endpoint_by_ledger ON tallystick_service.endpoint (ledger, id);

-- How far an endpoint has come: apart from it, because this changes all the time.
CREATE TABLE tallystick_service.progress (
    endpoint text COLLATE "C" PRIMARY KEY,
    cursor bigint NOT NULL
) WITH (fillfactor = 50);

-- What was not accepted yet. `lanes` is a JSON array of accounts. Rows come and go by the thousand in a second: what is
-- changed in place finds room on its page, and what was deleted is cleared away soon.
CREATE TABLE tallystick_service.delivery (
    endpoint text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    state text COLLATE "C" NOT NULL,
    attempts bigint NOT NULL,
    due text COLLATE "C" NOT NULL,
    problem text NOT NULL,
    lanes text NOT NULL,
    redelivery boolean NOT NULL,
    PRIMARY KEY (endpoint, seq)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);

-- The log of tries, in the order of time, so that it grows at its end and is pruned at its beginning.
CREATE TABLE tallystick_service.attempt (
    endpoint text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    time text COLLATE "C" NOT NULL,
    status bigint NOT NULL,
    problem text NOT NULL,
    milliseconds bigint NOT NULL,
    PRIMARY KEY (endpoint, time, seq, number)
);
CREATE INDEX attempt_by_event ON tallystick_service.attempt (endpoint, seq);

-- No holder: it was let go of. A lease's row stays, so that its token only grows.
CREATE TABLE tallystick_service.lease (
    name text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL,
    token bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE tallystick_service.run (
    job text COLLATE "C" NOT NULL,
    ledger text COLLATE "C" NOT NULL,
    started text COLLATE "C" NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (job, ledger, started)
);
CREATE INDEX run_by_time ON tallystick_service.run (started, job, ledger);

CREATE TABLE tallystick_service.report (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ledger text COLLATE "C" NOT NULL,
    time text COLLATE "C" NOT NULL,
    ok boolean NOT NULL,
    body text NOT NULL
);
CREATE INDEX report_by_ledger ON tallystick_service.report (ledger, id);

CREATE TABLE tallystick_service.secret (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);
