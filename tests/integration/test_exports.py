"""An organisation's archive: all that is its own, nothing of others, nothing that opens anything, of one instant."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from sqlalchemy import func, insert, select

from runyard_common.database.transaction import Store
from runyard_common.files import open_files
from runyard_common.identity.queries import identity
from runyard_common.privacy.queries import owned
from runyard_common.privacy.rules.ownership import RULES
from runyard_common.privacy.service import exports
from runyard_common.settings import Settings
from runyard_common.tables import metadata
from runyard_common.tables.query import StoredFile, TaskEvent
from runyard_common.values.errors import Conflict, InvalidRequest
from tests import databases, owned_rows

OURS, THEIRS = "our-organisation", "their-organisation"


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    db = databases.opened(database_url)
    with db.begin() as conn:
        for table in reversed(metadata.sorted_tables):
            conn.execute(table.delete())
        owned_rows.fill(conn, OURS, rows=3)
        owned_rows.fill(conn, THEIRS, rows=3)
    yield Store(db)
    db.close()


def export(store: Store, home: Path, progress: Any = lambda what, count: None) -> exports.Exported:
    with store.read() as conn:
        found = identity.organisation(conn, OURS)
    assert found is not None
    return exports.of_organisation(
        store.db, Settings(home=home, release="r7"), found, home / "ours.zip", progress
    )


def lines(archive: ZipFile, name: str) -> list[Any]:
    return [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()]


def test_an_archive_has_every_row_of_the_organisation_and_nothing_of_another(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned, "PAGE", 2)
    monkeypatch.setattr(owned, "OWNERS", 2)
    made = export(store, home)
    assert stat.S_IMODE((home / "ours.zip").stat().st_mode) == 0o600
    with ZipFile(home / "ours.zip") as archive, store.read() as conn:
        manifest = json.loads(archive.read("manifest.json"))
        names = {name for name, rule in RULES.items() if not rule.left_out}
        assert {f"{name}.jsonl" for name in names} == {n for n in archive.namelist() if n.endswith(".jsonl")}
        for name in names:
            rows = lines(archive, name)
            every = conn.execute(select(func.count()).select_from(metadata.tables[name])).scalar_one()
            assert len(rows) == manifest["counts"][name] == made.counts[name] == every // 2, name
            text = archive.read(f"{name}.jsonl").decode()
            assert THEIRS not in text
            assert owned_rows.SECRET not in text
    assert manifest["schema"] >= "0031"
    assert (manifest["release"], manifest["organisation"]["id"]) == ("r7", OURS)
    assert manifest["left_out_columns"]["api_keys"] == ["key_hash"]
    assert set(manifest["left_out_tables"]) == RULES.keys() - names


def test_contents_are_written_once_and_what_is_missing_is_named(store: Store, home: Path) -> None:
    files = open_files(Settings(home=home).files)
    content = files.put(b"what a run has made")
    folder = home / "datastores" / OURS
    folder.mkdir(parents=True)
    (folder / "sales.db").write_bytes(b"rows")
    with store.begin() as tx:
        found = tx.conn.execute(select(StoredFile).where(StoredFile.org_id == OURS)).mappings().all()
        for number in range(2):
            new = dict(found[0]) | {"id": f"more-{number}", "sha256": content.sha256}
            tx.conn.execute(insert(StoredFile), new)
    made = export(store, home)
    with ZipFile(home / "ours.zip") as archive:
        assert archive.testzip() is None
        assert archive.read(f"files/{content.sha256}") == b"what a run has made"
        assert archive.read("datastores/sales.db") == b"rows"
    assert made.files == 1
    assert set(made.missing_files.values()) == {"file_not_stored"}
    assert len(made.missing_files) == 3


def test_the_archive_is_of_one_instant_while_others_write(store: Store, home: Path) -> None:
    def write(what: str, count: int) -> None:
        if (what, count) == ("organisations", 1):
            with store.begin() as tx:
                tx.conn.execute(TaskEvent.__table__.delete())

    assert export(store, home, write).counts["events"] == 3
    with store.read() as conn:
        assert conn.execute(select(func.count()).select_from(TaskEvent)).scalar_one() == 0


def test_an_export_that_fails_leaves_nothing_behind(store: Store, home: Path) -> None:
    def fail(what: str, count: int) -> None:
        if what == "tasks":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export(store, home, fail)
    assert list(home.iterdir()) == []
    (home / "ours.zip").write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        export(store, home)
    assert (home / "ours.zip").read_text() == "mine"
    with pytest.raises(InvalidRequest, match="is no folder"):
        export(store, home / "nowhere")
