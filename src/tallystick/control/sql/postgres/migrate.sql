-- How the schema of the operator's records comes into a database, by name.

-- name: applied
SELECT number, name, sha256 FROM tallystick_service.migration ORDER BY number;

-- name: prepare
-- For this transaction alone. A statement may take as long as it needs, but waits only so long for others.
SELECT set_config('search_path', 'pg_catalog', true), set_config('client_min_messages', 'warning', true),
    set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),
    set_config('lock_timeout', %(milliseconds)s, true);

-- name: lock
-- One runner at a time in a database: the second one waits, and then finds nothing left to do.
SELECT pg_advisory_xact_lock(hashtextextended('tallystick_service.migration', 0));

-- name: make_schema
-- Someone who may not make schemas may be given one.
DO $$
BEGIN
    IF to_regnamespace('tallystick_service') IS NULL THEN
        CREATE SCHEMA tallystick_service;
    END IF;
END $$;

-- name: distrust_owner
-- Somebody who may make schemas could have made this one, with tables that act in the name of whoever touches them.
DO $$
DECLARE
    owner name;
BEGIN
    SELECT rolname INTO owner FROM pg_namespace JOIN pg_roles ON pg_roles.oid = nspowner
    WHERE nspname = 'tallystick_service' AND rolname <> current_user AND rolcanlogin AND NOT rolsuper;
    IF owner IS NOT NULL THEN
        RAISE EXCEPTION 'the schema tallystick_service belongs to %, who is somebody else: open it as him first, or give '
            'it to a role that cannot log in', owner USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- name: become_owner
-- Whoever runs a migration, what it makes belongs to the schema's owner.
SELECT set_config('role', pg_get_userbyid(nspowner), true) FROM pg_namespace
WHERE nspname = 'tallystick_service' AND pg_get_userbyid(nspowner) <> current_user
    AND pg_has_role(nspowner, 'MEMBER');

-- name: make_table
CREATE TABLE IF NOT EXISTS tallystick_service.migration (
    number integer PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    sha256 text COLLATE "C" NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
);

-- name: add
INSERT INTO tallystick_service.migration (number, name, sha256) VALUES (%(number)s, %(name)s, %(sha256)s);
