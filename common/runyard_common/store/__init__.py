"""The database: tables, sessions and one query module per noun, all synchronous."""
