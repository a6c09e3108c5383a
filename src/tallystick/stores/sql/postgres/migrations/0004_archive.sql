-- The archive: closed periods whose events and entries were moved out of the database, to files that table `archive` names.

-- For how many years a period stays in the database at the least. One row, which only the owner may change.
CREATE TABLE tallystick.retention (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    years integer NOT NULL CHECK (years BETWEEN 1 AND 1000),
    changed text COLLATE "C" NOT NULL DEFAULT '',
    changed_by text COLLATE "C" NOT NULL DEFAULT ''
);
INSERT INTO tallystick.retention (years) VALUES (7);

-- Balances as they stood before the first event of their ledger that is still here: one row for each balance that has an
-- entry in the archive. Which event that is, tables `stretch` and `archive` say together: of each ledger it is the oldest
-- periods that were archived.
CREATE TABLE tallystick.carried (
    ledger integer NOT NULL,
    balance bigint NOT NULL,
    version bigint NOT NULL,
    after bigint NOT NULL,
    PRIMARY KEY (ledger, balance)
);

-- Where a file lies may change; which period is in the archive, and what its files hold, may not.
CREATE TRIGGER archive_is_never_changed
    BEFORE DELETE OR UPDATE OF period, kind, sha256, rows, bytes, archived ON tallystick.archive
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER archive_is_never_truncated BEFORE TRUNCATE ON tallystick.archive
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER carried_is_never_deleted BEFORE DELETE ON tallystick.carried
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER carried_is_never_truncated BEFORE TRUNCATE ON tallystick.carried
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER retention_is_never_deleted BEFORE DELETE ON tallystick.retention
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER retention_is_never_truncated BEFORE TRUNCATE ON tallystick.retention
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();

-- ---------------------------------------------------------------- for people

CREATE VIEW tallystick.ledger_archive AS
SELECT
    ledger.name AS ledger,
    archive.period,
    archive.kind,
    stretch.first AS first_seq,
    coalesce(following.first, head.seq) - 1 AS last_seq,
    archive.path,
    archive.sha256,
    archive.archived::timestamptz AS archived
FROM tallystick.ledger
JOIN tallystick.head ON head.ledger = ledger.id
JOIN tallystick.stretch ON stretch.ledger = ledger.id
JOIN tallystick.archive ON archive.period = stretch.period
CROSS JOIN LATERAL (
    SELECT min(later.first) AS first FROM tallystick.stretch AS later
    WHERE later.ledger = stretch.ledger AND later.period > stretch.period
) AS following;

COMMENT ON VIEW tallystick.ledger_archive IS
    'Where to look for what ledger_transactions and ledger_entries no longer show: the Parquet files of each ledger''s '
    'closed periods. ledger_balances is whole without them.';
COMMENT ON COLUMN tallystick.ledger_archive.ledger IS 'The name of the ledger.';
COMMENT ON COLUMN tallystick.ledger_archive.period IS 'The month of recording, such as 201801.';
COMMENT ON COLUMN tallystick.ledger_archive.kind IS 'What the file holds: event (the journal) or entry.';
COMMENT ON COLUMN tallystick.ledger_archive.first_seq IS 'The number of the ledger''s first event of that month.';
COMMENT ON COLUMN tallystick.ledger_archive.last_seq IS 'The number of its last one.';
COMMENT ON COLUMN tallystick.ledger_archive.path IS 'Where the file lies. It holds that month of every ledger here.';
COMMENT ON COLUMN tallystick.ledger_archive.sha256 IS 'The SHA-256 of the whole file, in hexadecimal.';
COMMENT ON COLUMN tallystick.ledger_archive.archived IS 'When it was moved there.';

-- A balance without an entry here stands where the archive left it.
CREATE OR REPLACE VIEW tallystick.ledger_balances AS
SELECT
    ledger.name AS ledger,
    balance.account,
    balance.asset,
    balance.bucket,
    coalesce(last.after, CASE WHEN carried.version >= coalesce(snapshot.version, 0) THEN carried.after ELSE snapshot.after END)
        AS balance,
    coalesce(last.version, greatest(snapshot.version, carried.version)) AS version
FROM tallystick.ledger
CROSS JOIN LATERAL (
    SELECT max(part) AS part FROM tallystick.snapshot_point WHERE snapshot_point.ledger = ledger.id
) AS point
CROSS JOIN LATERAL (
    SELECT array_agg(place.period ORDER BY place.part DESC, place.period DESC) AS periods,
        array_agg(place.part ORDER BY place.part DESC, place.period DESC) AS parts
    FROM tallystick.ledger_parts AS place
    WHERE place.ledger = ledger.id AND place.part >= coalesce(point.part, 0)
) AS tail
JOIN tallystick.balance ON balance.ledger = ledger.id
LEFT JOIN LATERAL (
    SELECT found.version, found.after
    FROM unnest(tail.periods, tail.parts) AS place (period, part)
    CROSS JOIN LATERAL (
        SELECT entry.version, entry.after FROM tallystick.entry
        WHERE entry.ledger = ledger.id AND entry.period = place.period AND (entry.seq >> 15)::integer = place.part
          AND entry.balance = balance.id
        ORDER BY entry.version DESC LIMIT 1
    ) AS found
    LIMIT 1
) AS last ON true
LEFT JOIN tallystick.snapshot
    ON snapshot.ledger = ledger.id AND snapshot.part = point.part AND snapshot.balance = balance.id
LEFT JOIN tallystick.carried ON carried.ledger = ledger.id AND carried.balance = balance.id;
