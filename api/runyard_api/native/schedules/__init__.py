"""Schedules of the native API."""
