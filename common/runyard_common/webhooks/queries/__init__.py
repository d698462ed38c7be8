"""Queries: the rows of webhooks, read and written, one transaction's share at a time."""
