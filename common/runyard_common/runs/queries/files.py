"""Attachments: which files a task was given, under which names; the bytes are in the file store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables import query as tables

_T = tables.StoredFile


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a task, its bytes under their hash. `created_at` is in epoch seconds."""

    id: str
    org_id: str
    task_id: str
    sha256: str
    name: str
    media_type: str
    size: int
    field: str | None
    created_at: float


def insert_many(tx: Tx, files: Sequence[Attachment]) -> None:
    """Store which files tasks have."""
    if files:
        tx.conn.execute(insert(_T), [rows.values(file) for file in files])


def get(scope: OrgScope, file_id: str) -> Attachment | None:
    """One attachment of an organisation."""
    query = select(*rows.columns(Attachment, _T)).where(_T.id == file_id, _T.org_id == scope.org_id)
    return rows.first(scope.conn, query, Attachment)
