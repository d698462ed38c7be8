"""The file store in a folder: ``ab/abcd…`` per content, written to a temporary file, flushed, renamed into place."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from runyard_common.files.store import (
    CHUNK_BYTES,
    SHA256,
    FileDamaged,
    FileNotStored,
    FileStore,
    FileStoreUnavailable,
    StoredFile,
    checked,
)

_ABANDONED_SECONDS = 24 * 3600.0


class FolderFileStore(FileStore):
    """A folder of this machine, or one that every process of the installation mounts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def stat(self, sha256: str) -> StoredFile | None:
        with _folder_errors():
            try:
                return _stored_file(self._path(sha256))
            except FileNotFoundError:
                return None

    def delete(self, sha256: str, *, unless_renewed_since: datetime | None = None) -> bool:
        stored = self.stat(sha256)
        if stored is None or stored.renewed_since(unless_renewed_since):
            return False
        with _folder_errors():
            try:
                self._path(sha256).unlink()
            except FileNotFoundError:
                return False
        return True

    def walk(self) -> Iterator[StoredFile]:
        for path in self.root.glob("??/*"):
            if SHA256.fullmatch(path.name) and (stored := self.stat(path.name)):
                yield stored

    def check(self) -> None:
        """See `FileStore.check`; also sweeps what writers that died left in ``incoming`` a day ago."""
        with _folder_errors():
            self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._incoming):
                pass
            for path in self._incoming.iterdir():
                if path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    path.unlink(missing_ok=True)

    def _renew(self, stored: StoredFile) -> bool:
        try:
            os.utime(self._path(stored.sha256))
        except OSError:
            return False  # deleted meanwhile, or a disk in trouble: the write that follows shows which
        return True

    def _write(self, sha256: str, stream: BinaryIO) -> None:
        target = self._path(sha256)
        with _folder_errors():
            self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._incoming, prefix=f"{sha256[:8]}-")
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as out:
                    _copy(stream, out, sha256)
                    out.flush()
                    os.fsync(out.fileno())
                _make_folder(target.parent)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _fsync_folder(target.parent)

    def _read(self, sha256: str, chunk_bytes: int) -> Iterator[bytes]:
        path = self._path(sha256)
        with _folder_errors():
            if not path.is_file():
                raise FileNotStored(sha256=sha256)
        return _chunks(path, chunk_bytes)

    def _path(self, sha256: str) -> Path:
        return self.root / checked(sha256)[:2] / sha256


def _stored_file(path: Path) -> StoredFile:
    found = path.stat()
    return StoredFile(path.name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _copy(stream: BinaryIO, out: BinaryIO, sha256: str) -> None:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
        out.write(chunk)
    if digest.hexdigest() != sha256:
        raise FileDamaged("The file changed while it was being stored; attach it again.", sha256=sha256)


def _chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Opened at the first piece: dropped unread, as by a client that left, it leaves no file open."""
    with _folder_errors(), _opened(path) as stream:
        while chunk := stream.read(chunk_bytes):
            yield chunk


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:  # deleted since it was asked for
        raise FileNotStored(sha256=path.name) from None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    _fsync_folder(path.parent)


def _fsync_folder(path: Path) -> None:
    """A rename survives a power cut only once the folder that names it is on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileStoreUnavailable(f"The file store's folder cannot be used: {error.strerror}.") from error
