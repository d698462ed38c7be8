"""Queries: the rows of runs, read and written, one transaction's share at a time."""
