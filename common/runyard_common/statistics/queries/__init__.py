"""Reads and writes of sums over time."""
