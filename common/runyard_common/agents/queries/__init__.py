"""Queries: the rows of agents, read and written, one transaction's share at a time."""
