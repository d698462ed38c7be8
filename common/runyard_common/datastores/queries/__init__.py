"""Queries: the rows of datastores, read and written, one transaction's share at a time."""
