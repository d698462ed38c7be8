"""A backup of an installation on one machine: its database, files and keys in one archive, made while it runs.

The database is copied in one read transaction, which no writer waits for. Files are copied before and after it: one
that the copy names was there before, or has come by then, as a file goes only after its last row. The archive's last
member has the digest of the database and the number of files, so that one that was cut off is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from gzip import BadGzipFile
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from runyard_common.credentials.queries import key_files
from runyard_common.identity.service.identity import ADMIN_KEY, JWT_SECRET, SECRET_KEY
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError
from runyard_launch.problems import CommandFailed, Outcome

DATABASE: Final = "runyard.db"
_END: Final = "backup.json"
_FORMAT: Final = 1
_KEYS: Final = (ADMIN_KEY, JWT_SECRET, SECRET_KEY, key_files.OLD_SECRET_KEYS)
_FILE: Final = re.compile(r"files/[0-9a-f]{2}/([0-9a-f]{64})")
_DATASTORE: Final = re.compile(r"datastores/[0-9a-f-]{36}/[^/]+")
_CHUNK: Final = 1 << 20
_COMPRESSION: Final = 3


@dataclass(frozen=True, slots=True)
class Backup:
    """What an archive has: files of tasks, bytes of the database, the names of the keys."""

    files: int
    database_bytes: int
    keys: list[str]


def make(settings: Settings, target: Path) -> Backup:
    """Write the archive, mode 0600; it appears under its name when it is complete.

    `CommandFailed` not_one_machine for servers of their own, files_exist, no_database, backup_damaged.
    """
    database = _database(settings)
    if target.exists():
        raise CommandFailed(
            f"{target} is there already. Name another file.", "files_exist", Outcome.REFUSED, field="file"
        )
    if not target.parent.is_dir():
        raise CommandFailed(
            f"{target.parent} is no folder.", "files_unwritable", Outcome.REFUSED, field="file"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        part, copy = Path(folder) / "part", Path(folder) / DATABASE
        part.touch(mode=0o600)
        with tarfile.open(part, "w:gz", compresslevel=_COMPRESSION) as archive:
            made = _fill(archive, settings, database, copy)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        target.hardlink_to(part)
    return made


def _database(settings: Settings) -> Path:
    kind, _, path = settings.database.partition("///")
    if not kind.startswith("sqlite") or "://" in settings.files:
        raise CommandFailed(
            "This command is for SQLite and a folder of files. Take pg_dump for PostgreSQL, and your store's own "
            "means for a bucket: docs/operations.md, Backups.",
            "not_one_machine",
            Outcome.REFUSED,
        )
    if not Path(path).is_file():
        raise CommandFailed(f"There is no database in {path}.", "no_database", Outcome.REFUSED)
    return Path(path)


def _fill(archive: tarfile.TarFile, settings: Settings, database: Path, copy: Path) -> Backup:
    done: set[str] = set()
    _add_files(archive, Path(settings.files), done)
    keys = _keys(settings.home)
    _copy_database(database, copy)
    archive.add(copy, DATABASE)
    _add_files(archive, Path(settings.files), done)
    keys = _with_both(keys, _keys(settings.home))
    for name, text in keys.items():
        _add_text(archive, name, text + "\n")
    for path in sorted((settings.home / "datastores").glob("*/*")):
        if path.is_file():
            _add(archive, path, f"datastores/{path.parent.name}/{path.name}")
    size = copy.stat().st_size
    end = {"format": _FORMAT, "database": _digest(copy), "files": len(done)}
    _add_text(archive, _END, json.dumps(end))
    return Backup(len(done), size, sorted(keys))


def _add_files(archive: tarfile.TarFile, root: Path, done: set[str]) -> None:
    for path in sorted(root.glob("??/*")):
        name = f"files/{path.parent.name}/{path.name}"
        if name not in done and _FILE.fullmatch(name) and _add(archive, path, name):
            done.add(name)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> bool:
    """Whether it was there: a file may be pruned meanwhile."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return False
    with stream:
        archive.addfile(_private(archive.gettarinfo(arcname=name, fileobj=stream)), stream)
    return True


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    member = _private(tarfile.TarInfo(name))
    member.size = len(text.encode())
    archive.addfile(member, BytesIO(text.encode()))


def _private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode, member.uid, member.gid, member.uname, member.gname = 0o600, 0, 0, "", ""
    return member


def _keys(home: Path) -> dict[str, str]:
    try:
        return {name: text for name in _KEYS if (text := key_files.existing(home / name)) is not None}
    except ConfigurationError as error:
        raise CommandFailed(error.message, error.code, Outcome.REFUSED) from None


def _with_both(before: dict[str, str], after: dict[str, str]) -> dict[str, str]:
    """The keys of after the copy, and the key of before it where that was replaced meanwhile."""
    keys = before | after
    if SECRET_KEY in keys:
        both = ",".join([after.get(SECRET_KEY, ""), before.get(SECRET_KEY, "")]).split(",")
        keys[SECRET_KEY] = ",".join(dict.fromkeys(key for key in both if key))
    return keys


def _copy_database(database: Path, copy: Path) -> None:
    copy.touch(mode=0o600)
    try:
        source = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(copy)) as target:
            source.backup(target)  # all pages in one step: else each write begins it again
            found = target.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        raise CommandFailed(
            f"The database cannot be copied: {error}.", "backup_damaged", Outcome.FAILED
        ) from None
    if found != "ok":
        raise CommandFailed(f"The database is damaged: {found}.", "backup_damaged", Outcome.FAILED)


def restore(archive: Path, home: Path) -> Backup:
    """Make a home of an archive, all of it or nothing.

    `CommandFailed` home_not_empty, not_a_backup for what is none, was cut off or damaged, or holds other names.
    """
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise CommandFailed(
            f"{home} is not empty. Set RUNYARD_HOME to a folder that is not there yet.",
            "home_not_empty",
            Outcome.REFUSED,
        )
    home.absolute().parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=home.absolute().parent, prefix=f".{home.name}."))
    try:
        found = _unpack(archive, made)
        if home.exists():
            home.rmdir()
        made.replace(home)
    except (tarfile.TarError, BadGzipFile, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise _no_backup(archive, str(error) or "it ends too early") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return found


def _no_backup(archive: Path, reason: str) -> CommandFailed:
    return CommandFailed(
        f"{archive} is no complete backup: {reason}. Nothing is restored.",
        "not_a_backup",
        Outcome.REFUSED,
        field="file",
    )


def _unpack(source: Path, folder: Path) -> Backup:
    files, keys, digest = 0, [], ""
    end: dict[str, Any] | None = None
    with tarfile.open(source, "r:gz") as archive:
        for member in archive:
            if end is not None:
                raise ValueError(f"{member.name} comes after its end")
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise ValueError(f"{member.name} is no file")
            if member.name == _END:
                end = json.loads(stream.read(_CHUNK))
                continue
            file = _FILE.fullmatch(member.name)
            if not (file or member.name in (DATABASE, *_KEYS) or _DATASTORE.fullmatch(member.name)):
                raise ValueError(f"it has {member.name!r}")
            written = _write(stream, folder / member.name)
            if file is not None and written != file[1]:
                raise ValueError(f"{member.name} is damaged")
            files += file is not None
            keys += [member.name] if member.name in _KEYS else []
            digest = written if member.name == DATABASE else digest
    if end is None or end["format"] != _FORMAT or end["database"] != digest or end["files"] != files:
        raise ValueError("its end does not fit what it holds" if end else "it ends too early")
    return Backup(files, (folder / DATABASE).stat().st_size, sorted(keys))


def _write(stream: IO[bytes], target: Path) -> str:
    """Write a member; its digest."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        for chunk in _chunks(stream):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk
