"""The archive of an export: a ZIP file with a JSON-lines file for each kind of thing, written as it is read."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from runyard_common.database.columns import dump
from runyard_common.files import FileDamaged, FileNotStored, FileStore
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.values.errors import Conflict, InvalidRequest

MANIFEST: Final = "manifest.json"
_LEVEL: Final = 3
_CHUNK: Final = 1 << 20


class ArchiveExists(Conflict):
    """There is a file of this name."""

    code = "files_exist"


class NoFolder(InvalidRequest):
    """The archive has no folder to be in."""

    code = "files_unwritable"


class Archive:
    """An archive under construction."""

    def __init__(self, zipped: ZipFile) -> None:
        self._zip = zipped

    def lines(self, name: str, rows: Iterable[dict[str, Any]], progress: Callable[[int], None]) -> int:
        """Write rows, a line of JSON each; how many."""
        count = 0
        with self._opened(f"{name}.jsonl") as out:
            for row in rows:
                out.write(dump(_plain(row)).encode() + b"\n")
                count += 1
                progress(count)
        return count

    def has(self, sha256: str) -> bool:
        """Whether a file's content is written."""
        return _content(sha256) in self._zip.NameToInfo

    def content(self, store: FileStore, sha256: str) -> str | None:
        """Write a file's content; why that cannot be done, if it cannot."""
        try:
            self._write(_content(sha256), store.chunks(sha256))
        except (FileNotStored, FileDamaged) as problem:
            return str(problem.code)
        return None

    def file(self, name: str, path: Path) -> None:
        """Write a file of this machine."""
        with path.open("rb") as stream:
            self._write(name, iter(lambda: stream.read(_CHUNK), b""))

    def end(self, manifest: dict[str, Any]) -> None:
        """Write what the archive has."""
        self._write(MANIFEST, iter([dump(manifest).encode()]))

    def _write(self, name: str, chunks: Iterator[bytes]) -> None:
        with self._opened(name) as out:
            for chunk in chunks:
                out.write(chunk)

    def _opened(self, name: str) -> IO[bytes]:
        member = ZipInfo(name, time.localtime()[:6])
        member.compress_type, member.external_attr = ZIP_DEFLATED, 0o600 << 16
        return self._zip.open(member, "w", force_zip64=True)


@contextmanager
def made(target: Path) -> Iterator[Archive]:
    """An archive, mode 0600, that appears under its name when it is complete.

    Errors: `ArchiveExists`, `NoFolder`.
    """
    if target.exists():
        raise ArchiveExists(f"{target} is there already. Name another file.", field="to")
    if not target.parent.is_dir():
        raise NoFolder(f"{target.parent} is no folder.", field="to")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        part = Path(folder) / "part"
        part.touch(mode=0o600)
        with ZipFile(part, "w", ZIP_DEFLATED, compresslevel=_LEVEL) as zipped:
            yield Archive(zipped)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        target.hardlink_to(part)


def _content(sha256: str) -> str:
    return f"files/{sha256}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.stored if isinstance(value, BlockedBy) else value for name, value in row.items()}
