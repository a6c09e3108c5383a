-- Every statement that the SQLite store makes, by name. Lists come in as JSON arrays.

-- name: schema
-- Every table, index and guard as SQLite wrote it down, but for its own.
SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name;

-- name: add_ledger
INSERT INTO ledger (name) VALUES (?);

-- name: ledgers
SELECT name, id FROM ledger ORDER BY name;

-- name: ledgers_of_table
-- The same from the table itself: what was altered in one of the two shows.
SELECT name, id FROM ledger NOT INDEXED ORDER BY name;

-- name: head
SELECT seq + count, hash, time FROM event WHERE ledger = ? ORDER BY seq DESC LIMIT 1;

-- name: balances_made
SELECT coalesce(max(id), 0) FROM balance WHERE ledger = ?;

-- name: add_event
INSERT INTO event (ledger, seq, count, time, hash, encoding, body) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: add_events
-- Rows of events cut out of one blob: [seq, count, hash, encoding, start, length, time].
INSERT INTO event (ledger, seq, count, time, hash, encoding, body)
SELECT :ledger, value ->> 0, value ->> 1, value ->> 6, value ->> 2, value ->> 3,
    substr(:bodies, value ->> 4, value ->> 5)
FROM json_each(:rows);

-- name: add_balances
INSERT INTO balance (ledger, id, account, asset, bucket)
SELECT :ledger, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:rows);

-- name: add_entries
-- Most of what is written. json_extract with a constant path is quicker here than ->> with a number.
INSERT INTO entry (ledger, part, balance, version, seq, amount, before, after)
SELECT :ledger, :part, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]')
FROM json_each(:rows);

-- name: add_keys
INSERT INTO idempotency (ledger, part, number, seq)
SELECT :ledger, :part, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:rows);

-- name: add_references
INSERT INTO reference (ledger, part, name, value, seq)
SELECT :ledger, :part, value ->> 0, value ->> 1, value ->> 2 FROM json_each(:rows);

-- name: add_backdated
INSERT INTO backdated (ledger, balance, seq, effective, amount)
SELECT :ledger, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(:rows);

-- name: put_object
INSERT OR REPLACE INTO object (ledger, kind, id, place, account, state, expires, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_opening
INSERT INTO opening (ledger, seq, commitment, salt, text) VALUES (?, ?, ?, ?, ?);

-- name: openings
SELECT commitment, salt, text, seq FROM opening
WHERE ledger = ? AND commitment IN (SELECT value FROM json_each(?));

-- name: openings_between
SELECT commitment, salt, text, seq FROM opening WHERE ledger = ? AND seq >= ? AND seq < ? ORDER BY seq, commitment;

-- name: erase
DELETE FROM opening WHERE ledger = ? AND commitment IN (SELECT value FROM json_each(?));

-- name: tile
SELECT hashes FROM log_tile WHERE ledger = ? AND level = ? AND number = ?;

-- name: put_tile
INSERT INTO log_tile (ledger, level, number, hashes) VALUES (?, ?, ?, ?)
ON CONFLICT (ledger, level, number) DO UPDATE SET hashes = excluded.hashes
WHERE length(excluded.hashes) > length(log_tile.hashes);

-- name: add_checkpoint
INSERT INTO checkpoint (ledger, size, revision, note)
SELECT :ledger, :size, coalesce(max(revision) + 1, 0), :note FROM checkpoint WHERE ledger = :ledger AND size = :size;

-- name: checkpoint
SELECT note FROM checkpoint WHERE ledger = ? ORDER BY size DESC, revision DESC LIMIT 1;

-- name: checkpoints
SELECT size, note, max(revision) FROM checkpoint WHERE ledger = ? AND size > ? GROUP BY size ORDER BY size LIMIT ?;

-- name: event_rows
SELECT seq, count, time, hash, encoding, body FROM event
WHERE ledger = :ledger AND seq < :before
  AND seq >= coalesce((SELECT max(seq) FROM event WHERE ledger = :ledger AND seq <= :first), 0)
ORDER BY seq;

-- name: event_row_before
-- The last stored row that begins at or before an event number.
SELECT seq, count, time, hash, encoding, body FROM event WHERE ledger = ? AND seq <= ? ORDER BY seq DESC LIMIT 1;

-- name: balances_by_account
-- The index is named, and the join goes from the accounts, because SQLite would else read every balance of the ledger.
SELECT balance.id, account, asset, bucket FROM json_each(:accounts) AS wanted
CROSS JOIN balance INDEXED BY sqlite_autoindex_balance_2 ON ledger = :ledger AND account = wanted.value;

-- name: current_balances
-- The balances of some accounts before an event number, as one document: each one's last entry in the newest part that
-- has one, back to the last snapshot, or else what that says. `last` is the part of the last event that counts.
WITH RECURSIVE since (part) AS (
    SELECT coalesce(max(part), 0) FROM snapshot_point WHERE ledger = :ledger AND part <= :last
), place (part) AS (
    VALUES (:last) UNION ALL SELECT part - 1 FROM place WHERE part > (SELECT part FROM since)
)
SELECT json_group_array(json_array(
    wanted.key, balance.id, asset, bucket, coalesce(entry.version, snapshot.version),
    before, amount, coalesce(entry.after, snapshot.after)))
FROM json_each(:accounts) AS wanted
CROSS JOIN balance INDEXED BY sqlite_autoindex_balance_2
    ON balance.ledger = :ledger AND balance.account = wanted.value
LEFT JOIN entry ON entry.ledger = :ledger AND entry.balance = balance.id
    AND entry.part = (
        SELECT place.part FROM place
        CROSS JOIN entry AS any ON any.ledger = :ledger AND any.part = place.part AND any.balance = balance.id
            AND any.seq < :before
        LIMIT 1)
    AND entry.version = (
        SELECT version FROM entry AS last
        WHERE last.ledger = :ledger AND last.balance = balance.id AND last.seq < :before AND last.part = (
            SELECT place.part FROM place
            CROSS JOIN entry AS any ON any.ledger = :ledger AND any.part = place.part AND any.balance = balance.id
                AND any.seq < :before
            LIMIT 1)
        ORDER BY version DESC LIMIT 1)
LEFT JOIN snapshot ON snapshot.ledger = :ledger AND snapshot.part = (SELECT part FROM since)
    AND snapshot.balance = CASE WHEN entry.version IS NULL THEN balance.id END;

-- name: all_balances
SELECT id, account, asset, bucket FROM balance WHERE ledger = ?;

-- name: latest_of
-- The last entry of each of these balances in one part, before an event number. CROSS JOIN keeps SQLite from reading
-- the whole part and looking each entry up among the balances.
SELECT e.balance, e.version, e.before, e.amount, e.after
FROM json_each(:balances) AS wanted
CROSS JOIN entry AS e ON e.ledger = :ledger AND e.part = :part AND e.balance = wanted.value
 AND e.version = (
    SELECT version FROM entry
    WHERE ledger = :ledger AND part = :part AND balance = wanted.value AND seq < :before
    ORDER BY version DESC LIMIT 1
 );

-- name: latest_of_all
-- The last entry of every balance in one part, before an event number (bare columns follow max() in SQLite).
SELECT balance, max(version), before, amount, after FROM entry
WHERE ledger = :ledger AND part = :part AND seq < :before GROUP BY balance;

-- name: snapshot_part
SELECT max(part) FROM snapshot_point WHERE ledger = ? AND part <= ?;

-- name: snapshot_of
SELECT balance, version, after FROM snapshot
WHERE ledger = :ledger AND part = :part AND balance IN (SELECT value FROM json_each(:balances));

-- name: snapshot_of_all
SELECT balance, version, after FROM snapshot WHERE ledger = :ledger AND part = :part;

-- name: add_snapshot
INSERT OR REPLACE INTO snapshot (ledger, part, balance, version, after) VALUES (?, ?, ?, ?, ?);

-- name: add_snapshot_point
INSERT OR REPLACE INTO snapshot_point (ledger, part) VALUES (?, ?);

-- name: entries_in_part
SELECT balance, version, seq, amount, before, after FROM entry
WHERE ledger = :ledger AND part = :part AND balance IN (SELECT value FROM json_each(:balances))
  AND seq >= :first AND seq < :before
ORDER BY seq, balance LIMIT :limit;

-- name: backdated_of
SELECT balance, seq, effective, amount FROM backdated
WHERE ledger = ? AND balance IN (SELECT value FROM json_each(?)) ORDER BY seq, balance;

-- name: backdated_of_all
SELECT balance, seq, effective, amount FROM backdated WHERE ledger = ? ORDER BY seq, balance;

-- name: last_part_of_keys
SELECT coalesce(max(part), 0) FROM idempotency WHERE ledger = ?;

-- name: keys
-- Every part up to the last is asked, by its own key, for every number.
WITH RECURSIVE range (part) AS (VALUES (0) UNION ALL SELECT part + 1 FROM range WHERE part < :last)
SELECT found.number, found.seq FROM range
CROSS JOIN json_each(:numbers) AS wanted
CROSS JOIN idempotency AS found
  ON found.ledger = :ledger AND found.part = range.part AND found.number = wanted.value;

-- name: keys_between
SELECT number, seq FROM idempotency WHERE ledger = ? AND part = ? AND seq >= ? AND seq < ?;

-- name: references_between
SELECT name, value, seq FROM reference WHERE ledger = ? AND part = ? AND seq >= ? AND seq < ?;

-- name: references_in_part
SELECT seq FROM reference WHERE ledger = ? AND part = ? AND name = ? AND value = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: objects
SELECT id, body FROM object WHERE ledger = ? AND kind = ?;

-- name: all_objects
SELECT ledger, kind, id, place, account, state, expires, body FROM object;

-- name: objects_by_id
SELECT id, body FROM object WHERE ledger = ? AND kind = ? AND id IN (SELECT value FROM json_each(?));

-- name: locks
SELECT body FROM object
WHERE ledger = :ledger AND kind = 'lock' AND place > :after AND (:state = '' OR state = :state)
ORDER BY place;

-- name: locks_of_account
SELECT body FROM object
WHERE ledger = :ledger AND kind = 'lock' AND account = :account AND place > :after AND (:state = '' OR state = :state)
ORDER BY place;

-- name: locks_due
SELECT body FROM object
WHERE ledger = :ledger AND expires <> '' AND expires <= :due AND kind = 'lock' AND place > :after
ORDER BY place;

-- name: accounts
SELECT account FROM (
    SELECT account FROM balance WHERE ledger = :ledger
    UNION SELECT id FROM object WHERE ledger = :ledger AND kind = 'account'
) WHERE account > :after AND account >= :prefix AND account < :prefix || char(1114111)
ORDER BY account LIMIT :limit;

-- name: cached
SELECT body FROM cache WHERE ledger = ? AND name = ?;

-- name: put_cache
INSERT OR REPLACE INTO cache (ledger, name, body) VALUES (?, ?, ?);

-- name: count_balances
SELECT count(*) FROM balance WHERE ledger = ?;

-- name: count_objects
SELECT count(*) FROM object WHERE ledger = ? AND kind = ?;
