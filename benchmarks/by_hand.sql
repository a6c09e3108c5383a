-- The ledger that people write by hand: accounts with a balance, locked row by row. Lean on purpose, so that it is a hard
-- one to beat: numbers and not addresses, no foreign keys (each would lock and look up one more row), one index beside
-- each primary key at most, and room in the pages of `account` for its updates to stay on the page.

CREATE SCHEMA by_hand;

CREATE TABLE by_hand.account (
    id bigint PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0),
    version bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE by_hand.transfer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key uuid NOT NULL UNIQUE,
    payer bigint NOT NULL,
    payee bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    made timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE by_hand.entry (
    account bigint NOT NULL,
    version bigint NOT NULL,
    transfer bigint NOT NULL,
    amount bigint NOT NULL,
    before bigint NOT NULL,
    after bigint NOT NULL CHECK (after = before + amount),
    PRIMARY KEY (account, version)
);

-- One transfer, in a transaction of its own; a key that was used before gives the same transfer again.
-- Both accounts are locked in the order of their ids, so that no two transfers can wait for each other. The update is
-- what locks (to SELECT .. FOR UPDATE before it measured a fifth slower); what an account lacks, its CHECK refuses.
CREATE FUNCTION by_hand.transfer(new_key uuid, from_account bigint, to_account bigint, moved bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
    payer by_hand.account;
    payee by_hand.account;
BEGIN
    INSERT INTO by_hand.transfer (key, payer, payee, amount) VALUES (new_key, from_account, to_account, moved)
    ON CONFLICT (key) DO NOTHING RETURNING id INTO number;
    IF number IS NULL THEN
        RETURN (SELECT id FROM by_hand.transfer WHERE key = new_key);
    END IF;
    IF from_account < to_account THEN
        UPDATE by_hand.account SET balance = balance - moved, version = version + 1
        WHERE id = from_account RETURNING * INTO payer;
        UPDATE by_hand.account SET balance = balance + moved, version = version + 1
        WHERE id = to_account RETURNING * INTO payee;
    ELSE
        UPDATE by_hand.account SET balance = balance + moved, version = version + 1
        WHERE id = to_account RETURNING * INTO payee;
        UPDATE by_hand.account SET balance = balance - moved, version = version + 1
        WHERE id = from_account RETURNING * INTO payer;
    END IF;
    IF payer.id IS NULL OR payee.id IS NULL OR payer.id = payee.id THEN
        RAISE EXCEPTION 'no transfer from account % to account %', from_account, to_account;
    END IF;
    INSERT INTO by_hand.entry VALUES
        (from_account, payer.version, number, -moved, payer.balance + moved, payer.balance),
        (to_account, payee.version, number, moved, payee.balance - moved, payee.balance);
    RETURN number;
END $$;
