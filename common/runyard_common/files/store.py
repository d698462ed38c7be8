"""The file store: what both adapters share, and the errors they raise.

    RunyardError
    ├── FileNotStored 404
    ├── FileStoreUnavailable 503
    └── FileDamaged 500

Every call is synchronous and may be made from any thread. An object is never seen half written. Storing
content that is there already writes nothing new but *renews* it, so that a pruner which gives
`FileStore.delete` the time of its look does not take away what another task has attached since.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from runyard_common.values.errors import NotFound, RunyardError, Unavailable

CHUNK_BYTES = 1 << 20
SHA256 = re.compile(r"[0-9a-f]{64}")


class FileNotStored(NotFound):
    """The file is not stored: it was never attached, or was pruned with its task."""

    code = "file_not_stored"


class FileDamaged(RunyardError):
    """The stored bytes do not match their hash; restore the object from a backup or attach the file again."""

    code = "file_damaged"
    title = "File damaged"


class FileStoreUnavailable(Unavailable):
    """The file store does not answer as it should; try again shortly."""

    code = "file_store_unavailable"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One stored content: its address, its size in bytes and when it was last stored or renewed."""

    sha256: str
    size: int
    renewed_at: datetime = field(compare=False)

    def renewed_since(self, when: datetime | None) -> bool:
        """Whether it was stored or renewed at or after that time; never, for no time."""
        return when is not None and self.renewed_at >= when


class FileStore(ABC):
    """Where file contents are kept, addressed by their SHA-256 in lower-case hexadecimal."""

    def put(self, content: bytes | Path | BinaryIO) -> StoredFile:
        """Store bytes, a file by its path, or a binary stream from its start; same content is stored once."""
        if isinstance(content, bytes):
            return self._put(BytesIO(content))
        if isinstance(content, Path):
            with content.open("rb") as stream:
                return self._put(stream)
        if content.seekable():
            return self._put(content)
        with tempfile.TemporaryFile() as buffer:
            shutil.copyfileobj(content, buffer, CHUNK_BYTES)
            return self._put(buffer)

    def get(self, sha256: str) -> bytes:
        """The content; `FileNotStored` if it is not there, `FileDamaged` if it no longer matches its hash."""
        return b"".join(self.chunks(sha256))

    def chunks(self, sha256: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The content in pieces of about `chunk_bytes`.

        A file that is not there raises at the call, so that a response can still report it; a damaged one only
        after its last piece.
        """
        return _verified(sha256, self._read(checked(sha256), chunk_bytes))

    def exists(self, sha256: str) -> bool:
        """Whether the content is stored."""
        return self.stat(sha256) is not None

    @abstractmethod
    def stat(self, sha256: str) -> StoredFile | None:
        """Size and age of the content, or None if it is not stored."""

    @abstractmethod
    def delete(self, sha256: str, *, unless_renewed_since: datetime | None = None) -> bool:
        """Remove the content, unless it was renewed since that time; returns whether something was removed."""

    @abstractmethod
    def walk(self) -> Iterator[StoredFile]:
        """Every stored file, in no particular order: for finding those no task refers to."""

    @abstractmethod
    def check(self) -> None:
        """Raise `FileStoreUnavailable` unless the store can be reached: for readiness."""

    def _put(self, stream: BinaryIO) -> StoredFile:
        stream.seek(0)
        sha256, size = _measure(stream)
        stored = self.stat(sha256)
        if stored is None or stored.size != size or not self._renew(stored):
            stream.seek(0)
            self._write(sha256, stream)
        return StoredFile(sha256, size, datetime.now(UTC))

    @abstractmethod
    def _renew(self, stored: StoredFile) -> bool:
        """Mark content that is there already as wanted now; False asks for it to be written again."""

    @abstractmethod
    def _write(self, sha256: str, stream: BinaryIO) -> None:
        """Put the stream, from its position to its end, in place in one step."""

    @abstractmethod
    def _read(self, sha256: str, chunk_bytes: int) -> Iterator[bytes]:
        """Open the content now, read it lazily."""


def checked(sha256: str) -> str:
    """The address itself; what is no SHA-256 cannot be stored, nor become part of a path."""
    if not SHA256.fullmatch(sha256):
        raise FileNotStored(sha256=sha256[:64])
    return sha256


def _measure(stream: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _verified(sha256: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    if digest.hexdigest() != sha256:
        raise FileDamaged(sha256=sha256)
