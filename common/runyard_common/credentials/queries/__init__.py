"""Queries: the rows of credentials, read and written, one transaction's share at a time."""
