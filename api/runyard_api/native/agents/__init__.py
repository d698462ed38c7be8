"""Agents of the native API."""
