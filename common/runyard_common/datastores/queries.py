"""Datastores: the databases agents may query, and the documents they search, by organisation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, text, update

from runyard_common.database import rows
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Datastore, Document, Passage
from runyard_common.values.json_text import JsonObject

_STORE = Datastore.__table__.c
_DOCUMENT = Document.__table__.c
_WORD: Final = re.compile(r"\w+", re.UNICODE)
_MOST_WORDS: Final = 40


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that matches a search. `score` is higher for better ones; `number` counts within the document."""

    document_id: str
    filename: str
    datastore_id: str
    number: int
    page: int | None
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class DatastoreRow:
    """Knowledge that agents search, as `runyard_common.datastores.tables.Datastore` describes it."""

    id: str
    org_id: str
    name: str
    type: str
    created_at: float
    connection: bytes | None = None
    meta: JsonObject | None = None
    secrets: bytes | None = None


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document of a datastore; one that is new is yet to be indexed."""

    id: str
    org_id: str
    datastore_id: str
    file_id: str | None
    filename: str
    created_at: float
    status: str = "processing"
    error: str | None = None
    indexed_at: float | None = None


def insert_store(tx: Tx, new: DatastoreRow) -> None:
    """Store a datastore."""
    tx.conn.execute(insert(Datastore), rows.values(new))


def named(scope: OrgScope, names: Sequence[str]) -> list[DatastoreRow]:
    """An organisation's datastores with these ids or names."""
    query = select(*_STORE).where(
        _STORE.org_id == scope.org_id, or_(_STORE.id.in_(list(names)), _STORE.name.in_(list(names)))
    )
    return rows.every(scope.conn, query, DatastoreRow)


def server_identity(conn: Connection) -> str | None:
    """The identity of the server of this connection, however it is reached; None for SQLite."""
    if conn.dialect.name != "postgresql":
        return None
    started: str = conn.execute(
        text("SELECT extract(epoch FROM pg_postmaster_start_time())::text")
    ).scalar_one()
    return started


def remove(tx: Tx, org_id: str, datastore_id: str) -> bool:
    """Delete a datastore with its documents and passages; whether there was one."""
    done = tx.conn.execute(delete(Datastore).where(_STORE.id == datastore_id, _STORE.org_id == org_id))
    if done.rowcount:
        tx.conn.execute(delete(Passage).where(Passage.datastore_id == datastore_id))
        tx.conn.execute(delete(Document).where(Document.datastore_id == datastore_id))
    return bool(done.rowcount)


def insert_document(tx: Tx, new: DocumentRow) -> None:
    """Store a document."""
    tx.conn.execute(insert(Document), rows.values(new))


def document(scope: OrgScope, document_id: str) -> DocumentRow | None:
    """One document of an organisation."""
    query = select(*_DOCUMENT).where(_DOCUMENT.id == document_id, _DOCUMENT.org_id == scope.org_id)
    return rows.first(scope.conn, query, DocumentRow)


def set_passages(tx: Tx, found: DocumentRow, passages: Sequence[tuple[str, int | None]]) -> None:
    """Make these (text, page) the passages of a document, which is indexed from this commit on."""
    tx.conn.execute(delete(Passage).where(Passage.document_id == found.id))
    made = [
        {
            "datastore_id": found.datastore_id,
            "document_id": found.id,
            "number": number,
            "page": page,
            "text": words,
        }
        for number, (words, page) in enumerate(passages, 1)
    ]
    if made:
        tx.conn.execute(insert(Passage), made)
    tx.conn.execute(
        update(Document)
        .where(_DOCUMENT.id == found.id)
        .values(status="indexed", error=None, indexed_at=tx.now)
    )


def set_failed(tx: Tx, document_id: str, error: str) -> None:
    """A document could not be read."""
    tx.conn.execute(update(Document).where(_DOCUMENT.id == document_id).values(status="failed", error=error))


def pending(conn: Connection, datastore_ids: Sequence[str]) -> int:
    """How many documents of these datastores are not indexed yet."""
    query = select(func.count()).where(
        _DOCUMENT.datastore_id.in_(list(datastore_ids)), _DOCUMENT.status == "processing"
    )
    return int(conn.execute(query).scalar_one())


_SQLITE = text("""
SELECT p.document_id, d.filename, p.datastore_id, p.number, p.page, p.text, -bm25(passages_fts) AS score
FROM passages_fts JOIN passages p ON p.id = passages_fts.rowid JOIN documents d ON d.id = p.document_id
WHERE passages_fts MATCH :query AND p.datastore_id IN :stores AND d.org_id = :org
ORDER BY bm25(passages_fts), p.id LIMIT :most
""").bindparams(bindparam("stores", expanding=True))
_POSTGRES = text("""
SELECT p.document_id, d.filename, p.datastore_id, p.number, p.page, p.text,
       ts_rank_cd(to_tsvector('english', p.text), query, 1) AS score
FROM passages p JOIN documents d ON d.id = p.document_id, websearch_to_tsquery('english', :query) AS query
WHERE to_tsvector('english', p.text) @@ query AND p.datastore_id IN :stores AND d.org_id = :org
ORDER BY score DESC, p.id LIMIT :most
""").bindparams(bindparam("stores", expanding=True))


def search(
    db: Database, conn: Connection, org_id: str, datastore_ids: Sequence[str], query: str, most: int
) -> list[Found]:
    """The best passages for any of the words of `query`, best first."""
    words = list(dict.fromkeys(_WORD.findall(query.lower())))[:_MOST_WORDS]
    if not words or not datastore_ids:
        return []
    statement = _POSTGRES if db.is_postgres else _SQLITE
    terms = " OR ".join(f'"{word}"' for word in words)
    given = {"query": terms, "stores": list(datastore_ids), "org": org_id, "most": most}
    return rows.every(conn, statement.bindparams(**given), Found)
