-- Partitions, and how the database itself defends the books against any client, this program included. No rule of the
-- ledger depends on what stands here: the kernel has decided before anything is written.

-- ---------------------------------------------------------------- what was written stays

CREATE FUNCTION tallystick.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER event_is_never_changed BEFORE UPDATE OR DELETE ON tallystick.event
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER event_is_never_truncated BEFORE TRUNCATE ON tallystick.event
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE OR DELETE ON tallystick.entry
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER entry_is_never_truncated BEFORE TRUNCATE ON tallystick.entry
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER idempotency_is_never_changed BEFORE UPDATE OR DELETE ON tallystick.idempotency
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER idempotency_is_never_truncated BEFORE TRUNCATE ON tallystick.idempotency
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER balance_is_never_changed BEFORE UPDATE OR DELETE ON tallystick.balance
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER balance_is_never_truncated BEFORE TRUNCATE ON tallystick.balance
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER head_is_never_deleted BEFORE DELETE ON tallystick.head
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER head_is_never_truncated BEFORE TRUNCATE ON tallystick.head
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();

-- ---------------------------------------------------------------- the head only moves on

CREATE FUNCTION tallystick.move_head() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF new.seq IS NULL THEN
        RETURN new;  -- a writer found that the head is elsewhere, and has the table refuse all that it sends
    END IF;
    IF new.ledger <> old.ledger OR new.seq <= old.seq OR new.balances < old.balances OR new.time < old.time
        OR new.period < old.period THEN
        RAISE EXCEPTION 'the head of ledger % cannot move from event % to event %', old.ledger, old.seq, new.seq
            USING ERRCODE = 'restrict_violation';
    END IF;
    new.since := old.seq;
    new.moved_by := pg_current_xact_id();
    RETURN new;
END $$;
CREATE TRIGGER head_moves_on BEFORE UPDATE ON tallystick.head
    FOR EACH ROW EXECUTE FUNCTION tallystick.move_head();

CREATE FUNCTION tallystick.begin_head() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF new.seq <> 0 OR new.balances <> 0 OR new.since <> 0 OR new.moved_by IS NOT NULL OR new.period <> 0
        OR new.time <> '' OR new.hash <> repeat('0', 64) THEN
        RAISE EXCEPTION 'a ledger begins at event 0' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER head_begins_at_nothing BEFORE INSERT ON tallystick.head
    FOR EACH ROW EXECUTE FUNCTION tallystick.begin_head();

-- When the transaction ends, the events that the head moved past must be there and lead to its hash. That they follow one
-- another from where the head was, `check_events` has seen; so the last of them is enough here.
CREATE FUNCTION tallystick.check_head() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    led boolean;
BEGIN
    IF new.seq = new.since + 1 THEN  -- one event, as often as not: its key is known
        SELECT hash = new.hash INTO led FROM tallystick.event
        WHERE ledger = new.ledger AND period = new.period AND seq = new.since;
    ELSE
        SELECT hash = new.hash INTO led FROM tallystick.event
        WHERE ledger = new.ledger AND period = new.period AND seq >= greatest(new.since, new.seq - 256)
          AND seq < new.seq AND seq + count = new.seq;
    END IF;
    IF led IS NOT TRUE THEN
        RAISE EXCEPTION 'the events of ledger % do not lead to its head, event %', new.ledger, new.seq
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER head_is_led_to AFTER UPDATE ON tallystick.head DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION tallystick.check_head();

-- ---------------------------------------------------------------- what is appended belongs to the head's move

-- Events are appended in order and without a gap: each row begins where the one before ends, the first where the head was.
CREATE FUNCTION tallystick.check_events() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added record;
    behind boolean;
BEGIN
    FOR added IN
        SELECT row.ledger, min(row.seq) AS first, bool_and(
                row.follows AND row.period = head.period AND row.seq >= head.since AND row.seq + row.count <= head.seq
            ) AS behind, min(head.since) AS since, min(head.period) AS period
        FROM (
            SELECT ledger, period, seq, count,
                seq = lag(seq + count, 1, seq) OVER (PARTITION BY ledger ORDER BY seq) AS follows
            FROM fresh
        ) AS row
        LEFT JOIN tallystick.head ON head.ledger = row.ledger AND head.moved_by = pg_current_xact_id()
        GROUP BY row.ledger
    LOOP
        behind := added.behind;
        IF behind AND added.first > added.since THEN
            SELECT true INTO behind FROM tallystick.event
            WHERE ledger = added.ledger AND period = added.period AND seq >= greatest(added.since, added.first - 256)
              AND seq < added.first AND seq + count = added.first;
        END IF;
        IF behind IS NOT TRUE THEN
            RAISE EXCEPTION 'events are appended only behind the head, by the transaction that moves it'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Balances are counted within their asset without a gap, so that `check_entries` knows which ids there are.
CREATE FUNCTION tallystick.count_balances() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added record;
BEGIN
    FOR added IN
        SELECT ledger, id >> 40 AS asset, min(id & 1099511627775) AS first, max(id & 1099511627775) AS last, count(*) AS count
        FROM fresh GROUP BY ledger, id >> 40 ORDER BY ledger, asset
    LOOP
        UPDATE tallystick.asset SET balances = balances + added.count
        WHERE ledger = added.ledger AND number = added.asset AND balances = added.first - 1
          AND added.count = added.last - added.first + 1;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'balances are numbered one after the other within their asset'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER balances_are_counted AFTER INSERT ON tallystick.balance REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.count_balances();

CREATE FUNCTION tallystick.check_entries() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
BEGIN
    SELECT CASE WHEN added.torn THEN 'the entries of each transaction sum to zero in each asset'
                ELSE 'entries are appended only behind the head, by the transaction that moves it, to its balances' END
    INTO problem
    FROM (
        SELECT ledger, asset, min(seq) AS first, max(seq) AS last, min(low) AS low, max(high) AS high,
            min(least_id) AS least_id, max(greatest_id) AS greatest_id, bool_or(total <> 0) AS torn
        FROM (
            SELECT ledger, seq, balance >> 40 AS asset, min(period) AS low, max(period) AS high,
                min(balance & 1099511627775) AS least_id, max(balance & 1099511627775) AS greatest_id,
                sum(amount) AS total
            FROM fresh GROUP BY ledger, seq, balance >> 40
        ) AS sums
        GROUP BY ledger, asset
    ) AS added
    LEFT JOIN tallystick.head ON head.ledger = added.ledger AND head.moved_by = pg_current_xact_id()
    LEFT JOIN tallystick.asset ON asset.ledger = added.ledger AND asset.number = added.asset
    WHERE (NOT added.torn AND added.first >= head.since AND added.last < head.seq AND added.low = head.period
           AND added.high = head.period AND added.least_id > 0 AND added.greatest_id <= asset.balances) IS NOT TRUE
    LIMIT 1;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_follow_the_head AFTER INSERT ON tallystick.event REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.check_events();
CREATE TRIGGER entries_sum_to_zero AFTER INSERT ON tallystick.entry REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.check_entries();

-- ---------------------------------------------------------------- partitions

-- Which tables lack the partition of a period (such as 202601), and did not have it moved to the archive.
CREATE FUNCTION tallystick.missing_partitions(period integer) RETURNS text[]
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(
        SELECT stem FROM unnest(ARRAY['event', 'entry', 'idempotency', 'reference']) AS stem
        -- Asked of the table itself: what to_regclass remembers does not change while this session waits for another.
        WHERE NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'tallystick'::regnamespace
                          AND relname = format('%s_%s', stem, to_char($1, 'FM000000')))
          AND NOT EXISTS (SELECT FROM tallystick.archive WHERE archive.period = $1 AND archive.kind = stem)
    )
$$;

-- Makes the partitions of a period where they are missing; returns whether any was. Writers may call this, though they
-- may not make tables: it takes nothing but a month, and locks out nobody who writes meanwhile. Who finds nothing
-- missing waits for nobody.
CREATE FUNCTION tallystick.make_partitions(period integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    stem text;
    leaf text;
    made boolean := false;
BEGIN
    IF period IS NULL OR period NOT BETWEEN 101 AND 999912 OR period % 100 NOT BETWEEN 1 AND 12 THEN
        RAISE EXCEPTION '% is no period such as 202601', period USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF tallystick.missing_partitions(period) = '{}' THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('tallystick.make_partitions'));
    FOREACH stem IN ARRAY tallystick.missing_partitions(period) LOOP
        leaf := format('%s_%s', stem, to_char(period, 'FM000000'));
        EXECUTE format('CREATE TABLE tallystick.%I (LIKE tallystick.%I INCLUDING ALL)', leaf, stem);
        IF stem = 'event' THEN
            -- Rows fit into a page as they are; only an event of more than 8 KB is moved out, uncompressed.
            EXECUTE format('ALTER TABLE tallystick.%I ADD PRIMARY KEY (ledger, seq), '
                'ALTER body SET STORAGE EXTERNAL, SET (toast_tuple_target = 8160)', leaf);
            EXECUTE format('CREATE TRIGGER events_follow_the_head AFTER INSERT ON tallystick.%I REFERENCING NEW TABLE '
                'AS fresh FOR EACH STATEMENT EXECUTE FUNCTION tallystick.check_events()', leaf);
        ELSIF stem = 'entry' THEN
            EXECUTE format('CREATE UNIQUE INDEX %I ON tallystick.%I '
                '(ledger, ((seq >> 15)::integer), balance, version)', leaf || '_version', leaf);
            EXECUTE format('CREATE TRIGGER entries_sum_to_zero AFTER INSERT ON tallystick.%I REFERENCING NEW TABLE '
                'AS fresh FOR EACH STATEMENT EXECUTE FUNCTION tallystick.check_entries()', leaf);
        ELSIF stem = 'idempotency' THEN
            EXECUTE format('CREATE UNIQUE INDEX %I ON tallystick.%I '
                '(ledger, ((seq >> 18)::integer), number, twin)', leaf || '_number', leaf);
        ELSE
            EXECUTE format('CREATE UNIQUE INDEX %I ON tallystick.%I '
                '(ledger, ((seq >> 18)::integer), name, value, seq)', leaf || '_value', leaf);
        END IF;
        IF stem <> 'reference' THEN
            EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON tallystick.%I '
                'FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change()', stem || '_is_never_truncated', leaf);
        END IF;
        EXECUTE format('ALTER TABLE tallystick.%I ATTACH PARTITION tallystick.%I FOR VALUES FROM (%s) TO (%s)',
            stem, leaf, period, period + 1);
        made := true;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION tallystick.make_partitions(integer), tallystick.missing_partitions(integer) FROM PUBLIC;
