"""Whether the tables are of this code's version, answered without Alembic: a start with nothing to migrate is quick."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from runyard_common.settings import Settings

_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
_SELECT: Final = "SELECT version_num FROM alembic_version"
_SECONDS: Final = 5


def newest() -> str | None:
    """The revision that this code needs: migrations are numbered, and their files begin with the number."""
    return max((file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py")), default=None)


def is_newest(settings: Settings) -> bool:
    """Whether the database is at `newest`. False whenever that is not certain: then migrate, which finds out."""
    needed = newest()
    if needed is None:
        return False
    url = settings.database
    if url.startswith("sqlite:///") and "?" not in url:
        return _of_sqlite(url.removeprefix("sqlite:///")) == [needed]
    return url.startswith("postgresql") and _of_postgres(url) == [needed]


def _of_sqlite(file: str) -> list[str]:
    """The versions that a SQLite file records; none where it cannot be read. The file is not created."""
    try:
        connection = sqlite3.connect(f"file:{quote(file)}?mode=rw", uri=True, timeout=_SECONDS)
    except sqlite3.Error:
        return []
    try:
        return [str(version) for (version,) in connection.execute(_SELECT)]
    except sqlite3.Error:
        return []
    finally:
        connection.close()


def _of_postgres(url: str) -> list[str]:
    """The versions that a PostgreSQL database records; none where it cannot be read."""
    import psycopg

    from runyard_common.database.postgres_urls import libpq_url

    try:
        # Not prepared: a pooler in transaction mode may stand between.
        with psycopg.connect(
            libpq_url(url), connect_timeout=_SECONDS, prepare_threshold=None, autocommit=True
        ) as connection:
            return [str(version) for (version,) in connection.execute(_SELECT)]
    except psycopg.Error:
        return []
