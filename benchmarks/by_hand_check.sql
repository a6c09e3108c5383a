-- What does not add up in the ledger by hand: accounts that are not at their last entry, transfers without two entries
-- that sum to zero, entries of no transfer.
SELECT
    (
        SELECT count(*) FROM by_hand.account
        LEFT JOIN by_hand.entry ON entry.account = account.id AND entry.version = account.version
        WHERE account.version > 0 AND entry.after IS DISTINCT FROM account.balance
    ),
    (
        SELECT count(*) FROM by_hand.transfer
        LEFT JOIN (SELECT transfer, count(*) AS entries, sum(amount) AS total FROM by_hand.entry GROUP BY transfer) AS made
            ON made.transfer = transfer.id
        WHERE (made.entries = 2 AND made.total = 0) IS NOT TRUE
    ),
    (
        SELECT count(*) FROM by_hand.entry
        LEFT JOIN by_hand.transfer ON transfer.id = entry.transfer
        WHERE transfer.id IS NULL
    );
