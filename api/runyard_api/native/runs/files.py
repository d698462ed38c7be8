"""Attachments, downloaded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from runyard_api.http.call import Call
from runyard_api.http.operations import Answer
from runyard_api.native.front import NativeRoutes
from runyard_api.state import State
from runyard_common.runs.queries import files
from runyard_common.values.errors import NotFound

routes = NativeRoutes("files")

_BYTES: Final = {"type": "string", "format": "binary"}


@routes.get(
    "/files/{file_id}",
    "files:read",
    answers=[Answer(200, "The file's bytes.", _BYTES, kind) for kind in ("application/octet-stream", "*/*")],
    errors=(503,),
)
async def download(call: Call) -> Response:
    """Download an attachment of a run, by the id in the run's input."""
    found = await call.read(files.get, call.params["file_id"])
    if found is None:
        raise NotFound("There is no such file.", code="file_not_found", field="file_id")
    chunks = await call.state.in_thread(call.state.files.chunks, found.sha256)
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found.name, safe='')}",
        "content-length": str(found.size),
        "content-security-policy": "sandbox; default-src 'none'",
        "etag": f'"{found.sha256}"',
    }
    return StreamingResponse(_pieces(call.state, chunks), headers=headers, media_type=found.media_type)


async def _pieces(state: State, chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await state.in_thread(next, chunks, b""):
        yield piece
