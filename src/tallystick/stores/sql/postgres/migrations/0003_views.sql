-- Views for people and for other programs: all that an analyst needs. They show and never decide anything.
--
-- What is dear stands in the select list alone, so that a query pays only for the columns that it names. Amounts are
-- whole minor units of their asset: 1234 of USD/2 is 12.34 dollars. What a filter does to the cost is said on each column.

-- JSON as PostgreSQL can hold it: its text has no room for the character NUL, which is shown as U+FFFD instead.
CREATE FUNCTION tallystick.readable_json(body text) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN pg_catalog.strpos($1, E'\\u0000') OPERATOR(pg_catalog.=) 0 THEN $1
        ELSE pg_catalog.regexp_replace($1, E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u0000', E'\\1\\\\ufffd', 'g') END::pg_catalog.jsonb
$$;
REVOKE ALL ON FUNCTION tallystick.readable_json(text) FROM PUBLIC;

-- ---------------------------------------------------------------- where rows lie

-- The ranges of the journal, of 32,768 events each, that a period has a share in: it has events number first to next - 1.
-- It is a function of its own (which SET keeps from being made part of each query), so that it can say that they are few,
-- and give the period with each: else the planner takes them for a thousand a month and reads whole tables where it could
-- look a few rows up, or looks into every partition for each of them.
CREATE FUNCTION tallystick.parts_of(period integer, first bigint, next bigint)
RETURNS TABLE (of_period integer, part integer)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2 SET search_path = pg_catalog, pg_temp AS $$
    SELECT $1, generate_series(($2 >> 15)::integer, (($3 - 1) >> 15)::integer)
$$;
REVOKE ALL ON FUNCTION tallystick.parts_of(integer, bigint, bigint) FROM PUBLIC;

-- The index of entries is by range of the journal, so whoever looks for a balance's entries asks range after range.
CREATE VIEW tallystick.ledger_parts AS
SELECT stretch.ledger, place.of_period AS period, place.part
FROM tallystick.stretch
JOIN tallystick.head ON head.ledger = stretch.ledger
CROSS JOIN LATERAL (
    SELECT coalesce(min(later.first), head.seq) AS next FROM tallystick.stretch AS later
    WHERE later.ledger = stretch.ledger AND later.period > stretch.period
) AS following
CROSS JOIN LATERAL tallystick.parts_of(stretch.period, stretch.first, following.next) AS place;

COMMENT ON VIEW tallystick.ledger_parts IS
    'Where the entries of each ledger lie: every range of 32,768 events, and the month in which it was recorded.';
COMMENT ON COLUMN tallystick.ledger_parts.ledger IS 'The number of the ledger in table ledger.';
COMMENT ON COLUMN tallystick.ledger_parts.period IS 'The month of recording, such as 202601.';
COMMENT ON COLUMN tallystick.ledger_parts.part IS 'The range of the journal: seq divided by 32,768.';

-- ---------------------------------------------------------------- events

CREATE VIEW tallystick.ledger_transactions AS
SELECT
    ledger.name AS ledger,
    ledger.name || '/' || (stored.seq + line.number - 1) AS transaction,
    stored.seq + line.number - 1 AS seq,
    (parsed.event ->> 'time')::timestamptz AS time,
    coalesce(parsed.event ->> 'effective', parsed.event ->> 'time')::timestamptz AS effective,
    parsed.event ->> 'type' AS type,
    coalesce(parsed.event ->> 'actor', '') AS actor,
    parsed.event ->> 'source' AS source,
    parsed.event ->> 'idem' AS idempotency_key,
    coalesce(parsed.event -> 'refs', '{}') AS refs,
    coalesce(parsed.event -> 'data', '{}') AS data,
    encode(sha256('\x00'::bytea || convert_to(line.body, 'UTF8')), 'hex') AS hash,
    parsed.event AS event,
    stored.period,
    stored.seq AS chunk
FROM tallystick.ledger
JOIN tallystick.event AS stored ON stored.ledger = ledger.id
CROSS JOIN LATERAL unnest(string_to_array(convert_from(stored.body, 'UTF8'), chr(10))) WITH ORDINALITY
    AS line (body, number)
CROSS JOIN LATERAL (SELECT tallystick.readable_json(line.body) AS event OFFSET 0) AS parsed;  -- read once, or not at all

COMMENT ON VIEW tallystick.ledger_transactions IS
    'The journal, one row per event: what happened, in the order in which it happened. An event with entries is a '
    'transaction. Name a ledger, and a period or a chunk where you can: without them all of the journal is read.';
COMMENT ON COLUMN tallystick.ledger_transactions.ledger IS 'The name of the ledger. A filter on it uses the index.';
COMMENT ON COLUMN tallystick.ledger_transactions.transaction IS 'The id of the event: its place, ledger/seq.';
COMMENT ON COLUMN tallystick.ledger_transactions.seq IS
    'The number of the event in its ledger, from 0, without gaps. To look for event 5000 quickly: '
    'seq = 5000 AND chunk BETWEEN 5000 - 255 AND 5000.';
COMMENT ON COLUMN tallystick.ledger_transactions.time IS
    'When it was recorded; never earlier than the event before. Read out of the event: to narrow down by time quickly, '
    'name the period too.';
COMMENT ON COLUMN tallystick.ledger_transactions.effective IS
    'When it took effect: the time of recording, or an earlier one that was given.';
COMMENT ON COLUMN tallystick.ledger_transactions.type IS 'The type of the event, such as transfer, hold or account_opened.';
COMMENT ON COLUMN tallystick.ledger_transactions.actor IS 'On whose behalf it was asked for; empty if nobody was named.';
COMMENT ON COLUMN tallystick.ledger_transactions.source IS 'Which program or channel asked for it; keys are unique within it.';
COMMENT ON COLUMN tallystick.ledger_transactions.idempotency_key IS
    'The key that it was asked for with; asking again with the same key gives this event again.';
COMMENT ON COLUMN tallystick.ledger_transactions.refs IS
    'Its causal references by name, such as order, corrects or trace_id; an empty object if there are none.';
COMMENT ON COLUMN tallystick.ledger_transactions.data IS
    'What else belongs to it, such as reason and metadata; an empty object if there is nothing.';
COMMENT ON COLUMN tallystick.ledger_transactions.hash IS
    'The leaf hash: SHA-256 of a zero byte and the exact bytes of the event, in hexadecimal. The next event names it as prev.';
COMMENT ON COLUMN tallystick.ledger_transactions.event IS
    'The whole event as JSON, with its entries. The exact bytes, which are what is hashed, are in table event.';
COMMENT ON COLUMN tallystick.ledger_transactions.period IS
    'The month of recording, such as 202601. A filter on it reads that month alone.';
COMMENT ON COLUMN tallystick.ledger_transactions.chunk IS
    'The number of the first of the events that are stored in one row with this one, 255 less than its own at most. '
    'A filter on it, together with the ledger, uses the index.';

-- ---------------------------------------------------------------- entries

CREATE VIEW tallystick.ledger_entries AS
SELECT
    ledger.name AS ledger,
    ledger.name || '/' || entry.seq AS transaction,
    entry.seq,
    (
        SELECT (tallystick.readable_json(
            split_part(convert_from(body, 'UTF8'), chr(10), (entry.seq - seq)::integer + 1)
        ) ->> 'time')::timestamptz
        FROM tallystick.event
        WHERE event.ledger = entry.ledger AND event.period = entry.period
          AND event.seq > entry.seq - 256 AND event.seq <= entry.seq AND entry.seq < event.seq + count
    ) AS time,
    (
        SELECT tallystick.readable_json(
            split_part(convert_from(body, 'UTF8'), chr(10), (entry.seq - seq)::integer + 1)
        ) ->> 'type'
        FROM tallystick.event
        WHERE event.ledger = entry.ledger AND event.period = entry.period
          AND event.seq > entry.seq - 256 AND event.seq <= entry.seq AND entry.seq < event.seq + count
    ) AS type,
    balance.account,
    balance.asset,
    balance.bucket,
    entry.amount,
    entry.before,
    entry.after,
    entry.version,
    entry.period,
    place.part
FROM tallystick.ledger
JOIN tallystick.balance ON balance.ledger = ledger.id
JOIN tallystick.ledger_parts AS place ON place.ledger = ledger.id
JOIN tallystick.entry ON entry.ledger = ledger.id AND entry.period = place.period
    AND (entry.seq >> 15)::integer = place.part AND entry.balance = balance.id;

COMMENT ON VIEW tallystick.ledger_entries IS
    'One row per entry: one signed change of one balance. The entries of a transaction sum to zero in each asset.';
COMMENT ON COLUMN tallystick.ledger_entries.ledger IS 'The name of the ledger.';
COMMENT ON COLUMN tallystick.ledger_entries.transaction IS 'The id of the transaction that the entry belongs to: ledger/seq.';
COMMENT ON COLUMN tallystick.ledger_entries.seq IS
    'The number of that transaction in its ledger. To look for one quickly: seq = 70000 AND part = 70000 / 32768.';
COMMENT ON COLUMN tallystick.ledger_entries.time IS
    'When it was recorded. Looked up in the journal for each row that is shown or compared: to narrow down by time '
    'quickly, name the account or the period too.';
COMMENT ON COLUMN tallystick.ledger_entries.type IS 'The type of its transaction; looked up like the time.';
COMMENT ON COLUMN tallystick.ledger_entries.account IS
    'The account whose balance changed. A filter on it, together with the ledger, uses the index.';
COMMENT ON COLUMN tallystick.ledger_entries.asset IS 'The asset, with its scale: USD/2 counts in hundredths.';
COMMENT ON COLUMN tallystick.ledger_entries.bucket IS 'Which of the account''s buckets: available, held, bonded, fees or promo.';
COMMENT ON COLUMN tallystick.ledger_entries.amount IS 'The change, in minor units: positive is a credit, negative a debit.';
COMMENT ON COLUMN tallystick.ledger_entries.before IS 'The balance before, in minor units.';
COMMENT ON COLUMN tallystick.ledger_entries.after IS 'The balance after, in minor units: before + amount.';
COMMENT ON COLUMN tallystick.ledger_entries.version IS 'Which entry of its balance it is: 1, 2, 3, without gaps.';
COMMENT ON COLUMN tallystick.ledger_entries.period IS
    'The month of recording, such as 202601. A filter on it reads that month alone.';
COMMENT ON COLUMN tallystick.ledger_entries.part IS
    'The range of the journal, seq / 32,768. A filter on it, together with the ledger, uses the index.';

-- ---------------------------------------------------------------- balances

-- A balance stands where its last entry left it: the ranges since the last snapshot are asked, newest first, until one
-- has an entry of it; if none has, the snapshot says. A nested loop keeps the order of the ranges.
CREATE VIEW tallystick.ledger_balances AS
SELECT
    ledger.name AS ledger,
    balance.account,
    balance.asset,
    balance.bucket,
    coalesce(last.after, snapshot.after) AS balance,
    coalesce(last.version, snapshot.version) AS version
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
    ON snapshot.ledger = ledger.id AND snapshot.part = point.part AND snapshot.balance = balance.id;

COMMENT ON VIEW tallystick.ledger_balances IS
    'One row per balance that was ever used, as it stands now. Over a ledger the balances of an asset sum to zero.';
COMMENT ON COLUMN tallystick.ledger_balances.ledger IS 'The name of the ledger.';
COMMENT ON COLUMN tallystick.ledger_balances.account IS
    'The account. A filter on it, together with the ledger, uses the index.';
COMMENT ON COLUMN tallystick.ledger_balances.asset IS 'The asset, with its scale: USD/2 counts in hundredths.';
COMMENT ON COLUMN tallystick.ledger_balances.bucket IS 'Which of the account''s buckets: available, held, bonded, fees or promo.';
COMMENT ON COLUMN tallystick.ledger_balances.balance IS 'The balance, in minor units.';
COMMENT ON COLUMN tallystick.ledger_balances.version IS 'How many entries it has had; it grows by 1 with each.';

-- ---------------------------------------------------------------- accounts

CREATE VIEW tallystick.ledger_accounts AS
SELECT
    ledger.name AS ledger,
    used.account,
    declared.body IS NOT NULL AS declared,
    coalesce(parsed.account ->> 'status', 'active') AS status,
    coalesce(parsed.account -> 'limits', '{}') AS limits,
    coalesce(parsed.account -> 'ceilings', '{}') AS ceilings,
    coalesce((parsed.account ->> 'floorless')::boolean, false) AS floorless,
    coalesce(parsed.account ->> 'owner', '') AS owner,
    coalesce(parsed.account -> 'metadata', '{}') AS metadata,
    nullif(parsed.account ->> 'opened', '')::timestamptz AS opened,
    nullif(parsed.account ->> 'changed', '')::timestamptz AS changed
FROM tallystick.ledger
JOIN (
    SELECT ledger, account FROM tallystick.balance
    UNION
    SELECT ledger, id FROM tallystick.object WHERE kind = 'account'
) AS used ON used.ledger = ledger.id
LEFT JOIN tallystick.object AS declared
    ON declared.ledger = used.ledger AND declared.kind = 'account' AND declared.id = used.account
CROSS JOIN LATERAL (SELECT tallystick.readable_json(declared.body) AS account OFFSET 0) AS parsed;

COMMENT ON VIEW tallystick.ledger_accounts IS 'One row per account that was declared or used.';
COMMENT ON COLUMN tallystick.ledger_accounts.ledger IS 'The name of the ledger.';
COMMENT ON COLUMN tallystick.ledger_accounts.account IS
    'The address of the account. A filter on it, together with the ledger, uses the index.';
COMMENT ON COLUMN tallystick.ledger_accounts.declared IS
    'Whether anything was ever said of it; an account may also be opened by its first use.';
COMMENT ON COLUMN tallystick.ledger_accounts.status IS
    'active; frozen: it may be paid but cannot pay; excluded or closed: neither.';
COMMENT ON COLUMN tallystick.ledger_accounts.limits IS
    'How far below zero its available balance may go, by asset, in minor units; with a limit it is a member.';
COMMENT ON COLUMN tallystick.ledger_accounts.ceilings IS 'How high its available balance may go, by asset, in minor units.';
COMMENT ON COLUMN tallystick.ledger_accounts.floorless IS 'Whether it may go below zero without limit; clearing accounts alone may.';
COMMENT ON COLUMN tallystick.ledger_accounts.owner IS 'Whose it is, as was declared; empty if nothing was.';
COMMENT ON COLUMN tallystick.ledger_accounts.metadata IS 'What its users keep about it, by name.';
COMMENT ON COLUMN tallystick.ledger_accounts.opened IS 'When it was declared; null if it never was.';
COMMENT ON COLUMN tallystick.ledger_accounts.changed IS 'When that was last changed; null if it never was.';

-- ---------------------------------------------------------------- holds

CREATE VIEW tallystick.ledger_holds AS
SELECT
    ledger.name AS ledger,
    object.id,
    parsed.hold ->> 'kind' AS kind,
    object.account,
    parsed.hold ->> 'asset' AS asset,
    parsed.hold ->> 'bucket' AS bucket,
    (parsed.hold ->> 'amount')::bigint AS amount,
    (parsed.hold ->> 'remaining')::bigint AS remaining,
    coalesce((parsed.hold ->> 'taken')::bigint, 0) AS taken,
    object.state,
    nullif(parsed.hold ->> 'opened', '')::timestamptz AS opened,
    nullif(parsed.hold ->> 'expires', '')::timestamptz AS expires,
    coalesce(parsed.hold ->> 'reason', '') AS reason,
    coalesce(parsed.hold -> 'refs', '{}') AS refs
FROM tallystick.ledger
JOIN tallystick.object ON object.ledger = ledger.id AND object.kind = 'lock'
CROSS JOIN LATERAL (SELECT tallystick.readable_json(object.body) AS hold OFFSET 0) AS parsed;

COMMENT ON VIEW tallystick.ledger_holds IS
    'One row per hold, stake, bet or commitment: value that was set aside, and what became of it.';
COMMENT ON COLUMN tallystick.ledger_holds.ledger IS 'The name of the ledger.';
COMMENT ON COLUMN tallystick.ledger_holds.id IS 'The id of the event that opened it, or the name of a commitment.';
COMMENT ON COLUMN tallystick.ledger_holds.kind IS 'What it is: hold, stake, bet or commitment.';
COMMENT ON COLUMN tallystick.ledger_holds.account IS
    'Whose value it is. A filter on it, together with the ledger, uses the index.';
COMMENT ON COLUMN tallystick.ledger_holds.asset IS 'The asset, with its scale: USD/2 counts in hundredths.';
COMMENT ON COLUMN tallystick.ledger_holds.bucket IS 'The bucket in which it lies: held or bonded.';
COMMENT ON COLUMN tallystick.ledger_holds.amount IS 'All that was ever put in, in minor units.';
COMMENT ON COLUMN tallystick.ledger_holds.remaining IS 'What is still there, in minor units; it is open while this is above 0.';
COMMENT ON COLUMN tallystick.ledger_holds.taken IS 'What was paid out of it, in minor units; the rest went back.';
COMMENT ON COLUMN tallystick.ledger_holds.state IS 'active while it is open, then how it ended, such as captured or released.';
COMMENT ON COLUMN tallystick.ledger_holds.opened IS 'When it was opened.';
COMMENT ON COLUMN tallystick.ledger_holds.expires IS 'From when on it can no longer be captured; null if it does not expire.';
COMMENT ON COLUMN tallystick.ledger_holds.reason IS 'Why, in words; empty if no reason was given.';
COMMENT ON COLUMN tallystick.ledger_holds.refs IS 'Its causal references by name; an empty object if there are none.';

-- ---------------------------------------------------------------- outbox

-- Debezium's outbox event router looks for these columns by these names. The router itself reads a table's changes, not
-- a view: this is for connectors that poll, and for whoever wants the same messages.
CREATE VIEW tallystick.ledger_outbox AS
SELECT
    left(hash, 32)::uuid AS id,
    'ledger' AS aggregatetype,
    ledger AS aggregateid,
    type,
    event AS payload,
    time AT TIME ZONE 'UTC' AS timestamp,
    CASE WHEN refs ->> 'trace_id' ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        THEN 'traceparent=' || (refs ->> 'trace_id') END AS tracingspancontext,
    ledger,
    seq,
    period,
    chunk
FROM tallystick.ledger_transactions;

COMMENT ON VIEW tallystick.ledger_outbox IS
    'One message per event, in the form of Debezium''s outbox event router. To go on from where you were, keep the seq of '
    'each ledger and ask for: ledger = L AND seq > S AND chunk >= S - 255 ORDER BY seq. What was seen never changes.';
COMMENT ON COLUMN tallystick.ledger_outbox.id IS
    'The id of the message: half of the event''s hash. The same event always has the same, so duplicates can be told.';
COMMENT ON COLUMN tallystick.ledger_outbox.aggregatetype IS 'What the message is about, by which it is routed: ledger.';
COMMENT ON COLUMN tallystick.ledger_outbox.aggregateid IS
    'The name of the ledger, as the key of the message: what has the same key stays in order.';
COMMENT ON COLUMN tallystick.ledger_outbox.type IS 'The type of the event, such as transfer.';
COMMENT ON COLUMN tallystick.ledger_outbox.payload IS 'The whole event as JSON.';
COMMENT ON COLUMN tallystick.ledger_outbox.timestamp IS
    'When the event was recorded, in UTC, for the option table.field.event.timestamp (which takes no time zone).';
COMMENT ON COLUMN tallystick.ledger_outbox.tracingspancontext IS
    'The trace that the event belongs to, if its reference trace_id is a W3C traceparent; else null.';
COMMENT ON COLUMN tallystick.ledger_outbox.ledger IS 'The name of the ledger. A filter on it uses the index.';
COMMENT ON COLUMN tallystick.ledger_outbox.seq IS 'The number of the event in its ledger, from 0, without gaps.';
COMMENT ON COLUMN tallystick.ledger_outbox.period IS
    'The month of recording, such as 202601. A filter on it reads that month alone.';
COMMENT ON COLUMN tallystick.ledger_outbox.chunk IS
    'The number of the first of the events that are stored in one row with this one, 255 less than its own at most. '
    'A filter on it, together with the ledger, uses the index.';
