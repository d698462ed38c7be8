"""Agents as packages with versions (contract, section 14)."""
