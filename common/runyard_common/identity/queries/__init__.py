"""Queries: the rows of identity, read and written, one transaction's share at a time."""
