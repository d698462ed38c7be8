"""POST /create-datastore and /index-document: what agents may search and query."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response

from runyard_api.http import uploads
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.long_poll import until
from runyard_api.submission import while_connected
from runyard_api.surfaces.agentbase.front import AgentbaseRoutes, started
from runyard_common.datastores import queries as datastores
from runyard_common.datastores.service import datastores as service
from runyard_common.datastores.service.datastores import Upload
from runyard_common.values.errors import InvalidRequest, UnsupportedMedia
from runyard_common.values.models import Model
from runyard_common.webhooks.rules.payloads import when

routes = AgentbaseRoutes()

#: How long a call waits for its document, in seconds; what takes longer is still processing. Clients wait a minute
#: for an answer, and no call reports later what became of the document.
_PATIENCE: Final = 20.0
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file", "datastore_id"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "PDF, text, image, …"},
        "datastore_id": {"type": "string", "minLength": 1},
    },
}


class AgentbaseDatastoreMetadata(Model):
    """What a database needs."""

    model_config = ConfigDict(extra="allow")

    connectionString: str | None = Field(None, max_length=4096, description="Kept encrypted.")  # noqa: N815


class AgentbaseDatastoreBody(Tolerant):
    """A datastore to make. Unknown fields are tolerated."""

    name: str = Field(min_length=1, max_length=200)
    type: Literal["database", "documents"]
    metadata: AgentbaseDatastoreMetadata | None = None


class AgentbaseDatastore(Model):
    """A datastore."""

    datastore_id: str
    name: str
    type: Literal["database", "documents"]
    created_at: str


class AgentbaseDocument(Model):
    """A document taken in."""

    document_id: str
    datastore_id: str
    filename: str
    status: Literal["indexed", "processing"]
    indexed_at: str | None


@routes.post(
    "/create-datastore",
    "datastores:write",
    body=AgentbaseDatastoreBody,
    answers=[Answer(200, "The datastore.", AgentbaseDatastore)],
    errors=(408, 409, 413, 415),
)
async def create_datastore(call: Call) -> Response:
    """Make a datastore: documents to search, or a database to query."""
    given = await call.json(AgentbaseDatastoreBody, untyped=True)
    extra = given.metadata.model_dump() if given.metadata else {}
    connection = extra.pop("connectionString", None)
    made = await call.state.write(
        service.create,
        call.state.sealer,
        call.org_id,
        given.name,
        given.type,
        connection,
        extra or None,
        call.actor,
        call.state.rules.policy,
        call.state.settings.home,
    )
    started(call)
    return reply(
        {
            "datastore_id": made.id,
            "name": made.name,
            "type": made.type,
            "created_at": when(made.created_at),
        }
    )


@routes.post(
    "/index-document",
    "datastores:write",
    form=_FORM,
    answers=[Answer(200, "The document.", AgentbaseDocument)],
    errors=(404, 408, 409, 413, 415),
)
async def index_document(call: Call) -> Response:
    """Put a document into a datastore and make it searchable.

    A document that takes long is still `processing` when the answer comes.
    """
    datastore_id, upload = await _upload(call)
    document, task_id = await call.write(service.index_document, datastore_id, upload, call.actor)
    started(call)
    waiting = until(call.state, call.org_id, task_id, lambda seen: seen.ended, _PATIENCE)
    await while_connected(call.receive, waiting)
    found = await call.read(datastores.document, document.id) or document
    if found.status == "failed":
        raise InvalidRequest(
            f"The document cannot be read: {found.error}", code="document_unreadable", field="file"
        )
    return reply(
        {
            "document_id": found.id,
            "datastore_id": found.datastore_id,
            "filename": found.filename,
            "status": found.status,
            "indexed_at": when(found.indexed_at),
        }
    )


async def _upload(call: Call) -> tuple[str, Upload]:
    if not call.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMedia("Send file and datastore_id as multipart/form-data.", field="Content-Type")
    form = await uploads.read_form(call)
    try:
        datastore_id = form.fields.get("datastore_id", "")
        files = [(name, upload) for name, upload in form.files if name == "file"]
        for name, value in (("datastore_id", datastore_id), ("file", files)):
            if not value:
                raise InvalidRequest(f"The field {name!r} is required.", code="missing_field", field=name)
        if len(files) > 1:
            raise InvalidRequest("Send one file a call.", code="too_many_files", field="file")
        [stored] = await uploads.store(call, files)
    finally:
        await form.close()
    return datastore_id, Upload(
        stored["id"], stored["sha256"], stored["name"], stored["media_type"], stored["size"]
    )
