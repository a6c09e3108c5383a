-- What the PostgreSQL store reads, by name, and the few things that it writes outside of an append.

-- name: ledgers
SELECT name, id FROM tallystick.ledger JOIN tallystick.head ON head.ledger = ledger.id WHERE head.seq > 0 ORDER BY name;

-- name: installation
SELECT id::text, (SELECT oid FROM pg_database WHERE datname = current_database())::text FROM tallystick.installation;

-- name: ledger_id
SELECT id FROM tallystick.ledger JOIN tallystick.head ON head.ledger = ledger.id WHERE name = %(name)s;

-- name: ledger_number
-- The same before it has a head.
SELECT id FROM tallystick.ledger WHERE name = %(name)s;

-- name: add_ledger
INSERT INTO tallystick.ledger (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;

-- name: add_head
INSERT INTO tallystick.head (ledger) VALUES (%(ledger)s) ON CONFLICT DO NOTHING;

-- name: make_partitions
SELECT tallystick.make_partitions(%(period)s);

-- name: head
SELECT seq, hash, time, balances FROM tallystick.head WHERE ledger = %(ledger)s;

-- name: standing
-- Where a ledger stands, in which periods its events lie, the last snapshot before an event number, and how many of the
-- periods are in the archive: it is always the oldest.
SELECT seq, hash, time, balances,
    ARRAY(SELECT period FROM tallystick.stretch WHERE ledger = %(ledger)s ORDER BY period),
    ARRAY(SELECT first FROM tallystick.stretch WHERE ledger = %(ledger)s ORDER BY period),
    (SELECT max(part) FROM tallystick.snapshot_point
     WHERE ledger = %(ledger)s AND part <= (coalesce(%(before)s::bigint, head.seq) >> 15)::integer),
    (SELECT count(*) FROM tallystick.stretch JOIN tallystick.archive USING (period)
     WHERE stretch.ledger = %(ledger)s AND archive.kind = 'entry')
FROM tallystick.head WHERE ledger = %(ledger)s;

-- name: begin_reading
-- A snapshot does not keep a period from leaving for the archive; this does. It comes first, so that the snapshot, which
-- the next statement takes, and the partitions say the same.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE ONLY tallystick.event, ONLY tallystick.entry IN ACCESS SHARE MODE;

-- name: keep_periods
-- The same within a transaction of the caller's.
LOCK TABLE ONLY tallystick.event, ONLY tallystick.entry IN ACCESS SHARE MODE;

-- name: archived_since
-- A period that has left for the archive since the snapshot of the caller's transaction: by that its events are still
-- here, but their partition, which is asked for as it is now, is not. What the snapshot says of it must not be believed.
SELECT period FROM tallystick.stretch
WHERE ledger = %(ledger)s AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable')
    AND NOT EXISTS (SELECT FROM tallystick.archive WHERE archive.period = stretch.period)
    AND to_regclass(format('tallystick.event_%%s', to_char(stretch.period, 'FM000000'))) IS NULL
ORDER BY period LIMIT 1;

-- name: archived_files
-- The files that hold events of a range, or their entries, oldest first, and which events of this ledger each is about.
SELECT ledger.name, part.period, part.first, part.before, path, sha256, archived
FROM (
    SELECT stretch.period, first, lead(first, 1, head.seq) OVER (ORDER BY stretch.period) AS before
    FROM tallystick.stretch JOIN tallystick.head ON head.ledger = stretch.ledger
    WHERE stretch.ledger = %(ledger)s
) AS part
JOIN tallystick.archive ON archive.period = part.period AND archive.kind = %(kind)s
JOIN tallystick.ledger ON ledger.id = %(ledger)s
WHERE part.first < %(before)s AND part.before > %(first)s
ORDER BY part.period;

-- name: event_rows
-- The stored rows that hold events of a range. The row that holds the first one began in that one's period.
SELECT seq, count, time, hash, encoding, body FROM tallystick.event
WHERE ledger = %(ledger)s
  AND period >= coalesce((SELECT max(period) FROM tallystick.stretch
                          WHERE ledger = %(ledger)s AND first <= %(first)s), 0)
  AND period <= (SELECT max(period) FROM tallystick.stretch WHERE ledger = %(ledger)s AND first < %(before)s)
  AND seq < %(before)s
  AND seq >= coalesce((SELECT seq FROM tallystick.event
                       WHERE ledger = %(ledger)s AND seq <= %(first)s
                         AND period = (SELECT max(period) FROM tallystick.stretch
                                       WHERE ledger = %(ledger)s AND first <= %(first)s)
                       ORDER BY seq DESC LIMIT 1), 0)
ORDER BY seq;

-- name: event_row_before
-- The last stored row that begins at or before an event number.
SELECT seq, count, time, hash, encoding, body FROM tallystick.event
WHERE ledger = %(ledger)s AND seq <= %(seq)s
  AND period = (SELECT max(period) FROM tallystick.stretch WHERE ledger = %(ledger)s AND first <= %(seq)s)
ORDER BY seq DESC LIMIT 1;

-- name: event_time_before
-- The same without its events: when the last of them was recorded.
SELECT seq, count, time FROM tallystick.event
WHERE ledger = %(ledger)s AND seq <= %(seq)s
  AND period = (SELECT max(period) FROM tallystick.stretch WHERE ledger = %(ledger)s AND first <= %(seq)s)
ORDER BY seq DESC LIMIT 1;

-- name: balances_by_account
SELECT id, number, account, asset, bucket FROM tallystick.balance
WHERE ledger = %(ledger)s AND account = ANY(%(accounts)s);

-- name: balances_by_number
SELECT number, id FROM tallystick.balance WHERE ledger = %(ledger)s AND number = ANY(%(numbers)s);

-- name: assets
SELECT asset, number, balances FROM tallystick.asset WHERE ledger = %(ledger)s;

-- name: latest_of
-- The last entry of each of these balances before an event number. The places (period, part) are asked one after the
-- other, newest first, until one has it: a nested loop keeps their order.
SELECT wanted.id, found.version, found.before, found.amount, found.after
FROM unnest(%(balances)s::bigint[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT last.version, last.before, last.amount, last.after
    FROM unnest(%(periods)s::integer[], %(parts)s::integer[]) AS place (period, part)
    CROSS JOIN LATERAL (
        SELECT version, before, amount, after FROM tallystick.entry
        WHERE ledger = %(ledger)s AND entry.period = place.period AND (seq >> 15)::integer = place.part
          AND balance = wanted.id AND seq < %(before)s
        ORDER BY version DESC LIMIT 1
    ) AS last
    LIMIT 1
) AS found;

-- name: snapshot_of
-- Where the snapshot, or the archive, left these balances; the later of the two comes last.
SELECT balance, version, after FROM tallystick.snapshot
WHERE ledger = %(ledger)s AND part = %(part)s AND balance = ANY(%(balances)s)
UNION ALL
SELECT balance, version, after FROM tallystick.carried
WHERE ledger = %(ledger)s AND balance = ANY(%(balances)s) AND %(carried)s
ORDER BY version;

-- name: by_index
-- For this transaction alone.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'off', true);

-- name: as_usual
-- What follows in the same transaction is planned as ever.
SELECT set_config('enable_nestloop', 'on', true), set_config('enable_seqscan', 'on', true);

-- name: all_balances
-- Every balance as it stood before an event number: its last entry since the snapshot or the archive, or else what these
-- say, whichever is later.
SELECT account, asset, bucket, number,
    coalesce(tail.version, greatest(snapshot.version, carried.version)),
    coalesce(tail.after, CASE WHEN carried.version >= coalesce(snapshot.version, 0) THEN carried.after ELSE snapshot.after END),
    tail.before + tail.amount = tail.after
FROM tallystick.balance
LEFT JOIN (
    SELECT DISTINCT ON (balance) balance, version, before, amount, after FROM tallystick.entry
    WHERE ledger = %(ledger)s AND period = ANY(%(periods)s) AND (seq >> 15)::integer = ANY(%(parts)s)
      AND seq < %(before)s
    ORDER BY balance, version DESC
) AS tail ON tail.balance = balance.id
LEFT JOIN tallystick.snapshot
    ON snapshot.ledger = %(ledger)s AND snapshot.part = %(part)s AND snapshot.balance = balance.id
LEFT JOIN tallystick.carried ON %(carried)s AND carried.ledger = %(ledger)s AND carried.balance = balance.id
WHERE balance.ledger = %(ledger)s
ORDER BY account, asset, bucket;

-- name: add_snapshot
-- All balances as they stood before a part: from the snapshot before, or the archive, and the entries since. Nothing if
-- the part lies in the archive, or if a period has gone there since the places were asked for.
INSERT INTO tallystick.snapshot (ledger, part, balance, version, after)
SELECT %(ledger)s, %(new)s, id,
    coalesce(tail.version, greatest(snapshot.version, carried.version)),
    coalesce(tail.after, CASE WHEN carried.version >= coalesce(snapshot.version, 0) THEN carried.after ELSE snapshot.after END)
FROM tallystick.balance
LEFT JOIN (
    SELECT DISTINCT ON (balance) balance, version, after FROM tallystick.entry
    WHERE ledger = %(ledger)s AND period = ANY(%(periods)s) AND (seq >> 15)::integer = ANY(%(parts)s)
      AND seq < %(before)s
    ORDER BY balance, version DESC
) AS tail ON tail.balance = balance.id
LEFT JOIN tallystick.snapshot
    ON snapshot.ledger = %(ledger)s AND snapshot.part = %(part)s AND snapshot.balance = balance.id
LEFT JOIN tallystick.carried ON %(carried)s AND carried.ledger = %(ledger)s AND carried.balance = balance.id
WHERE balance.ledger = %(ledger)s AND coalesce(tail.version, snapshot.version, carried.version) IS NOT NULL
  AND %(boundary)s <= %(before)s
  AND %(archived)s = (SELECT count(*) FROM tallystick.stretch JOIN tallystick.archive USING (period)
                      WHERE stretch.ledger = %(ledger)s AND archive.kind = 'entry')
ORDER BY id
ON CONFLICT DO NOTHING;

-- name: add_snapshot_point
INSERT INTO tallystick.snapshot_point (ledger, part)
SELECT %(ledger)s, %(new)s WHERE EXISTS (SELECT FROM tallystick.snapshot WHERE ledger = %(ledger)s AND part = %(new)s)
ON CONFLICT DO NOTHING;

-- name: entries
SELECT balance, version, seq, amount, before, after FROM tallystick.entry
WHERE ledger = %(ledger)s AND period = %(period)s AND (seq >> 15)::integer = %(part)s
  AND balance = ANY(%(balances)s) AND seq >= %(first)s AND seq < %(before)s
ORDER BY seq LIMIT %(limit)s;

-- name: backdated_of
SELECT number, seq, effective, amount
FROM tallystick.balance JOIN tallystick.backdated
    ON backdated.ledger = balance.ledger AND backdated.balance = balance.id
WHERE balance.ledger = %(ledger)s AND number = ANY(%(balances)s) ORDER BY seq, number;

-- name: backdated_of_all
SELECT number, seq, effective, amount
FROM tallystick.backdated JOIN tallystick.balance
    ON balance.ledger = backdated.ledger AND balance.id = backdated.balance
WHERE backdated.ledger = %(ledger)s ORDER BY seq, number;

-- name: keys
-- Every place is asked, by its own key, for each number. Written so, and kept so by OFFSET 0, the index is asked for all of
-- its columns: where PostgreSQL has no statistics yet, it would else read whole parts, or the tables from end to end.
SELECT wanted.number, found.seq
FROM (
    SELECT period, generate_series((first >> 18)::integer, ((next - 1) >> 18)::integer) AS part
    FROM (
        SELECT stretch.period, first, lead(first, 1, head.seq) OVER (ORDER BY stretch.period) AS next
        FROM tallystick.stretch JOIN tallystick.head ON head.ledger = stretch.ledger
        WHERE stretch.ledger = %(ledger)s
    ) AS recorded
) AS place
CROSS JOIN unnest(%(numbers)s::bigint[]) AS wanted (number)
CROSS JOIN LATERAL (
    SELECT seq FROM tallystick.idempotency
    WHERE ledger = %(ledger)s AND idempotency.period = place.period AND (seq >> 18)::integer = place.part
      AND idempotency.number = wanted.number
    OFFSET 0
) AS found;

-- name: keys_between
SELECT number, seq FROM tallystick.idempotency
WHERE ledger = %(ledger)s AND period = %(period)s AND (seq >> 18)::integer = %(part)s
  AND seq >= %(first)s AND seq < %(before)s
ORDER BY seq;

-- name: references_between
SELECT name, value, seq FROM tallystick.reference
WHERE ledger = %(ledger)s AND period = %(period)s AND (seq >> 18)::integer = %(part)s
  AND seq >= %(first)s AND seq < %(before)s;

-- name: references
SELECT found.seq
FROM unnest(%(periods)s::integer[], %(parts)s::integer[]) AS place (period, part)
CROSS JOIN LATERAL (
    SELECT seq FROM tallystick.reference
    WHERE ledger = %(ledger)s AND reference.period = place.period AND (seq >> 18)::integer = place.part
      AND name = %(name)s AND value = %(value)s AND seq > %(after)s
    OFFSET 0
) AS found
ORDER BY found.seq LIMIT %(limit)s;

-- name: objects
SELECT id, body FROM tallystick.object WHERE ledger = %(ledger)s AND kind = %(kind)s;

-- name: objects_by_id
SELECT id, body FROM tallystick.object WHERE ledger = %(ledger)s AND kind = %(kind)s AND id = ANY(%(ids)s);

-- name: all_objects
SELECT ledger, kind, id, place, account, state, expires, body FROM tallystick.object;

-- name: locks
SELECT body FROM tallystick.object
WHERE ledger = %(ledger)s AND kind = 'lock' AND place > %(after)s AND (%(state)s = '' OR state = %(state)s)
ORDER BY place;

-- name: locks_of_account
SELECT body FROM tallystick.object
WHERE ledger = %(ledger)s AND kind = 'lock' AND account = %(account)s AND account <> '' AND place > %(after)s
  AND (%(state)s = '' OR state = %(state)s)
ORDER BY place;

-- name: locks_due
SELECT body FROM tallystick.object
WHERE ledger = %(ledger)s AND expires <> '' AND expires <= %(due)s AND kind = 'lock' AND place > %(after)s
ORDER BY place;

-- name: accounts
SELECT account FROM (
    (SELECT DISTINCT account FROM tallystick.balance
     WHERE ledger = %(ledger)s AND account > %(after)s AND account >= %(prefix)s AND account < %(beyond)s
     ORDER BY account LIMIT %(limit)s)
    UNION
    (SELECT id FROM tallystick.object
     WHERE ledger = %(ledger)s AND kind = 'account' AND id > %(after)s AND id >= %(prefix)s AND id < %(beyond)s
     ORDER BY id LIMIT %(limit)s)
) AS found
ORDER BY account LIMIT %(limit)s;

-- name: cached
SELECT body FROM tallystick.cache WHERE ledger = %(ledger)s AND name = %(name)s;

-- name: put_cache
INSERT INTO tallystick.cache (ledger, name, body) VALUES (%(ledger)s, %(name)s, %(body)s)
ON CONFLICT (ledger, name) DO UPDATE SET body = excluded.body;

-- name: changed_balances
-- The last entry of every balance that was posted to from an event number on. If that one is in the archive by now, all
-- that the archive left are among them.
SELECT DISTINCT ON (balance.id) balance.account, balance.asset, balance.bucket, balance.id, balance.number, changed.after,
    changed.version
FROM (
    SELECT balance, version, after FROM tallystick.entry
    WHERE ledger = %(ledger)s AND period = ANY(%(periods)s) AND (seq >> 15)::integer = ANY(%(parts)s)
      AND seq >= %(first)s
    UNION ALL
    SELECT balance, version, after FROM tallystick.carried
    WHERE ledger = %(ledger)s
      AND EXISTS (SELECT FROM tallystick.archive
                  WHERE period = (SELECT max(period) FROM tallystick.stretch
                                  WHERE ledger = %(ledger)s AND first <= %(first)s))
) AS changed JOIN tallystick.balance ON balance.ledger = %(ledger)s AND balance.id = changed.balance
ORDER BY balance.id, changed.version DESC;

-- name: counts
SELECT
    (SELECT count(*) FROM tallystick.balance WHERE ledger = %(ledger)s),
    (SELECT count(*) FROM tallystick.object WHERE ledger = %(ledger)s AND kind = 'account'),
    (SELECT count(*) FROM tallystick.object WHERE ledger = %(ledger)s AND kind = 'lock'),
    (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
     WHERE relnamespace = 'tallystick'::regnamespace AND relkind = 'r');

-- name: stop_all
-- Nobody appends during a rebuild, and no snapshot that was read from the old rows comes to stand beside the new ones.
LOCK TABLE tallystick.head, tallystick.snapshot, tallystick.snapshot_point, tallystick.cache IN EXCLUSIVE MODE;

-- name: guarded
-- The tables, with their partitions, whose guards a rebuild sets aside.
SELECT oid::regclass::text FROM pg_class
WHERE oid IN ('tallystick.entry'::regclass, 'tallystick.idempotency'::regclass, 'tallystick.balance'::regclass,
              'tallystick.carried'::regclass)
   OR oid IN (SELECT inhrelid FROM pg_inherits
              WHERE inhparent IN ('tallystick.entry'::regclass, 'tallystick.idempotency'::regclass));

-- name: count_balances
-- After a rebuild: what the guard, which was set aside, would have counted.
UPDATE tallystick.asset SET balances = (
    SELECT count(*) FROM tallystick.balance
    WHERE balance.ledger = %(ledger)s AND balance.asset_number = asset.number
) WHERE ledger = %(ledger)s;

-- name: openings
SELECT commitment, salt, text, seq FROM tallystick.opening
WHERE ledger = %(ledger)s AND commitment = ANY(%(commitments)s);

-- name: openings_between
SELECT commitment, salt, text, seq FROM tallystick.opening
WHERE ledger = %(ledger)s AND seq >= %(first)s AND seq < %(before)s ORDER BY seq, commitment;

-- name: erase
DELETE FROM tallystick.opening WHERE ledger = %(ledger)s AND commitment = ANY(%(commitments)s) RETURNING 1;

-- name: tiles
SELECT level, number, hashes FROM unnest(%(levels)s::integer[], %(numbers)s::bigint[]) AS wanted (level, number)
JOIN tallystick.log_tile USING (level, number) WHERE ledger = %(ledger)s;

-- name: put_tiles
INSERT INTO tallystick.log_tile (ledger, level, number, hashes)
SELECT %(ledger)s, put.* FROM unnest(%(levels)s::integer[], %(numbers)s::bigint[], %(hashes)s::bytea[])
    AS put (level, number, hashes)
ON CONFLICT (ledger, level, number) DO UPDATE SET hashes = excluded.hashes
WHERE octet_length(excluded.hashes) > octet_length(log_tile.hashes);

-- name: add_checkpoint
INSERT INTO tallystick.checkpoint (ledger, size, revision, note)
SELECT %(ledger)s, %(size)s, coalesce(max(revision) + 1, 0), %(note)s FROM tallystick.checkpoint
WHERE ledger = %(ledger)s AND size = %(size)s
ON CONFLICT DO NOTHING;

-- name: checkpoint
SELECT note FROM tallystick.checkpoint WHERE ledger = %(ledger)s ORDER BY size DESC, revision DESC LIMIT 1;

-- name: checkpoints
SELECT DISTINCT ON (size) size, note FROM tallystick.checkpoint
WHERE ledger = %(ledger)s AND size > %(after)s ORDER BY size, revision DESC LIMIT %(limit)s;
