"""Datastores: databases that agents query and documents that they search."""
