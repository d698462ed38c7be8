"""Datastores, their documents, and the passages that a search finds."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Datastore(c.Table):
    """Knowledge that agents search: a database, or documents."""

    __tablename__ = "datastores"
    __table_args__ = (Index("ix_datastores_org", "org_id"),)

    id = c.key()
    org_id = c.ref()
    name = c.text(length=200)
    type = c.text(length=16)  # database, documents
    connection = c.blob()  # encrypted connection string
    meta = c.json()  # the names of its metadata, with ******** for their values
    secrets = c.blob()  # encrypted metadata
    created_at = c.instant()


class Document(c.Table):
    """A document of a datastore."""

    __tablename__ = "documents"
    __table_args__ = (Index("ix_documents_store", "datastore_id"),)

    id = c.key()
    org_id = c.ref()
    datastore_id = c.ref()
    file_id = c.ref(nullable=True)
    filename = c.text(length=255)
    status = c.text(length=16)  # processing, indexed, failed
    error = c.text(nullable=True)
    created_at = c.instant()
    indexed_at = c.instant(nullable=True)


class Passage(c.Table):
    """A piece of a document that full-text search finds and cites."""

    __tablename__ = "passages"
    __table_args__ = (Index("ix_passages_document", "document_id", "number"),)

    id = c.integer32(primary_key=True)
    datastore_id = c.ref(index=True)
    document_id = c.ref()
    number = c.integer()
    page = c.integer32(nullable=True)
    text = c.text()
