"""Databases with all tables, copied from one that was migrated: most tests are not about migrations."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from runyard_common.database import migrate
from runyard_common.database.engine import Database
from tests.servers import fresh_database

_SQLITE = "sqlite:///"


def opened(url: str) -> Database:
    """The database at `url` with all tables; made, if it is a SQLite file that does not exist."""
    file = Path(url.removeprefix(_SQLITE))
    fresh = url.startswith(_SQLITE) and not file.exists()
    if fresh:
        file.write_bytes(_migrated_file())
    db = Database(url)
    if not fresh:
        migrate.upgrade(db)
    return db


def migrated_database(admin_url: str) -> str:
    """As `fresh_database`, with all tables."""
    return fresh_database(admin_url, template=_template(admin_url))


@functools.cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory(prefix="runyard-template-") as folder:
        file = Path(folder) / "runyard.db"
        db = Database(f"{_SQLITE}{file}")
        migrate.upgrade(db)
        db.close()
        assert not file.with_name("runyard.db-wal").exists(), (
            "closing the last connection writes all into the file"
        )
        return file.read_bytes()


@functools.cache
def _template(admin_url: str) -> str:
    """One for each test process: a template is copied only while it has no other user."""
    url = fresh_database(admin_url)
    db = Database(url.replace("postgresql://", "postgresql+psycopg://", 1))
    migrate.upgrade(db)
    db.close()
    return url.rpartition("/")[2]
