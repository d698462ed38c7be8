"""Credentials: found in documents, sealed at rest, sealed again with a newer key."""
