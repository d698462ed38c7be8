"""Queries: the rows of sessions, read and written, one transaction's share at a time."""
