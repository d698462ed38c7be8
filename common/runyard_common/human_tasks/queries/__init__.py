"""Queries: the rows of human tasks, read and written, one transaction's share at a time."""
