"""Idempotency-Key as the contract has it (section 6): one namespace per organisation, refusals kept as well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response

from runyard_api import idempotency as shared
from runyard_api.http.call import Call
from runyard_api.surfaces.appstrate import problems, spool
from runyard_common.identity.service import idempotency
from runyard_common.identity.service.idempotency import Kept, Reservation
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, RunyardError

HEADER: Final = "Idempotency-Key"
LONGEST: Final = bounds.IDEMPOTENCY_KEY.most
_KEPT_HEADERS: Final = ("content-type", "location")
_LARGEST_KEPT: Final = 1 << 20
_RESERVED: Final = "appstrate.reserved"


def reserved(call: Call) -> str | None:
    """The id to give to what this call makes: a request that takes over from a dead one gets the same."""
    found: str | None = call.scope.get(_RESERVED)
    return found


async def once(call: Call, produce: Callable[[Call], Awaitable[Response]]) -> Response:
    """What `produce` answers, or what it answered before to the same key and body.

    Answers below 500 are kept for 24 hours, refusals too; a failure frees the key. Errors:
    `InvalidRequest` invalid_idempotency_key, `IdempotencyInProgress`, `IdempotencyConflict`.
    """
    key = key_of(call)
    if key is None:
        return await produce(call)
    try:
        return await _once(call, key, (await spool.digest(call)).hexdigest(), produce)
    finally:
        spool.drop(call)


async def _once(
    call: Call, key: str, content: str, produce: Callable[[Call], Awaitable[Response]]
) -> Response:
    org_id, state = call.org_id, call.state
    reservation = await shared.reserve(call, key, content)
    if isinstance(reservation, Kept):
        body = state.sealer.open(reservation.body)
        return Response(body, reservation.status, reservation.headers | {"idempotent-replayed": "true"})
    call.scope[_RESERVED] = reservation.reserved
    try:
        async with shared.renewed(call, key, reservation):
            response = await produce(call)
    except RunyardError as refusal:
        if refusal.status >= 500:  # told before anything was stored
            await state.write(idempotency.release, org_id, key, reservation)
            raise
        response = problems.answer(refusal, call.request_id)
    except BaseException:  # nobody knows what was stored: the same request may take over, with the same id
        await state.write(idempotency.lapse, org_id, key, reservation)
        raise
    await _keep(call, key, reservation, response)
    return response


async def _keep(call: Call, key: str, reservation: Reservation, response: Response) -> None:
    body = bytes(response.body)
    if response.status_code >= 500 or len(body) > _LARGEST_KEPT:
        await call.state.write(idempotency.release, call.org_id, key, reservation)
        return
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    # Sealed: a webhook's answer tells its secret, and a repetition tells it again.
    kept = Kept(response.status_code, headers, call.state.sealer.seal(body.decode()))
    await call.state.write(idempotency.keep, call.org_id, key, reservation, kept)


def key_of(call: Call) -> str | None:
    """The request's key, None without one or an empty one; `InvalidRequest` invalid_idempotency_key."""
    key = call.headers.get(HEADER)
    if key and not (len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"An Idempotency-Key has at most {LONGEST} printable ASCII characters.",
            code="invalid_idempotency_key",
            field=HEADER,
        )
    return key or None
