"""From a request to an answer: authenticate, permit, handle; every failure becomes its front's answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runyard_api import metrics
from runyard_api.access.auth import require
from runyard_api.access.capacity import PIECE
from runyard_api.batched_reads import unavailable
from runyard_api.http.call import Call
from runyard_api.http.operations import Front, Operation, Render
from runyard_api.http.request_span import answer_in_span
from runyard_common.database import outages
from runyard_common.files import CHUNK_BYTES
from runyard_common.values.errors import (
    ConfigurationChanged,
    MethodNotAllowed,
    NotFound,
    RunyardError,
    Unavailable,
    WaitTimeout,
)
from runyard_common.values.networks import network_of

log = structlog.get_logger()

#: Methods that change nothing: their answers may be refused once their size is known.
_SAFE: Final = frozenset({"GET", "HEAD"})
#: When to come back to a part that is away and names no time itself, in seconds.
_RETRY_AFTER: Final = 5.0
#: How often a request is judged again because what it was judged by has changed.
_TRIES: Final = 3


class Endpoint:
    """The ASGI application of one path: its operations by method."""

    def __init__(self, operations: Sequence[Operation], besides: Sequence[str] = ()) -> None:
        """`besides` are methods that something else answers on the same path."""
        self._by_method: dict[str, Operation] = {}
        for operation in operations:
            self._by_method[operation.method] = operation
            if operation.method == "GET":
                self._by_method.setdefault("HEAD", operation)
        self._front = operations[0].front
        self._allowed = sorted({*self._by_method, *besides})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        call = Call(scope, receive)
        operation = self._by_method.get(call.method)
        try:
            response = await answer_in_span(call, operation, self._answer)
        except ClientDisconnect:
            return  # the caller is gone
        if call.response_headers:
            response.headers.update(call.response_headers)
        name = operation.name if operation else "none"
        metrics.answered(name, call.method, response.status_code, time.perf_counter() - began)
        if response.status_code >= 400 and call.leaves_much_unread:
            response.headers["connection"] = "close"  # rather than read and discard it
        with _counted(call, response):
            await response(scope, receive, send)

    async def _answer(self, call: Call, operation: Operation | None) -> Response:
        front = operation.front if operation else self._front
        try:
            if operation is None:
                return self._refuse_method(call)
            return await perform(call, operation)
        except RunyardError as error:
            return _refuse(call, front, error)
        except ClientDisconnect:
            raise
        except Exception as error:
            if (outage := _outage(error)) is not None:
                log.warning(outage.message, action="request", path=call.path, reason=str(error)[:300])
                return front.render(call, outage)
            log.exception(
                "A request failed inside.", action="request", path=call.path, request_id=call.request_id,
                database=isinstance(error, DBAPIError),
            )  # fmt: skip
            return front.render(call, RunyardError("Internal error. The log has the details."))

    def _refuse_method(self, call: Call) -> Response:
        return refuse_method(call, self._front.render, self._allowed)


def refuse_method(call: Call, render: Render, allowed: Sequence[str]) -> Response:
    """The 405 of a path, which names the methods that it does answer (RFC 9110, section 15.5.6)."""
    named = f"{', '.join(allowed[:-1])} and {allowed[-1]}" if len(allowed) > 1 else allowed[0]
    response = render(call, MethodNotAllowed(f"This path answers {named}, not {call.method[:40]}."))
    response.headers["allow"] = ", ".join(allowed)
    return response


def _outage(error: Exception) -> Unavailable | None:
    """The refusal that an outage of the database or a full disk becomes; None for any other error."""
    if outages.is_full(error):
        return Unavailable("The server's disk is full; nothing was stored.", code="disk_full", retry_after=30)
    if outages.is_away(error):
        return unavailable()
    return None


async def perform(call: Call, operation: Operation) -> Response:
    if "\0" in call.path:
        raise NotFound("Nothing has a name with a NUL character.", code="not_found", field="path")
    if operation.counted_by_address:
        count_by_address(call)
    if operation.permission is not None:
        await _identify(call, operation)
        call.state.organisation_rates.check(call.org_id)
        call.state.unread.check(call.org_id)
        _permit(call, operation)
        call.permitted = partial(_still_permitted, call, operation)
        if not _checks_memory(call, operation):
            await call.begin_body()
            await _identify_again(call, operation)
        response = await _handled(call, operation)
    else:
        response = await operation.handler(call)
    if call.known and call.method in _SAFE and (size := _size(response)) > PIECE:
        call.state.unread.check(call.org_id, size)
    return response


async def _identify(call: Call, operation: Operation) -> None:
    """Who calls, as far as this process knows."""
    who = await operation.front.authenticate(call)
    call.admit(who, operation.front.name)
    call.judged_at = (
        call.state.db.memory.number(who.org_id) if who.configured_at is None else who.configured_at
    )


def _permit(call: Call, operation: Operation) -> None:
    """Whether they may: a request that may not counts all the same."""
    if operation.permission is not None and not operation.late:
        require(call.principal, operation.permission)


async def _identify_again(call: Call, operation: Operation) -> bool:
    """See whether the organisation's configuration has changed since the caller was known, and who calls then."""
    if await call.state.configured_at(call.org_id) == call.judged_at:
        return False
    await _identify(call, operation)
    _permit(call, operation)
    return True


def _checks_memory(call: Call, operation: Operation) -> bool:
    """Whether the operation does so in this call: a dry run, a kept answer, a long poll and a form do not."""
    headers = call.headers
    return (
        operation.checks_memory
        and not call.scope["query_string"]
        and "idempotency-key" not in headers
        and not headers.get("content-type", "").startswith("multipart/")
    )


async def _handled(call: Call, operation: Operation) -> Response:
    """The handler's answer; once more where it was refused for what another process has changed meanwhile."""
    for _ in range(_TRIES):
        try:
            return await operation.handler(call)
        except RunyardError as refusal:
            looked = not isinstance(refusal, ConfigurationChanged) and not _checks_memory(call, operation)
            if looked or call.streamed or not await _identify_again(call, operation):
                raise
    return await operation.handler(call)


def count_by_address(call: Call) -> None:
    """Count a request that needs no key; `TooManyRequests` beyond the rate."""
    call.state.open_rates.check(network_of(call.address))


def _counted(call: Call, response: Response) -> AbstractContextManager[None]:
    """Counts the answer's bytes until the connection has taken them. Streams count theirs themselves."""
    if not call.known or (size := _size(response)) <= PIECE:
        return nullcontext()
    return call.state.unread.count(call.org_id, size)


def _size(response: Response) -> int:
    """Bytes that the answer has in memory."""
    if isinstance(response, StreamingResponse):
        return CHUNK_BYTES
    return len(getattr(response, "body", b""))


async def _still_permitted(call: Call, operation: Operation) -> bool:
    await call.state.configured_at(call.org_id)
    try:
        now = await operation.front.authenticate(call)
    except RunyardError:
        return False
    return now.org_id == call.org_id and operation.permission in now.permissions


def _refuse(call: Call, front: Front, error: RunyardError) -> Response:
    if isinstance(error, Unavailable) and error.retry_after is None:
        error.retry_after = _RETRY_AFTER
    if error.status >= 500:
        expected = isinstance(error, WaitTimeout)  # the run goes on, and its caller learns how to reach it
        (log.info if expected else log.error)(
            "A request failed.", action="request", path=call.path, code=error.code, request_id=call.request_id
        )
    return front.render(call, error)


def by_path(operations: Sequence[Operation]) -> Mapping[str, list[Operation]]:
    """Operations by the path they answer on, in the order of declaration."""
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        for path in operation.paths:
            found.setdefault(path, []).append(operation)
    return found
