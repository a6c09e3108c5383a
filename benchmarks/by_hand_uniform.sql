-- For pgbench: a transfer between two random accounts.
\set payer random(1, :accounts)
\set payee (:payer - 1 + random(1, :accounts - 1)) % :accounts + 1
\set amount random(1, 9999)
SELECT by_hand.transfer(gen_random_uuid(), :payer, :payee, :amount);
