"""A backup is made while others write, and restored in full or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import sqlite3
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runyard_common.credentials.queries import key_files
from runyard_common.credentials.rules.sealing import new_key
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.files import open_files
from runyard_common.identity.queries import secrets
from runyard_common.identity.service import identity
from runyard_common.settings import Settings
from runyard_launch import backups
from runyard_launch.problems import CommandFailed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url="", files_url="")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    settings.home.mkdir(mode=0o700)
    db = Database(settings.database)
    migrate.upgrade(db)
    store = Store(db)
    identity.bootstrap(store, settings)
    yield store
    db.close()


def put(store: Store, settings: Settings, name: str) -> None:
    with store.begin() as tx:
        org_id = identity.installation(store)
        assert org_id is not None
        secrets.put(tx, org_id, name, key_files.sealer(settings).seal(f"of {name}"), "test")


def stored(settings: Settings) -> dict[str, str]:
    """The secrets of a home, opened by its own key."""
    sealer = key_files.sealer(settings)
    with closing(sqlite3.connect(settings.home / "runyard.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return {
            name: sealer.open(value) for name, value in db.execute("SELECT name, value FROM stored_secrets")
        }


def keep(settings: Settings, content: bytes) -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    open_files(settings.files).put(io.BytesIO(content))
    return Path("files") / sha256[:2] / sha256


def refusal(archive: Path, home: Path) -> str:
    with pytest.raises(CommandFailed) as refused:
        backups.restore(archive, home)
    assert not home.exists() or list(home.iterdir()) == [home / "mine"]
    assert sorted(path.name for path in home.parent.iterdir() if path.name.startswith(".")) == []
    return refused.value.code


def test_what_is_committed_before_a_backup_is_in_it_while_others_go_on_writing(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    put(store, settings, "BEFORE")
    kept = keep(settings, b"a file of a run")
    ended, written = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            put(store, settings, f"MEANWHILE_{number}")
            number += 1
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(60)
        made = backups.make(settings, tmp_path / "one.tar.gz")
    finally:
        ended.set()
        writer.join()
    assert made.files == 1
    assert made.keys == ["admin.key", "jwt.secret", "secret.key"]
    assert (tmp_path / "one.tar.gz").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "one.tar.gz"]
    copy = Settings(home=tmp_path / "copy")
    assert backups.restore(tmp_path / "one.tar.gz", copy.home) == made
    found, all_ = stored(copy), stored(settings)
    assert found["BEFORE"] == "of BEFORE"
    assert "MEANWHILE_0" in found
    assert found.items() <= all_.items()
    assert (copy.home / kept).read_bytes() == b"a file of a run"
    assert copy.home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in copy.home.rglob("*") if path.is_file()} == {0o600}
    for name in made.keys:
        assert (copy.home / name).read_text() == (settings.home / name).read_text()


def test_a_backup_during_a_change_of_the_key_has_both(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, settings, "ONE")
    copy_database = backups._copy_database

    def then_change(database: Path, copy: Path) -> None:
        copy_database(database, copy)
        key_files.write(settings.home / "secret.key", new_key(), replace=True)

    monkeypatch.setattr(backups, "_copy_database", then_change)
    backups.make(settings, tmp_path / "one.tar.gz")
    copy = Settings(home=tmp_path / "copy")
    backups.restore(tmp_path / "one.tar.gz", copy.home)
    assert stored(copy) == {"ONE": "of ONE"}


def test_an_archive_that_is_cut_off_at_any_place_or_changed_restores_nothing(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    keep(settings, b"a file of a run")
    whole, broken, home = tmp_path / "whole.tar.gz", tmp_path / "broken.tar.gz", tmp_path / "new"
    backups.make(settings, whole)
    packed, plain = whole.read_bytes(), gzip.decompress(whole.read_bytes())
    for part in (0.0, 0.1, 0.5, 0.9):
        broken.write_bytes(packed[: int(len(packed) * part)])
        assert refusal(broken, home) == "not_a_backup", part
    for part in (0.0, 0.1, 0.5, 0.9, 1.0):
        end = plain.index(b"backup.json")  # behind its end there is nothing but zeros
        broken.write_bytes(gzip.compress(plain[: int(end * part) // 512 * 512], 1))
        assert refusal(broken, home) == "not_a_backup", part
    changed = bytearray(plain)
    changed[changed.index(b"a file of a run")] ^= 1
    broken.write_bytes(gzip.compress(bytes(changed), 1))
    assert refusal(broken, home) == "not_a_backup"
    broken.write_bytes(b"no archive at all" * 100)
    assert refusal(broken, home) == "not_a_backup"
    backups.restore(whole, home)


@pytest.mark.parametrize(
    "name", ["../out", "/etc/out", "files/../../out", "runyard.toml", "valkey.url", "files/ab"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_an_archive_with_other_names_writes_nothing(tmp_path: Path, name: str, kind: bytes) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert refusal(tmp_path / "evil.tar.gz", tmp_path / "new") == "not_a_backup"
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.gz"]


def test_a_home_with_anything_in_it_stays_as_it_is(store: Store, settings: Settings, tmp_path: Path) -> None:
    backups.make(settings, tmp_path / "one.tar.gz")
    home = tmp_path / "other"
    home.mkdir()
    (home / "mine").write_text("mine")
    assert refusal(tmp_path / "one.tar.gz", home) == "home_not_empty"
    (home / "mine").unlink()
    backups.restore(tmp_path / "one.tar.gz", home)


def test_what_cannot_be_backed_up_here_is_refused_with_what_to_do(tmp_path: Path, settings: Settings) -> None:
    target = tmp_path / "one.tar.gz"
    cases = {
        "not_one_machine": Settings(home=tmp_path, database_url="postgresql://localhost/x"),
        "no_database": settings,
    }
    for code, given in cases.items():
        with pytest.raises(CommandFailed) as refused:
            backups.make(given, target)
        assert (refused.value.code, refused.value.exit_code) == (code, 2)
    assert not target.exists()


def test_a_damaged_database_makes_no_backup(settings: Settings, store: Store, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other")
    other.home.mkdir()
    (other.home / "runyard.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(CommandFailed) as refused:
        backups.make(other, tmp_path / "two.tar.gz")
    assert (refused.value.code, refused.value.exit_code) == ("backup_damaged", 1)
    assert not (tmp_path / "two.tar.gz").exists()
    backups.make(settings, tmp_path / "one.tar.gz")
    with pytest.raises(CommandFailed) as refused:
        backups.make(settings, tmp_path / "one.tar.gz")
    assert refused.value.code == "files_exist", "an archive is not written over"
