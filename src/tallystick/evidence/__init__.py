"""What strangers check the ledger by: the published log, its signers, its witnesses and its export."""
