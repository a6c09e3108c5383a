"""The production store: ledgers in a PostgreSQL database, for any number of processes at once."""
