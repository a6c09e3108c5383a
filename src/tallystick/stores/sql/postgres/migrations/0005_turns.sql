-- Whoever waits for a ledger takes a lock on its row first, which keeps those who wait in order. To be allowed to lock a row is
-- to be allowed to update it: the guard sees to it that nobody does.

CREATE TRIGGER ledger_is_never_changed BEFORE UPDATE ON tallystick.ledger
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();

DO $$
BEGIN
    IF to_regrole('tallystick_writer') IS NOT NULL THEN
        GRANT UPDATE (name) ON tallystick.ledger TO tallystick_writer;
    END IF;
END $$;

-- What is kept for speed does not get smaller by compression, which takes longer than to write it.
ALTER TABLE tallystick.cache ALTER COLUMN body SET STORAGE EXTERNAL;
