"""Attachments by content: one object per SHA-256, in a folder or in an S3-compatible bucket."""

from common.files.store import FileDamaged, FileNotStored, FileStore, FileStoreUnavailable, StoredFile

__all__ = ["FileDamaged", "FileNotStored", "FileStore", "FileStoreUnavailable", "StoredFile"]
