-- What `tally archive` asks and says, by name.

-- name: owner
-- Whose the tables are, who asks, and whether that one may act as the owner.
SELECT relowner::regrole::text, current_user::text, pg_has_role(current_user, relowner, 'USAGE')
FROM pg_class WHERE oid = 'tallystick.event'::regclass;

-- name: retention
SELECT years FROM tallystick.retention;

-- name: set_retention
UPDATE tallystick.retention SET years = %(years)s, changed = %(now)s, changed_by = current_user;

-- name: periods
-- The periods that have partitions here and events in them, oldest first: how many ledgers and events, and their bytes.
-- The names are looked at before they are cut, for PostgreSQL may look at those of other tables too.
SELECT leaf.period, count(*), sum(stretch.before - stretch.first)::bigint, leaf.bytes
FROM (
    SELECT CASE WHEN relname ~ '_[0-9]{6}$' THEN right(relname, 6)::integer END AS period, sum(pg_total_relation_size(oid))::bigint AS bytes
    FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent IN ('tallystick.event'::regclass, 'tallystick.entry'::regclass)
    GROUP BY 1
) AS leaf
JOIN (
    SELECT stretch.period, stretch.first,
        lead(stretch.first, 1, head.seq) OVER (PARTITION BY stretch.ledger ORDER BY stretch.period) AS before
    FROM tallystick.stretch JOIN tallystick.head USING (ledger)
) AS stretch USING (period)
WHERE leaf.period < %(before)s
GROUP BY leaf.period, leaf.bytes
ORDER BY leaf.period;

-- name: stretches
-- Which events of which ledgers a period holds: from `first` up to `before`.
SELECT name, first, before FROM (
    SELECT ledger.name, stretch.period, stretch.first,
        lead(stretch.first, 1, head.seq) OVER (PARTITION BY stretch.ledger ORDER BY stretch.period) AS before
    FROM tallystick.stretch JOIN tallystick.head USING (ledger) JOIN tallystick.ledger ON ledger.id = stretch.ledger
) AS stretch
WHERE period = %(period)s
ORDER BY name;

-- name: archived
SELECT period, kind, path, sha256, rows, bytes, archived FROM tallystick.archive ORDER BY period, kind DESC;

-- name: is_archived
SELECT count(*) FROM tallystick.archive WHERE period = %(period)s;

-- name: count_event
SELECT count(*) FROM tallystick.event WHERE period = %(period)s;

-- name: count_entry
SELECT count(*) FROM tallystick.entry WHERE period = %(period)s;

-- name: event
SELECT ledger.name, seq, count, encoding, time, hash, body
FROM tallystick.event JOIN tallystick.ledger ON ledger.id = event.ledger
WHERE period = %(period)s
ORDER BY ledger.name, seq;

-- name: entry
SELECT ledger.name, number, account, asset, bucket, version, seq, amount, before, after
FROM tallystick.entry
JOIN tallystick.ledger ON ledger.id = entry.ledger
JOIN tallystick.balance ON balance.ledger = entry.ledger AND balance.id = entry.balance
WHERE period = %(period)s
ORDER BY ledger.name, seq >> 15, number, version;

-- name: carry
-- The last entry of each balance in a period, which is behind everything that was carried before.
INSERT INTO tallystick.carried (ledger, balance, version, after)
SELECT DISTINCT ON (ledger, balance) ledger, balance, version, after FROM tallystick.entry
WHERE period = %(period)s
ORDER BY ledger, balance, version DESC
ON CONFLICT (ledger, balance) DO UPDATE SET version = excluded.version, after = excluded.after;

-- name: carry_again
-- What a rebuild found in the entries of archived periods, in the order of the journal.
INSERT INTO tallystick.carried (ledger, balance, version, after)
SELECT %(ledger)s, last.* FROM unnest(%(balances)s::bigint[], %(versions)s::bigint[], %(afters)s::bigint[])
    AS last (balance, version, after)
ON CONFLICT (ledger, balance) DO UPDATE SET version = excluded.version, after = excluded.after;

-- name: lock_archive
-- One at a time changes the archive; everybody may read it meanwhile.
LOCK TABLE tallystick.archive IN SHARE ROW EXCLUSIVE MODE;

-- name: add_file
INSERT INTO tallystick.archive (period, kind, path, sha256, rows, bytes, archived)
VALUES (%(period)s, %(kind)s, %(path)s, %(sha256)s, %(rows)s, %(bytes)s, %(archived)s);

-- name: move_file
UPDATE tallystick.archive SET path = %(path)s WHERE period = %(period)s AND kind = %(kind)s AND sha256 = %(sha256)s;

-- name: lock_event
LOCK TABLE ONLY tallystick.event IN ACCESS EXCLUSIVE MODE;

-- name: lock_entry
LOCK TABLE ONLY tallystick.entry IN ACCESS EXCLUSIVE MODE;
