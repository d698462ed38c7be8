"""Attachments, downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from runyard_api.http.call import Call
from runyard_api.http.operations import Answer, Routes
from runyard_api.native.front import NATIVE, NoParameters
from runyard_api.state import State
from runyard_common.runs.queries import attachments
from runyard_common.values.errors import NotFound

routes = Routes(NATIVE, "files")

_BYTES: Final = {"type": "string", "format": "binary"}


@routes.get(
    "/files/{file_id}",
    "files:read",
    query=NoParameters,
    answers=[Answer(200, "The file's bytes.", _BYTES, kind) for kind in ("application/octet-stream", "*/*")],
    errors=(404, 503),
)
async def download(call: Call) -> Response:
    """Download an attachment of a run, by the id in the run's input."""
    call.query(NoParameters)
    org_id, id_ = call.org_id, call.params["file_id"]
    found = await call.state.reader.one(lambda conn: attachments.get(conn, org_id, id_))
    if found is None:
        raise NotFound("There is no such file.", code="file_not_found", field="file_id")
    chunks = await call.state.in_thread(call.state.files.chunks, found["sha256"])
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found['name'], safe='')}",
        "content-length": str(found["size"]),
        "content-security-policy": "sandbox; default-src 'none'",
        "etag": f'"{found["sha256"]}"',
    }
    return StreamingResponse(_pieces(call.state, chunks), headers=headers, media_type=found["media_type"])


async def _pieces(state: State, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await state.in_thread(next, chunks, b""):
        yield piece
