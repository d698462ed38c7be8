"""Schedules: when to run, and what became of each due time."""
