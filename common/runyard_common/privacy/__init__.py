"""Requests about privacy: what there is of an organisation or a person, as an archive, and its erasure."""
