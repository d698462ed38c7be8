"""Runs (contract, sections 3 to 10): start, read, follow."""
