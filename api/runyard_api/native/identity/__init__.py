"""Organisations, members, keys and sign-ins of the native API."""
