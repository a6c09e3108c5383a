-- Before a rebuild: everything that is derived from the events of one ledger goes, inside the rebuild's transaction.
-- The guard on entries is set aside for it; events stay guarded.
DROP TRIGGER entry_is_never_deleted;
DELETE FROM entry WHERE ledger = :ledger;
DELETE FROM balance WHERE ledger = :ledger;
DELETE FROM idempotency WHERE ledger = :ledger;
DELETE FROM reference WHERE ledger = :ledger;
DELETE FROM backdated WHERE ledger = :ledger;
DELETE FROM object WHERE ledger = :ledger;
DELETE FROM snapshot WHERE ledger = :ledger;
DELETE FROM snapshot_point WHERE ledger = :ledger;
DELETE FROM cache WHERE ledger = :ledger;
CREATE TRIGGER entry_is_never_deleted BEFORE DELETE ON entry
BEGIN SELECT raise(ABORT, 'an entry is never deleted'); END;
