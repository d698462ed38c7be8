"""Attachments: which file a task was given, under which name; the bytes are in the file store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from runyard_common.tables.query import StoredFile


def get(conn: Connection, org_id: str, file_id: str) -> dict[str, Any] | None:
    """One attachment of an organisation."""
    query = select(*StoredFile.__table__.c).where(StoredFile.id == file_id, StoredFile.org_id == org_id)
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None
