"""Requests with an Idempotency-Key (section 6): one namespace per organisation, refusals kept as well.

Their bodies are read twice: hashed first, then parsed. Large ones wait on disk meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from tempfile import SpooledTemporaryFile
from typing import Any, Final

from starlette.responses import Response

from runyard_api import idempotency
from runyard_api.http import request_body
from runyard_api.http.call import Call
from runyard_api.http.operations import Handler
from runyard_api.surfaces.appstrate import problems

_IN_MEMORY: Final = 1 << 20
_PIECE: Final = 1 << 16
_BUFFERED: Final = "appstrate.buffered_body"
_RESERVED: Final = "appstrate.reserved"
_RULES: Final = idempotency.Rules(
    lambda call, refusal: problems.answer(refusal, call.request_id),
    sealed=True,
    by_place=False,
    empty_is_none=True,
)


def reserved(call: Call) -> str | None:
    """The id to give to what this call makes: a request that takes over from a dead one gets the same."""
    found: str | None = call.scope.get(_RESERVED)
    return found


async def once(call: Call, handler: Handler) -> Response:
    """What the handler answers, or what it answered before to the same key and body. Errors: see `idempotency`."""
    if idempotency.key_of(call, _RULES) is None:
        return await handler(call)

    async def produce(id_: str | None) -> Response:
        call.scope[_RESERVED] = id_
        return await handler(call)

    try:
        return await idempotency.once(call, (await _digest(call)).digest(), produce, _RULES)
    finally:
        _drop(call)


async def _digest(call: Call) -> Any:
    """The SHA-256 of the raw body; a multipart body is kept for `pieces`. `PayloadTooLarge`."""
    if request_body.media_type(call.headers) != "multipart/form-data":
        return hashlib.sha256(await call.raw())
    found = hashlib.sha256()
    file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - `pieces` closes it
    call.scope[_BUFFERED] = file
    try:
        async for piece in call.stream(call.state.settings.max_upload_bytes):
            found.update(piece)
            file.write(piece)
    except BaseException:  # too large, or the caller has gone
        file.close()
        raise
    return found


def _drop(call: Call) -> None:
    """What was kept is needed no more, read or not."""
    file: SpooledTemporaryFile[bytes] | None = call.scope.get(_BUFFERED)
    if file is not None:
        file.close()


async def pieces(call: Call) -> AsyncGenerator[bytes, None]:
    """The body of a multipart request, from the wire or from where it was kept."""
    file: SpooledTemporaryFile[bytes] | None = call.scope.get(_BUFFERED)
    if file is None:
        async for piece in call.stream(call.state.settings.max_upload_bytes):
            yield piece
        return
    with file:
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece
