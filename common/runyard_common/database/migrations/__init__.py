"""Alembic migrations of the tables, up and down, for SQLite and PostgreSQL."""
