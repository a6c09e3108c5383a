-- The transparency log over the events: the Merkle tree in tiles, and what was signed of it.

-- A row for each tile of up to 256 hashes of 32 bytes. The last one of a level grows.
CREATE TABLE tallystick.log_tile (
    ledger integer NOT NULL REFERENCES tallystick.ledger,
    level integer NOT NULL CHECK (level BETWEEN 0 AND 63),
    number bigint NOT NULL CHECK (number >= 0),
    hashes bytea NOT NULL CHECK (octet_length(hashes) BETWEEN 32 AND 8192 AND octet_length(hashes) % 32 = 0),
    PRIMARY KEY (ledger, level, number)
);
ALTER TABLE tallystick.log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Every note as it was signed. A later one of the same size bears more signatures.
CREATE TABLE tallystick.checkpoint (
    ledger integer NOT NULL REFERENCES tallystick.ledger,
    size bigint NOT NULL CHECK (size >= 0),
    revision integer NOT NULL CHECK (revision >= 0),
    note bytea NOT NULL,
    PRIMARY KEY (ledger, size, revision)
);

COMMENT ON TABLE tallystick.log_tile IS 'The Merkle tree (RFC 6962) over the events, as C2SP tlog-tiles cuts it.';
COMMENT ON COLUMN tallystick.log_tile.ledger IS 'The number of the ledger in table ledger.';
COMMENT ON COLUMN tallystick.log_tile.level IS 'The level of the tile: at 0 its hashes are those of events.';
COMMENT ON COLUMN tallystick.log_tile.number IS 'Which tile of its level it is, from 0.';
COMMENT ON COLUMN tallystick.log_tile.hashes IS 'Its hashes, end to end, as far as it goes.';
COMMENT ON TABLE tallystick.checkpoint IS 'Signed statements of how many events there are, and of their root hash.';
COMMENT ON COLUMN tallystick.checkpoint.ledger IS 'The number of the ledger in table ledger.';
COMMENT ON COLUMN tallystick.checkpoint.size IS 'How many events it covers.';
COMMENT ON COLUMN tallystick.checkpoint.revision IS 'Of several notes of one size, which: the later ones bear more signatures.';
COMMENT ON COLUMN tallystick.checkpoint.note IS 'The signed note (C2SP tlog-checkpoint), in UTF-8.';

CREATE FUNCTION tallystick.let_tile_grow() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (new.ledger, new.level, new.number) IS DISTINCT FROM (old.ledger, old.level, old.number)
            OR substr(new.hashes, 1, octet_length(old.hashes)) <> old.hashes THEN
        RAISE EXCEPTION 'log_tile only grows: UPDATE is refused' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END $$;

CREATE TRIGGER log_tile_only_grows BEFORE UPDATE ON tallystick.log_tile
    FOR EACH ROW EXECUTE FUNCTION tallystick.let_tile_grow();
CREATE TRIGGER log_tile_is_never_deleted BEFORE DELETE ON tallystick.log_tile
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER log_tile_is_never_truncated BEFORE TRUNCATE ON tallystick.log_tile
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER checkpoint_is_never_changed BEFORE UPDATE OR DELETE ON tallystick.checkpoint
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER checkpoint_is_never_truncated BEFORE TRUNCATE ON tallystick.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
