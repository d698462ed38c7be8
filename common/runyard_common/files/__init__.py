"""Attachments by content: one object per SHA-256, in a folder or in an S3-compatible bucket."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from runyard import extras
from runyard_common.files.store import (
    CHUNK_BYTES,
    FileDamaged,
    FileNotStored,
    FileStore,
    FileStoreUnavailable,
    StoredFile,
)
from runyard_common.values.errors import ConfigurationError

__all__ = [
    "CHUNK_BYTES", "FileDamaged", "FileNotStored", "FileStore", "FileStoreUnavailable", "StoredFile", "open_files",
]  # fmt: skip


def open_files(url: str) -> FileStore:
    """The store named by a folder, ``file:///folder`` or ``s3://[key:secret@]bucket[/prefix][?options]``.

    Options are ``endpoint`` and ``region``, and ``path_style=false`` for virtual-hosted addressing. What
    the URL leaves out comes from the ``AWS_*`` environment variables. Raises `ConfigurationError`.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        if not extras.installed("obstore"):
            raise ConfigurationError(
                extras.advice("RUNYARD_FILES_URL: a bucket", "s3"), field="RUNYARD_FILES_URL"
            )
        from runyard_common.files.bucket import BucketFileStore  # its library takes long to import

        return BucketFileStore.from_url(url)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigurationError(
            "RUNYARD_FILES_URL must be a folder, file:///folder or s3://bucket/prefix.",
            field="RUNYARD_FILES_URL",
        )
    from runyard_common.files.folder import FolderFileStore

    return FolderFileStore(Path(unquote(parts.path) if parts.scheme else url))
