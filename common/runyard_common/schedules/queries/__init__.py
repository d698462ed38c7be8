"""Queries: the rows of schedules, read and written, one transaction's share at a time."""
