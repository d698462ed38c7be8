"""The database: engine, transactions, group commit, migrations."""
