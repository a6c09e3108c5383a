-- What the operator's records are read and written with in an SQLite file, by name.

-- ---------------------------------------------------------------- keys

-- name: add_key
INSERT INTO api_key (id, subject, body) VALUES (:id, :subject, :body) ON CONFLICT DO NOTHING RETURNING id;

-- name: replace_key
UPDATE api_key SET subject = :subject, body = :body WHERE id = :id RETURNING id;

-- name: count_key_change
UPDATE api_key_version SET version = version + 1 RETURNING version;

-- name: keys_version
SELECT version FROM api_key_version;

-- name: key
SELECT body FROM api_key WHERE id = :id;

-- name: keys
SELECT body FROM api_key WHERE id > :after ORDER BY id LIMIT :limit;

-- name: keys_of_subject
SELECT body FROM api_key WHERE subject = :subject AND id > :after ORDER BY id LIMIT :limit;

-- ---------------------------------------------------------------- endpoints and deliveries

-- name: add_endpoint
INSERT INTO endpoint (id, ledger, body) VALUES (:id, :ledger, :body) ON CONFLICT DO NOTHING RETURNING id;

-- name: add_progress
INSERT INTO progress (endpoint, cursor) VALUES (:id, :start) RETURNING cursor;

-- name: replace_endpoint
UPDATE endpoint SET ledger = :ledger, body = :body WHERE id = :id RETURNING id;

-- name: remove_progress
-- First of the three: whoever settles locks this row before any other of the endpoint.
DELETE FROM progress WHERE endpoint = :id;

-- name: remove_deliveries
DELETE FROM delivery WHERE endpoint = :id;

-- name: remove_endpoint
DELETE FROM endpoint WHERE id = :id;

-- name: endpoint
SELECT body FROM endpoint WHERE id = :id;

-- name: endpoints
SELECT body FROM endpoint WHERE id > :after ORDER BY id LIMIT :limit;

-- name: endpoints_of_ledger
SELECT body FROM endpoint WHERE ledger = :ledger AND id > :after ORDER BY id LIMIT :limit;

-- name: cursor
SELECT cursor FROM progress WHERE endpoint = :endpoint;

-- name: settle_cursor
-- No row: there is no such endpoint.
UPDATE progress SET cursor = coalesce(:cursor, cursor) WHERE endpoint = :endpoint RETURNING cursor;

-- name: settle_accepted
DELETE FROM delivery WHERE endpoint = ? AND seq = ?;

-- name: settle_delivery
INSERT INTO delivery (endpoint, seq, state, attempts, due, problem, lanes, redelivery) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (endpoint, seq) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, due = excluded.due,
    problem = excluded.problem, lanes = excluded.lanes, redelivery = excluded.redelivery;

-- name: settle_attempt
-- What is settled again, because nobody knew whether it was, is there once.
INSERT INTO attempt (endpoint, seq, number, time, status, problem, milliseconds) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: deliveries
SELECT endpoint, seq, state, attempts, due, problem, lanes, redelivery FROM delivery
WHERE endpoint = :endpoint AND seq > :after ORDER BY seq LIMIT :limit;

-- name: deliveries_in_state
SELECT endpoint, seq, state, attempts, due, problem, lanes, redelivery FROM delivery
WHERE endpoint = :endpoint AND seq > :after AND state = :state ORDER BY seq LIMIT :limit;

-- name: attempts
SELECT endpoint, seq, number, time, status, problem, milliseconds FROM attempt
WHERE endpoint = :endpoint AND time < :before ORDER BY time DESC, seq DESC, number DESC LIMIT :limit;

-- name: attempts_of_event
SELECT endpoint, seq, number, time, status, problem, milliseconds FROM attempt
WHERE endpoint = :endpoint AND seq = :seq AND time < :before ORDER BY time DESC, number DESC LIMIT :limit;

-- name: endpoints_tried
-- Every endpoint in the log, also one that was removed: from one to the next, without reading the tries between.
WITH RECURSIVE tried (endpoint) AS (
    SELECT min(endpoint) FROM attempt
    UNION ALL
    SELECT (SELECT min(attempt.endpoint) FROM attempt WHERE attempt.endpoint > tried.endpoint) FROM tried
    WHERE tried.endpoint IS NOT NULL
)
SELECT endpoint FROM tried WHERE endpoint IS NOT NULL;

-- name: prune_attempts
-- The oldest tries of an endpoint: so many, and those of the same time as the last of them.
DELETE FROM attempt WHERE endpoint = :endpoint AND time < :before AND time <= coalesce(
    (SELECT oldest.time FROM attempt AS oldest WHERE oldest.endpoint = :endpoint
        ORDER BY oldest.time LIMIT 1 OFFSET :count),
    :before);

-- ---------------------------------------------------------------- leases and jobs

-- name: held_by_another
SELECT name FROM lease WHERE name = :name AND holder NOT IN ('', :holder) AND until > :now;

-- name: acquire
-- A holder that renews keeps its token; whoever takes the lease anew gets the next one, also its last holder.
INSERT INTO lease (name, holder, until, token) VALUES (:name, :holder, :until, 1)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until,
    token = token + CASE WHEN holder = excluded.holder AND until > :now THEN 0 ELSE 1 END
WHERE holder IN ('', excluded.holder) OR until <= :now
RETURNING name, holder, until, token;

-- name: is_held
SELECT name FROM lease WHERE name = :name AND holder = :holder AND token = :token AND until > :now;

-- name: release
UPDATE lease SET holder = '', until = :now WHERE name = :name AND holder = :holder AND token = :token;

-- name: leases
SELECT name, holder, until, token FROM lease ORDER BY name;

-- name: keep_run
INSERT INTO run (job, ledger, started, body) VALUES (:job, :ledger, :started, :body)
ON CONFLICT (job, ledger, started) DO UPDATE SET body = excluded.body RETURNING started;

-- name: runs
SELECT body FROM run WHERE :job IN ('', job) AND :ledger IN ('', ledger)
ORDER BY started DESC, job DESC, ledger DESC LIMIT :limit;

-- name: runs_of_one
SELECT body FROM run WHERE job = :job AND ledger = :ledger ORDER BY started DESC LIMIT :limit;

-- name: last_runs
SELECT body FROM run JOIN (SELECT job, ledger, max(started) AS started FROM run GROUP BY job, ledger) AS newest
    USING (job, ledger, started)
ORDER BY job, ledger;

-- name: prune_runs
DELETE FROM run WHERE started < :before AND started < (
    SELECT max(newer.started) FROM run AS newer WHERE newer.job = run.job AND newer.ledger = run.ledger);

-- name: keep_report
INSERT INTO report (ledger, time, ok, body) VALUES (:ledger, :time, :ok, :body) RETURNING id;

-- name: reports
SELECT id, ledger, time, ok, body FROM report WHERE id < :before ORDER BY id DESC LIMIT :limit;

-- name: reports_of_ledger
SELECT id, ledger, time, ok, body FROM report WHERE ledger = :ledger AND id < :before ORDER BY id DESC LIMIT :limit;

-- name: report
SELECT id, ledger, time, ok, body FROM report WHERE id = :id;

-- ---------------------------------------------------------------- the rest

-- name: secret
SELECT value FROM secret WHERE name = :name;

-- name: make_secret
INSERT INTO secret (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING;

-- ---------------------------------------------------------------- the file

-- name: schema
SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_stat%' ESCAPE '\' ORDER BY name;
