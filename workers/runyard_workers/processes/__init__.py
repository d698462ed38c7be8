"""Agents' code outside the worker's loop: in a child process or a thread, its context calls served over messages."""
