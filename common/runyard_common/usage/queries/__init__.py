"""Queries: the rows of usage, read and written, one transaction's share at a time."""
