"""Attachments by content: one object per SHA-256, in a folder or in an S3-compatible bucket."""

from runyard_common.files.store import (
    CHUNK_BYTES,
    FileDamaged,
    FileNotStored,
    FileStore,
    FileStoreUnavailable,
    StoredFile,
)

__all__ = ["CHUNK_BYTES", "FileDamaged", "FileNotStored", "FileStore", "FileStoreUnavailable", "StoredFile"]
