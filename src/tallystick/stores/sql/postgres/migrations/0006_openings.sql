-- Erasable texts: what opens the commitments that stand in events. This is the one table of the books, beside `event`, that
-- cannot be made again; and the one from which rows may be deleted, for good, when a person asks to be forgotten. No hash
-- or proof depends on it.

-- `text` is UTF-8. PostgreSQL checks each row by itself: what does not open its commitment never gets in.
CREATE TABLE tallystick.opening (
    ledger integer NOT NULL REFERENCES tallystick.ledger,
    commitment text COLLATE "C" NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    text bytea NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 0),
    PRIMARY KEY (ledger, commitment),
    CONSTRAINT opens_its_commitment CHECK (
        commitment = 'commitment:sha256:' || encode(sha256('\x74616c6c79737469636b2e636f6d6d69746d656e742e763100'::bytea || salt || text), 'hex')
    )
);
CREATE INDEX opening_by_seq ON tallystick.opening (ledger, seq);

COMMENT ON TABLE tallystick.opening IS
    'The texts that events only commit to, and their salts. Delete rows to erase them (ledger.erase, tally erase); then '
    'VACUUM, for until it runs the bytes of deleted rows stay in the file.';
COMMENT ON COLUMN tallystick.opening.ledger IS 'The number of the ledger in table ledger.';
COMMENT ON COLUMN tallystick.opening.commitment IS 'What stands in the event in the place of the text.';
COMMENT ON COLUMN tallystick.opening.salt IS '32 random bytes, without which the text cannot be guessed.';
COMMENT ON COLUMN tallystick.opening.text IS 'The text, in UTF-8.';
COMMENT ON COLUMN tallystick.opening.seq IS 'The number of the event.';

-- An opening is erased, never changed; and never all of them at a stroke.
CREATE TRIGGER opening_is_never_changed BEFORE UPDATE ON tallystick.opening
    FOR EACH ROW EXECUTE FUNCTION tallystick.refuse_change();
CREATE TRIGGER opening_is_never_truncated BEFORE TRUNCATE ON tallystick.opening
    FOR EACH STATEMENT EXECUTE FUNCTION tallystick.refuse_change();
