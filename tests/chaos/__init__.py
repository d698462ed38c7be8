"""Chaos: real processes killed at random, and what must be true afterwards, counted from the rows."""
