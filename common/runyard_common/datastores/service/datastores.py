"""Datastores: create one, hand it a document to index, list and remove; and what the indexing run writes.

A document is indexed by a run of `INDEXER`, a built-in agent, so that it is as durable as any other work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runyard_common.agents.rules.manifests import Manifest
from runyard_common.agents.service import agents
from runyard_common.credentials.rules.documents import SEALED
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.group_commit import locks_tasks
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.datastores import queries as datastores
from runyard_common.datastores.queries import DatastoreRow, DocumentRow
from runyard_common.datastores.service.addresses import check_connection
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.outbound import OutboundPolicy
from runyard_common.runs.queries.transitions import lock, owns
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service import submissions
from runyard_common.values import ids
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound, RunyardError, StaleFence
from runyard_common.values.ids import uuid7
from runyard_common.values.json_text import JsonObject

TYPES: Final = ("database", "documents")
#: `config.builtin` of the indexing agent's manifest.
INDEX_DOCUMENT: Final = "index_document"
INDEXER: Final = {
    "name": "@runyard/index-document",
    "version": "1.0.0",
    "description": "Reads an attached document and makes it searchable.",
    "config": {"builtin": INDEX_DOCUMENT},
    "input": {"schema": {"type": "object", "required": ["document_id"]}},
    "timeout": 600,
}


@dataclass(frozen=True, slots=True)
class Upload:
    """A file already in the file store, as the run's input names it. `size` is in bytes."""

    id: str
    sha256: str
    name: str
    media_type: str
    size: int

    def to_json(self) -> JsonObject:
        """As in a task's input."""
        return {
            "id": self.id,
            "sha256": self.sha256,
            "name": self.name,
            "media_type": self.media_type,
            "size": self.size,
            "field": "file",
        }


def folder(home: Path, org_id: str) -> Path:
    """Where the SQLite files of an organisation lie."""
    return home / "datastores" / org_id


def files(home: Path, org_id: str) -> list[Path]:
    """The files in that folder; a link is none of them."""
    found = sorted(folder(home, org_id).rglob("*"))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def create(
    tx: Tx,
    sealer: Sealer,
    org_id: str,
    name: str,
    type_: str,
    connection: str | None = None,
    meta: Mapping[str, Any] | None = None,
    by: str | None = None,
    policy: OutboundPolicy | None = None,
    home: Path | None = None,
) -> DatastoreRow:
    """Create a datastore. `connection` is a database's connection string.

    `meta` is further metadata, of which only the names are kept readable. With `home` a SQLite file must be there.

    Errors: `InvalidRequest` invalid_datastore; `UrlRefused` for a server that `policy` keeps out of reach.
    """
    if not name.strip() or len(name) > 200:
        raise _invalid("A datastore needs a name of at most 200 characters.", "name")
    if type_ not in TYPES:
        raise _invalid("The type is database or documents.", "type")
    sealed = None
    if type_ == "database":
        check_connection(connection, policy, folder(home, org_id) if home is not None else None)
        sealed = sealer.seal(connection)
    made = DatastoreRow(
        id=ids.token("ds_"),
        org_id=org_id,
        name=name.strip(),
        type=type_,
        created_at=tx.now,
        connection=sealed,
        meta=dict.fromkeys(meta, SEALED) if meta else None,
        secrets=sealer.seal(meta) if meta else None,
    )
    caps.check(tx, org_id, "datastores")
    datastores.insert_store(tx, made)
    if by is not None:
        identity.audit(tx, org_id, by, "datastore.create", made.id, {"name": made.name, "type": type_})
    return made


def index_document(
    tx: Tx, org_id: str, datastore_id: str, upload: Upload, created_by: str | None = None
) -> tuple[DocumentRow, str]:
    """Store a document and submit the run that indexes it; the document and the task's id.

    Errors: `NotFound` datastore_not_found; `Conflict` not_a_document_store; those of `submissions.submit`.
    """
    store = find(tx.scope(org_id), datastore_id)
    if store.type != "documents":
        raise Conflict(
            "This datastore is a database; documents go into one of type documents.",
            code="not_a_document_store",
            field="datastore_id",
        )
    caps.check(tx, org_id, "documents", of=store.id)
    document = DocumentRow(ids.token("doc_"), org_id, store.id, upload.id, upload.name, tx.now)
    datastores.insert_document(tx, document)
    agent = agents.publish(tx, org_id, Manifest.model_validate(INDEXER), by="system")
    spec = RunSpec(
        task_id=uuid7(),
        org_id=org_id,
        agent=agent.ref,
        front="native",
        input={"args": {"document_id": document.id}, "files": [upload.to_json()]},
        title=f"Index {upload.name}"[:200],
        created_by=created_by,
    )
    accepted = submissions.submit(tx, [spec])[0]
    if isinstance(accepted, RunyardError):
        raise accepted
    return document, accepted.task_id


def find(scope: OrgScope, datastore: str) -> DatastoreRow:
    """A datastore by id, or by name; `NotFound` datastore_not_found."""
    found = datastores.named(scope, [datastore])
    by_id = next((row for row in found if row.id == datastore), None)
    if by_id is None and not found:
        raise NotFound(
            f"There is no datastore {datastore!r}.", code="datastore_not_found", field="datastores"
        )
    return by_id or found[0]


def remove(tx: Tx, org_id: str, datastore_id: str) -> None:
    """Delete a datastore and everything in it; `NotFound` datastore_not_found."""
    if not datastores.remove(tx, org_id, datastore_id):
        raise NotFound("There is no such datastore.", code="datastore_not_found")


@dataclass(frozen=True, slots=True)
class Indexed:
    """What an indexing run found in a document: passages (text, page), or why it could not be read."""

    task_id: str
    fence: Fence
    org_id: str
    document_id: str
    passages: tuple[tuple[str, int | None], ...] = ()
    error: str | None = None


@locks_tasks
def store_passages(tx: Tx, commands: Sequence[Indexed]) -> list[int | RunyardError]:
    """Make each document searchable; how many passages it has. `StaleFence` for an attempt that is over,
    `NotFound` document_not_found for a document that was removed meanwhile."""
    heads = lock(tx, (c.task_id for c in commands))
    answers: list[int | RunyardError] = []
    for c in commands:
        if not owns(heads.get(c.task_id), c.fence):
            answers.append(StaleFence(task_id=c.task_id, attempt=c.fence.attempt))
            continue
        row = datastores.document(tx.scope(c.org_id), c.document_id)
        if row is None:
            answers.append(NotFound("The document was removed.", code="document_not_found"))
        elif c.error is not None:
            datastores.set_failed(tx, c.document_id, c.error)
            answers.append(0)
        else:
            datastores.set_passages(tx, row, c.passages)
            answers.append(len(c.passages))
    return answers


def _invalid(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_datastore", field=field)
