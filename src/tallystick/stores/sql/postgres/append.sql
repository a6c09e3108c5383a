-- What an append says, by name. These statements are prepared and sent together in one trip; $1 is always the ledger.

-- name: begin
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;

-- name: commit
COMMIT;

-- name: take_turn
-- Who is about to wait for the head waits here first. The head's row moves on with every append, and PostgreSQL sends those
-- who waited for the old one to queue anew behind whoever came to the new one meanwhile: they could wait for ever. This
-- row never changes, so that they come in order.
SELECT FROM tallystick.ledger WHERE id = $1::integer FOR NO KEY UPDATE;

-- name: lock_head
SELECT seq, hash, time, balances FROM tallystick.head WHERE ledger = $1::integer FOR UPDATE;

-- name: hash_at
-- The hash of the event before an event number, if a stored row ends with it.
SELECT hash FROM tallystick.event
WHERE ledger = $1::integer AND seq < $2::bigint AND seq + count = $2::bigint
  AND period = (SELECT max(period) FROM tallystick.stretch WHERE ledger = $1::integer AND first < $2::bigint)
ORDER BY seq DESC LIMIT 1;

-- name: events_since
-- The stored rows from an event number on, where a row begins.
SELECT seq, count, hash, encoding, body FROM tallystick.event
WHERE ledger = $1::integer AND seq >= $2::bigint
  AND period >= (SELECT max(period) FROM tallystick.stretch WHERE ledger = $1::integer AND first <= $2::bigint)
ORDER BY seq;

-- name: objects_since
SELECT kind, id, body FROM tallystick.object WHERE ledger = $1::integer AND seq > $2::bigint;

-- name: move_head
-- Locks the ledger and compares in one: if the head is not where the batch was decided, `seq` would become null, which
-- the table refuses, and with it all that was sent behind. If the number is another ledger's, as it may be on a server that
-- has taken the place of one with later news, no head moves, and the guards refuse what was sent behind.
UPDATE tallystick.head
SET seq = CASE WHEN seq = $2::bigint AND hash = $3::text AND time = $4::text AND balances = $5::bigint
               THEN $6::bigint END,
    hash = $7::text, time = $8::text, balances = $9::bigint, period = $10::integer
WHERE ledger = $1::integer AND EXISTS (SELECT FROM tallystick.ledger WHERE id = $1::integer AND name = $11::text);

-- name: add_stretch
INSERT INTO tallystick.stretch (ledger, period, first) VALUES ($1::integer, $2::integer, $3::bigint);

-- name: add_event
INSERT INTO tallystick.event (ledger, period, seq, count, encoding, time, hash, body)
VALUES ($1::integer, $2::integer, $3::bigint, $4::integer, $5::integer, $6::text, $7::text, $8::bytea);

-- name: add_assets
INSERT INTO tallystick.asset (ledger, number, asset)
SELECT $1::integer, added.* FROM unnest($2::bigint[], $3::text[]) AS added (number, asset);

-- name: add_balances
INSERT INTO tallystick.balance (ledger, id, number, account, asset, bucket)
SELECT $1::integer, added.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
    AS added (id, number, account, asset, bucket);

-- name: add_entries
INSERT INTO tallystick.entry (ledger, period, balance, version, seq, amount, before, after)
SELECT $1::integer, $2::integer, added.*
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
    AS added (balance, version, seq, amount, before, after);

-- name: add_keys
INSERT INTO tallystick.idempotency (ledger, period, number, seq, twin)
SELECT $1::integer, $2::integer, added.* FROM unnest($3::bigint[], $4::bigint[], $5::bigint[])
    AS added (number, seq, twin);

-- name: add_references
INSERT INTO tallystick.reference (ledger, period, seq, name, value)
SELECT $1::integer, $2::integer, added.* FROM unnest($3::bigint[], $4::text[], $5::text[]) AS added (seq, name, value);

-- name: add_backdated
INSERT INTO tallystick.backdated (ledger, balance, seq, effective, amount)
SELECT $1::integer, added.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[])
    AS added (balance, seq, effective, amount);

-- name: add_openings
INSERT INTO tallystick.opening (ledger, commitment, salt, text, seq)
SELECT $1::integer, added.* FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::bigint[])
    AS added (commitment, salt, text, seq);

-- name: put_objects
INSERT INTO tallystick.object (ledger, seq, kind, id, place, account, state, expires, body)
SELECT $1::integer, $2::bigint, put.*
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
    AS put (kind, id, place, account, state, expires, body)
ON CONFLICT (ledger, kind, id) DO UPDATE
SET seq = excluded.seq, place = excluded.place, account = excluded.account, state = excluded.state,
    expires = excluded.expires, body = excluded.body;
