-- What the runner of migrations says, by name.

-- name: begin
-- Whatever the connection's defaults: who waited for the lock must see what the other one did meanwhile.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE;

-- name: prepare
-- For this transaction alone. A statement may take as long as it needs, but waits only so long for others, because all
-- who come after it would wait behind it.
SELECT set_config('search_path', 'pg_catalog', true), set_config('client_min_messages', 'warning', true),
    set_config('standard_conforming_strings', 'on', true), set_config('statement_timeout', '0', true),
    set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', %(milliseconds)s, true);

-- name: lock
-- One runner at a time in a database.
SELECT pg_advisory_xact_lock(hashtextextended('tallystick.migration', 0));

-- name: make_schema
-- Someone who may not make schemas may be given one.
DO $$
BEGIN
    IF to_regnamespace('tallystick') IS NULL THEN
        CREATE SCHEMA tallystick;
    END IF;
END $$;

-- name: distrust_owner
-- Somebody who may make schemas could have made this one, with tables that act in the name of whoever touches them.
DO $$
DECLARE
    owner name;
BEGIN
    SELECT rolname INTO owner FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
    WHERE nspname = 'tallystick' AND rolname <> current_user AND rolcanlogin AND NOT rolsuper;
    IF owner IS NOT NULL THEN
        RAISE EXCEPTION 'the schema tallystick belongs to %, who is somebody else: migrate as him, or give it to a role '
            'that cannot log in', owner USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- name: become_owner
-- Whoever runs a migration, what it makes belongs to the schema's owner.
SELECT set_config('role', pg_get_userbyid(nspowner), true) FROM pg_namespace
WHERE nspname = 'tallystick' AND pg_get_userbyid(nspowner) <> current_user AND pg_has_role(nspowner, 'MEMBER');

-- name: make_table
CREATE TABLE IF NOT EXISTS tallystick.migration (
    number integer PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
);

-- name: applied
SELECT number, name, sha256, to_char(applied AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
FROM tallystick.migration ORDER BY number;

-- name: roles_due
-- A table that the writer may not read, though the roles were made for this schema: they may read all that stood here then.
SELECT FROM pg_catalog.pg_class
WHERE relnamespace = to_regnamespace('tallystick') AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    AND has_schema_privilege(to_regrole('tallystick_writer')::oid, relnamespace, 'USAGE')
    AND NOT has_table_privilege(to_regrole('tallystick_writer')::oid, oid, 'SELECT')
LIMIT 1;

-- name: add
INSERT INTO tallystick.migration (number, name, sha256) VALUES (%(number)s, %(name)s, %(sha256)s);
