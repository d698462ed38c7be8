"""The Idempotency-Key header: the same request, sent again, is answered again and carried out once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response

from api.call import Call
from common.domain.errors import InvalidRequest, RunyardError
from common.services import idempotency
from common.services.idempotency import Kept, Taken

HEADER: Final = "Idempotency-Key"
LONGEST: Final = 255
_KEPT_HEADERS: Final = ("content-type", "location")
_LARGEST_KEPT: Final = 1 << 20

Produce = Callable[[str | None], Awaitable[Response]]


async def once(call: Call, content: bytes, produce: Produce) -> Response:
    """What `produce` answers, or what it answered before to the same key.

    `content` stands for what is asked, `produce` gets the id to give to what it makes (None: any). What it
    returns below 500 is kept; a refusal it raises frees the key.
    """
    key = key_of(call)
    if key is None:
        return await produce(None)
    state, org_id = call.state, call.org_id
    place = f"{call.method} {call.path} {call.scope['query_string'].decode('latin-1')}"
    identity = hashlib.sha256(place.encode() + b"\0" + content).hexdigest()
    taken = await state.write(idempotency.take, org_id, key, identity)
    if isinstance(taken, Kept):
        return Response(taken.body, taken.status, taken.headers | {"idempotent-replayed": "true"})
    try:
        response = await produce(taken.reserved)
    except RunyardError as refusal:
        if refusal.status < 500:
            await state.write(idempotency.release, org_id, key, taken)
        else:
            await state.write(idempotency.lapse, org_id, key, taken)
        raise
    except Exception:
        await state.write(idempotency.lapse, org_id, key, taken)
        raise
    await _keep(call, key, taken, response)
    return response


async def _keep(call: Call, key: str, taken: Taken, response: Response) -> None:
    body = bytes(response.body)
    if response.status_code >= 500 or len(body) > _LARGEST_KEPT:
        await call.state.write(idempotency.lapse, call.org_id, key, taken)
        return
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    await call.state.write(
        idempotency.keep, call.org_id, key, taken, Kept(response.status_code, headers, body)
    )


def key_of(call: Call) -> str | None:
    """The request's key; `InvalidRequest` invalid_idempotency_key."""
    key = call.headers.get(HEADER)
    if key is not None and not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"An Idempotency-Key has 1 to {LONGEST} printable ASCII characters.",
            code="invalid_idempotency_key",
            field=HEADER,
        )
    return key
