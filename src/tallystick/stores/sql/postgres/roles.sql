-- Four roles without a login: who owns the tables, who posts, who analyses, who audits. `tally migrate --roles` runs this;
-- it may be run again at any time, and is to be run again after a migration. Roles belong to the whole server, what they
-- may do to this database. Give them to logins of your own:
--
--     CREATE ROLE shop LOGIN PASSWORD '...';
--     GRANT tallystick_writer TO shop;
--
-- tallystick_owner    owns the schema and everything in it; for migrations, archive and rebuild
-- tallystick_writer   posts: may read all and append, changes only what is derived, and erases erasable texts
-- tallystick_reader   sees the views ledger_...
-- tallystick_auditor  sees everything

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['owner', 'writer', 'reader', 'auditor'] LOOP
        name := 'tallystick_' || name;
        BEGIN
            IF to_regrole(name) IS NULL THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- somebody else has just made it, for another database
        END;
    END LOOP;
    -- Who is no superuser must be a member of the owner to hand over to it, and to migrate later.
    BEGIN
        IF NOT pg_has_role('tallystick_owner',
                CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END) THEN
            EXECUTE format('GRANT tallystick_owner TO %I', current_user);
        END IF;
    EXCEPTION WHEN unique_violation THEN
        NULL;
    END;
END $$;

-- ---------------------------------------------------------------- everything belongs to the owner

ALTER SCHEMA tallystick OWNER TO tallystick_owner;

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT format('ALTER TABLE %s OWNER TO tallystick_owner', oid::regclass) AS command FROM pg_class
        WHERE relnamespace = 'tallystick'::regnamespace AND relkind IN ('r', 'p', 'v')
          AND relowner <> 'tallystick_owner'::regrole
        UNION ALL
        SELECT format('ALTER FUNCTION %s OWNER TO tallystick_owner', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = 'tallystick'::regnamespace AND proowner <> 'tallystick_owner'::regrole
    LOOP
        EXECUTE one.command;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- nobody may do anything

REVOKE ALL ON SCHEMA tallystick FROM PUBLIC, tallystick_writer, tallystick_reader, tallystick_auditor;
REVOKE ALL ON ALL TABLES IN SCHEMA tallystick FROM PUBLIC, tallystick_writer, tallystick_reader, tallystick_auditor;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA tallystick FROM PUBLIC, tallystick_writer, tallystick_reader, tallystick_auditor;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tallystick FROM PUBLIC, tallystick_writer, tallystick_reader, tallystick_auditor;

-- What the owner makes later, such as the partitions of a month, is nobody else's, but for the auditor to see.
ALTER DEFAULT PRIVILEGES FOR ROLE tallystick_owner REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE tallystick_owner IN SCHEMA tallystick GRANT SELECT ON TABLES TO tallystick_auditor;

-- ---------------------------------------------------------------- but for this

GRANT USAGE ON SCHEMA tallystick TO tallystick_writer, tallystick_reader, tallystick_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA tallystick TO tallystick_auditor;
GRANT EXECUTE ON FUNCTION tallystick.readable_json(text), tallystick.parts_of(integer, bigint, bigint)
    TO tallystick_writer, tallystick_reader, tallystick_auditor;

-- Partitions are reached through their parents alone, whose guards look at each statement as a whole.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT format('GRANT SELECT ON %s TO tallystick_writer', oid::regclass) AS command FROM pg_class
        WHERE relnamespace = 'tallystick'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
        UNION ALL
        SELECT format('GRANT SELECT ON %s TO tallystick_reader', oid::regclass) FROM pg_class
        WHERE relnamespace = 'tallystick'::regnamespace AND relkind = 'v'
    LOOP
        EXECUTE one.command;
    END LOOP;
END $$;

GRANT INSERT ON tallystick.event, tallystick.entry, tallystick.idempotency, tallystick.reference,
    tallystick.balance, tallystick.backdated, tallystick.stretch, tallystick.object, tallystick.snapshot,
    tallystick.snapshot_point, tallystick.cache, tallystick.opening,
    tallystick.log_tile, tallystick.checkpoint TO tallystick_writer;
GRANT UPDATE (hashes) ON tallystick.log_tile TO tallystick_writer;
GRANT DELETE ON tallystick.opening TO tallystick_writer;
-- To update a ledger's row is refused by its guard; the right is needed to lock it.
GRANT INSERT (name), UPDATE (name) ON tallystick.ledger TO tallystick_writer;
GRANT INSERT (ledger, number, asset) ON tallystick.asset TO tallystick_writer;
GRANT INSERT (ledger), UPDATE (seq, hash, time, balances, period) ON tallystick.head TO tallystick_writer;
GRANT UPDATE (seq, place, account, state, expires, body) ON tallystick.object TO tallystick_writer;
GRANT UPDATE (body) ON tallystick.cache TO tallystick_writer;
GRANT EXECUTE ON FUNCTION tallystick.make_partitions(integer) TO tallystick_writer;
