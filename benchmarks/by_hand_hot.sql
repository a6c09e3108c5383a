-- For pgbench: a transfer that has account 1 on one side, now the payer, now the payee.
\set other random(2, :accounts)
\set pays random(0, 1)
\set payer CASE WHEN :pays = 1 THEN 1 ELSE :other END
\set payee CASE WHEN :pays = 1 THEN :other ELSE 1 END
\set amount random(1, 9999)
SELECT by_hand.transfer(gen_random_uuid(), :payer, :payee, :amount);
