-- Before a rebuild: everything that is derived from the events of one ledger goes, inside the rebuild's transaction.
DELETE FROM tallystick.entry WHERE ledger = %(ledger)s;
DELETE FROM tallystick.idempotency WHERE ledger = %(ledger)s;
DELETE FROM tallystick.reference WHERE ledger = %(ledger)s;
DELETE FROM tallystick.backdated WHERE ledger = %(ledger)s;
DELETE FROM tallystick.balance WHERE ledger = %(ledger)s;
DELETE FROM tallystick.asset WHERE ledger = %(ledger)s;
DELETE FROM tallystick.object WHERE ledger = %(ledger)s;
DELETE FROM tallystick.snapshot WHERE ledger = %(ledger)s;
DELETE FROM tallystick.snapshot_point WHERE ledger = %(ledger)s;
DELETE FROM tallystick.carried WHERE ledger = %(ledger)s;
DELETE FROM tallystick.cache WHERE ledger = %(ledger)s;
