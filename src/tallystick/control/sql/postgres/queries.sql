-- What the operator's records are read and written with in PostgreSQL, by name.

-- ---------------------------------------------------------------- keys

-- name: add_key
INSERT INTO tallystick_service.api_key (id, subject, body) VALUES (%(id)s, %(subject)s, %(body)s)
    ON CONFLICT DO NOTHING RETURNING id;

-- name: replace_key
UPDATE tallystick_service.api_key SET subject = %(subject)s, body = %(body)s WHERE id = %(id)s RETURNING id;

-- name: count_key_change
UPDATE tallystick_service.api_key_version SET version = version + 1 RETURNING version;

-- name: keys_version
SELECT version FROM tallystick_service.api_key_version;

-- name: key
SELECT body FROM tallystick_service.api_key WHERE id = %(id)s;

-- name: keys
SELECT body FROM tallystick_service.api_key WHERE id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: keys_of_subject
SELECT body FROM tallystick_service.api_key WHERE subject = %(subject)s AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- ---------------------------------------------------------------- endpoints and deliveries

-- name: add_endpoint
INSERT INTO tallystick_service.endpoint (id, ledger, body) VALUES (%(id)s, %(ledger)s, %(body)s)
    ON CONFLICT DO NOTHING RETURNING id;

-- name: add_progress
INSERT INTO tallystick_service.progress (endpoint, cursor) VALUES (%(id)s, %(start)s) RETURNING cursor;

-- name: replace_endpoint
UPDATE tallystick_service.endpoint SET ledger = %(ledger)s, body = %(body)s WHERE id = %(id)s RETURNING id;

-- name: remove_progress
-- First of the three: whoever settles locks this row before any other of the endpoint.
DELETE FROM tallystick_service.progress WHERE endpoint = %(id)s;

-- name: remove_deliveries
DELETE FROM tallystick_service.delivery WHERE endpoint = %(id)s;

-- name: remove_endpoint
DELETE FROM tallystick_service.endpoint WHERE id = %(id)s;

-- name: endpoint
SELECT body FROM tallystick_service.endpoint WHERE id = %(id)s;

-- name: endpoints
SELECT body FROM tallystick_service.endpoint WHERE id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: endpoints_of_ledger
SELECT body FROM tallystick_service.endpoint WHERE ledger = %(ledger)s AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: cursor
SELECT cursor FROM tallystick_service.progress WHERE endpoint = %(endpoint)s;

-- name: settle
-- All of it in one statement, which is one commit and one round trip. `held` locks the lease, so that nobody takes it
-- over before this is kept, then `moved` the endpoint, so that those who settle it do so one after the other; without a
-- row of it nothing is kept. What is settled again, because nobody knew whether it was, is there once.
WITH held AS MATERIALIZED (
    SELECT name FROM tallystick_service.lease
    WHERE name = %(name)s::text AND holder = %(holder)s::text AND token = %(token)s::bigint
        AND until > clock_timestamp()
    FOR SHARE
), moved AS (
    UPDATE tallystick_service.progress SET cursor = coalesce(%(cursor)s::bigint, cursor)
    WHERE endpoint = %(endpoint)s::text AND (%(name)s::text IS NULL OR EXISTS (SELECT FROM held))
    RETURNING endpoint
), accepted AS (
    DELETE FROM tallystick_service.delivery USING moved
    WHERE delivery.endpoint = moved.endpoint AND seq = ANY (%(accepted)s::bigint[])
), changed AS (
    INSERT INTO tallystick_service.delivery (endpoint, seq, state, attempts, due, problem, lanes, redelivery)
    SELECT moved.endpoint, given.seq, coalesce(given.state, 'waiting'), coalesce(given.attempts, 0),
        coalesce(given.due, ''), coalesce(given.problem, ''), coalesce(given.lanes, '[]'),
        coalesce(given.redelivery, false)
    FROM moved, json_to_recordset(%(deliveries)s::json) AS given
        (seq bigint, state text, attempts bigint, due text, problem text, lanes text, redelivery boolean)
    ON CONFLICT (endpoint, seq) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, due = excluded.due,
        problem = excluded.problem, lanes = excluded.lanes, redelivery = excluded.redelivery
), tried AS (
    INSERT INTO tallystick_service.attempt (endpoint, seq, number, time, status, problem, milliseconds)
    SELECT moved.endpoint, given.seq, given.number, given.time, coalesce(given.status, 0), coalesce(given.problem, ''),
        coalesce(given.milliseconds, 0)
    FROM moved, json_to_recordset(%(attempts)s::json) AS given
        (seq bigint, number bigint, time text, status bigint, problem text, milliseconds bigint)
    ON CONFLICT DO NOTHING
)
SELECT endpoint FROM moved;

-- name: deliveries
SELECT endpoint, seq, state, attempts, due, problem, lanes, redelivery FROM tallystick_service.delivery
WHERE endpoint = %(endpoint)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s;

-- name: deliveries_in_state
SELECT endpoint, seq, state, attempts, due, problem, lanes, redelivery FROM tallystick_service.delivery
WHERE endpoint = %(endpoint)s AND seq > %(after)s AND state = %(state)s ORDER BY seq LIMIT %(limit)s;

-- name: attempts
SELECT endpoint, seq, number, time, status, problem, milliseconds FROM tallystick_service.attempt
WHERE endpoint = %(endpoint)s AND time < %(before)s ORDER BY time DESC, seq DESC, number DESC LIMIT %(limit)s;

-- name: attempts_of_event
SELECT endpoint, seq, number, time, status, problem, milliseconds FROM tallystick_service.attempt
WHERE endpoint = %(endpoint)s AND seq = %(seq)s AND time < %(before)s ORDER BY time DESC, number DESC LIMIT %(limit)s;

-- name: endpoints_tried
-- Every endpoint in the log, also one that was removed: from one to the next, without reading the tries between.
WITH RECURSIVE tried (endpoint) AS (
    SELECT min(endpoint) FROM tallystick_service.attempt
    UNION ALL
    SELECT (SELECT min(attempt.endpoint) FROM tallystick_service.attempt
        WHERE attempt.endpoint > tried.endpoint) FROM tried
    WHERE tried.endpoint IS NOT NULL
)
SELECT endpoint FROM tried WHERE endpoint IS NOT NULL;

-- name: prune_attempts
-- The oldest tries of an endpoint: so many, and those of the same time as the last of them.
DELETE FROM tallystick_service.attempt WHERE endpoint = %(endpoint)s AND time < %(before)s AND time <= coalesce(
    (SELECT oldest.time FROM tallystick_service.attempt AS oldest WHERE oldest.endpoint = %(endpoint)s
        ORDER BY oldest.time LIMIT 1 OFFSET %(count)s),
    %(before)s);

-- ---------------------------------------------------------------- leases and jobs

-- name: held_by_another
SELECT name FROM tallystick_service.lease
WHERE name = %(name)s AND holder NOT IN ('', %(holder)s) AND until > clock_timestamp();

-- name: acquire
-- A holder that renews keeps its token; whoever takes the lease anew gets the next one, also its last holder. The clock
-- is read again after a wait for the row, so that a renewal that came first is seen.
INSERT INTO tallystick_service.lease AS lease (name, holder, until, token)
VALUES (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s), 1)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,
    until = clock_timestamp() + make_interval(secs => %(seconds)s),
    token = lease.token + CASE WHEN lease.holder = excluded.holder AND lease.until > clock_timestamp() THEN 0 ELSE 1 END
WHERE lease.holder IN ('', excluded.holder) OR lease.until <= clock_timestamp()
RETURNING name, holder, to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), token;

-- name: release
UPDATE tallystick_service.lease SET holder = '', until = clock_timestamp()
WHERE name = %(name)s AND holder = %(holder)s AND token = %(token)s;

-- name: leases
SELECT name, holder, to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), token
FROM tallystick_service.lease ORDER BY name;

-- name: keep_run
INSERT INTO tallystick_service.run (job, ledger, started, body) VALUES (%(job)s, %(ledger)s, %(started)s, %(body)s)
ON CONFLICT (job, ledger, started) DO UPDATE SET body = excluded.body RETURNING started;

-- name: runs
SELECT body FROM tallystick_service.run WHERE %(job)s IN ('', job) AND %(ledger)s IN ('', ledger)
ORDER BY started DESC, job DESC, ledger DESC LIMIT %(limit)s;

-- name: runs_of_one
SELECT body FROM tallystick_service.run
    WHERE job = %(job)s AND ledger = %(ledger)s ORDER BY started DESC LIMIT %(limit)s;

-- name: last_runs
SELECT body FROM tallystick_service.run
    JOIN (SELECT job, ledger, max(started) AS started FROM tallystick_service.run GROUP BY job, ledger) AS newest
    USING (job, ledger, started)
ORDER BY job, ledger;

-- name: prune_runs
DELETE FROM tallystick_service.run WHERE started < %(before)s AND started < (
    SELECT max(newer.started) FROM tallystick_service.run AS newer
        WHERE newer.job = run.job AND newer.ledger = run.ledger);

-- name: keep_report
INSERT INTO tallystick_service.report (ledger, time, ok, body)
    VALUES (%(ledger)s, %(time)s, %(ok)s, %(body)s) RETURNING id;

-- name: reports
SELECT id, ledger, time, ok, body FROM tallystick_service.report WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s;

-- name: reports_of_ledger
SELECT id, ledger, time, ok, body FROM tallystick_service.report
    WHERE ledger = %(ledger)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s;

-- name: report
SELECT id, ledger, time, ok, body FROM tallystick_service.report WHERE id = %(id)s;

-- ---------------------------------------------------------------- the rest

-- name: secret
SELECT value FROM tallystick_service.secret WHERE name = %(name)s;

-- name: make_secret
INSERT INTO tallystick_service.secret (name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING;
