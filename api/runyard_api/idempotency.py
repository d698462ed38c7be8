"""The Idempotency-Key header: the same request, sent again, is answered again and carried out once.

`create` is for what one transaction makes: the answer is kept in the same transaction, so that the death of the
process leaves both or neither. `once` is for what takes longer (runs, uploads): a lease, which a live process
extends, marks the request as under way.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from runyard_api.http.call import Call
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries.idempotency import KeptAnswer
from runyard_common.identity.service import idempotency
from runyard_common.identity.service.idempotency import LEASE, Reservation
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, RunyardError

log = structlog.get_logger()
R = TypeVar("R")
HEADER: Final = "Idempotency-Key"
LONGEST: Final = bounds.IDEMPOTENCY_KEY.most
_KEPT_HEADERS: Final = ("content-type", "location")
_LARGEST_KEPT: Final = 1 << 20

Produce = Callable[[str | None], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a surface's contract has otherwise."""

    refusal: Callable[[Call, RunyardError], Response] | None = None  # keeps refusals, shown so
    sealed: bool = False  # answers are kept encrypted: they hold secrets, which repetitions get again
    by_place: bool = True  # a key belongs to a method and path, else to the organisation
    empty_is_none: bool = False


PLAIN: Final = Rules()


async def create(
    call: Call,
    command: Callable[[Tx], R | None],
    answer: Callable[[R], Response],
    first: Callable[[R, Response], Response] | None = None,
    *,
    content: bytes | None = None,
) -> Response:
    """Carry out `command` in one transaction and answer it, or give the answer the same key had before.

    `content` identifies what is asked, by default the body does. A command that returns None is carried out again
    in a transaction of its own. `answer` makes what is kept, in the transaction; `first` adds what only the first
    caller gets (secrets). A refusal it raises leaves the key free.
    """
    key = key_of(call)
    asked = hashlib.sha256(await call.raw()).digest() if content is None else content
    context = copy_context()

    def carry_out(tx: Tx) -> tuple[R, Response] | KeptAnswer | None:
        reservation = (
            None if key is None else idempotency.reserve(tx, call.org_id, key, _identity(call, asked))
        )
        if isinstance(reservation, KeptAnswer):
            return reservation
        made = context.run(command, tx)
        response = None if made is None else context.run(answer, made)
        if key is not None and reservation is not None:
            if response is None:
                idempotency.release(tx, call.org_id, key, reservation)
            else:
                idempotency.keep(tx, call.org_id, key, reservation, _kept(response))
        return None if made is None or response is None else (made, response)

    while (done := await _racing(call, carry_out)) is None:
        pass
    if isinstance(done, KeptAnswer):
        return _replayed(done)
    made, response = done
    return response if first is None else first(made, response)


async def _racing(call: Call, command: Callable[[Tx], R]) -> R:
    """The command's answer; once again where another process has put the same key in between."""
    try:
        return await call.state.write(command)
    except IntegrityError:
        return await call.state.write(command)


async def once(call: Call, content: bytes, produce: Produce, rules: Rules = PLAIN) -> Response:
    """What `produce` answers, or what it answered before to the same key.

    `content` identifies what is asked, `produce` gets the id to give to what it makes (None: any). What it
    returns below 500 is kept; a refusal it raises frees the key, or is kept (`rules`).
    """
    key = key_of(call, rules)
    if key is None:
        return await produce(None)
    identity = _identity(call, content) if rules.by_place else content.hex()
    state, org_id = call.state, call.org_id
    reservation = await _racing(call, lambda tx: idempotency.reserve(tx, org_id, key, identity))
    if isinstance(reservation, KeptAnswer):
        return _replayed(
            replace(reservation, body=state.sealer.open(reservation.body)) if rules.sealed else reservation
        )
    try:
        async with _renewed(call, key, reservation):
            response = await _produced(call, produce, reservation.reserved, rules)
    except BaseException as failure:  # a cancelled request, too, lets its key go
        refused = isinstance(failure, RunyardError) and (failure.status < 500 or rules.refusal is not None)
        await state.write(idempotency.release if refused else idempotency.lapse, org_id, key, reservation)
        raise
    await _keep(call, key, reservation, response, rules)
    return response


async def _produced(call: Call, produce: Produce, reserved: str, rules: Rules) -> Response:
    try:
        return await produce(reserved)
    except RunyardError as refusal:
        if rules.refusal is None or refusal.status >= 500:
            raise
        return rules.refusal(call, refusal)


@asynccontextmanager
async def _renewed(call: Call, key: str, reservation: Reservation) -> AsyncGenerator[None, None]:
    """Extend the lease for as long as the block takes."""
    renewing = asyncio.create_task(_renew(call, key, reservation))
    try:
        yield
    finally:
        renewing.cancel()


async def _renew(call: Call, key: str, reservation: Reservation) -> None:
    while True:
        await asyncio.sleep(LEASE / 3)
        try:
            if not await call.write(idempotency.renew, key, reservation):
                return
        except Exception as error:  # noqa: BLE001 - the next one may get through
            log.warning("The lease of a request was not extended.", action="renew", reason=str(error)[:200])


def _identity(call: Call, content: bytes) -> str:
    place = f"{call.method} {call.path} {call.scope['query_string'].decode('latin-1')}"
    return hashlib.sha256(place.encode() + b"\0" + content).hexdigest()


def _replayed(kept: KeptAnswer) -> Response:
    return Response(kept.body, kept.status, kept.headers | {"idempotent-replayed": "true"})


def _kept(response: Response) -> KeptAnswer:
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    return KeptAnswer(response.status_code, headers, bytes(response.body))


async def _keep(call: Call, key: str, reservation: Reservation, response: Response, rules: Rules) -> None:
    kept = _kept(response)
    if kept.status >= 500 or len(kept.body) > _LARGEST_KEPT:
        again = idempotency.lapse if rules.refusal is None else idempotency.release
        await call.write(again, key, reservation)
        return
    if rules.sealed:
        kept = replace(kept, body=call.state.sealer.seal(kept.body.decode()))
    await call.write(idempotency.keep, key, reservation, kept)


def key_of(call: Call, rules: Rules = PLAIN) -> str | None:
    """The request's key; `InvalidRequest` invalid_idempotency_key."""
    key = call.headers.get(HEADER)
    if key == "" and rules.empty_is_none:
        return None
    if key is not None and not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        many = f"at most {LONGEST}" if rules.empty_is_none else f"1 to {LONGEST}"
        raise InvalidRequest(
            f"An Idempotency-Key has {many} printable ASCII characters.",
            code="invalid_idempotency_key",
            field=HEADER,
        )
    return key
