"""Runs of the native API: submit, read, steer, follow."""
