"""A body that is read twice: hashed first, then parsed. Large ones wait on disk meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from runyard_api.http import request_body
from runyard_api.http.call import Call

_IN_MEMORY: Final = 1 << 20
_PIECE: Final = 1 << 16
_SPOOL: Final = "appstrate.spool"


async def digest(call: Call) -> Any:
    """The SHA-256 of the raw body; a multipart body is kept for `pieces`. `PayloadTooLarge`."""
    if request_body.media_type(call.headers) != "multipart/form-data":
        return hashlib.sha256(await call.raw())
    found = hashlib.sha256()
    file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - `pieces` closes it
    call.scope[_SPOOL] = file
    try:
        async for piece in call.stream(call.state.settings.max_upload_bytes):
            found.update(piece)
            file.write(piece)
    except BaseException:  # too large, or the caller has gone
        file.close()
        raise
    return found


def drop(call: Call) -> None:
    """What was kept is needed no more, read or not."""
    file: SpooledTemporaryFile[bytes] | None = call.scope.get(_SPOOL)
    if file is not None:
        file.close()


async def pieces(call: Call) -> AsyncGenerator[bytes, None]:
    """The body of a multipart request, from the wire or from where it was kept."""
    file: SpooledTemporaryFile[bytes] | None = call.scope.get(_SPOOL)
    if file is None:
        async for piece in call.stream(call.state.settings.max_upload_bytes):
            yield piece
        return
    with file:
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
