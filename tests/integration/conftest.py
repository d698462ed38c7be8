"""A database of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind, with all tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runyard.db'}"
    migrated: Callable[[], str] = request.getfixturevalue("migrated_database")
    return migrated().replace("postgresql://", "postgresql+psycopg://", 1)


__all__ = ["AsyncIterator", "database_url"]
