"""Datastores, their documents, and the passages that a search finds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


class Datastore(SQLModel, table=True):
    """Knowledge that agents search: a database, or documents."""

    __tablename__ = "datastores"
    __table_args__ = (Index("ix_datastores_org", "org_id"),)

    id: str = c.key()
    org_id: str = c.ref()
    name: str = c.text(length=200)
    type: str = c.text(length=16)  # database, documents
    connection: bytes | None = c.blob()  # encrypted connection string
    meta: Any = c.json()  # the names of its metadata, with ******** for their values
    secrets: bytes | None = c.blob()  # encrypted metadata
    created_at: float = c.instant()


class Document(SQLModel, table=True):
    """A document of a datastore."""

    __tablename__ = "documents"
    __table_args__ = (Index("ix_documents_store", "datastore_id"),)

    id: str = c.key()
    org_id: str = c.ref()
    datastore_id: str = c.ref()
    file_id: str | None = c.ref(nullable=True)
    filename: str = c.text(length=255)
    status: str = c.text(length=16)  # processing, indexed, failed
    error: str | None = c.text(nullable=True)
    created_at: float = c.instant()
    indexed_at: float | None = c.instant(nullable=True)


class Passage(SQLModel, table=True):
    """A piece of a document that full-text search finds and cites."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_document", "document_id", "number"),)

    id: int | None = Field(default=None, primary_key=True)
    datastore_id: str = c.ref(index=True)
    document_id: str = c.ref()
    number: int = c.integer()
    page: int | None = Field(default=None)
    text: str = c.text()
