"""Submit a run for an API surface, and wait for what comes of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from runyard_api import idempotency, metrics
from runyard_api.access.auth import is_still
from runyard_api.http.call import Call, reply
from runyard_api.long_poll import until
from runyard_api.task_snapshot import TaskSnapshot
from runyard_common import tracing
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.lifecycle import Cause, Status
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.specs import AcceptedRun, Judged, RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import runs, submissions
from runyard_common.runs.service.runs import Caller
from runyard_common.sessions.service import replies
from runyard_common.sessions.service.replies import Conversation
from runyard_common.values.errors import (
    ConfigurationChanged,
    Conflict,
    InvalidRequest,
    PaymentRequired,
    RunyardError,
    WaitTimeout,
)
from runyard_common.values.ids import uuid7

T = TypeVar("T")
Prepare = Callable[[str | None], Awaitable[RunSpec]]
Answer = Callable[[AcceptedRun], Awaitable[Response]]
Make = Callable[[str | None], Awaitable[AcceptedRun]]
_ACCEPTED: Final = TypeAdapter(AcceptedRun)
_MONEY: Final = frozenset({"balance_exhausted", "budget_exhausted", "quota_exceeded"})


class RunFailed(RunyardError):
    """The run ended without an output."""

    code = "run_failed"
    title = "The run failed"


async def prepare(
    call: Call,
    front: str,
    request: RunRequest,
    agent: AgentRecord,
    task_id: str | None,
    *,
    end_user_id: str | None = None,
    session_scope: str = "",
    named_session: str = "",
    files: Sequence[dict[str, Any]] = (),
) -> RunSpec:
    """The run that a request by an API surface makes. Errors: those of `runs.prepare`.

    `session_scope` keeps its sessions apart from other callers'. A request that names none gets one of the name
    `named_session` and the task's id.
    """
    task_id = task_id or uuid7()
    if request.session_id is None and named_session:
        request = request.model_copy(update={"session_id": named_session + task_id})
    who = call.principal

    def still(scope: OrgScope) -> bool:
        return is_still(scope.conn, who) and agents.is_still(scope, agent)

    judged = Judged(call.judged_at, still)
    caller = Caller(who.org_id, who.actor, front, who.key_id, end_user_id, session_scope, judged)
    rules, now = call.state.rules, call.state.now()
    judge = call.in_turn if runs.is_costly(request, agent.manifest) else call.work_on_body
    return await judge(runs.prepare, request, agent, caller, rules, now=now, files=files, task_id=task_id)


async def store(call: Call, spec: RunSpec) -> AcceptedRun:
    """Store a run, or find it stored by an earlier sender of the request. Errors: those of `submissions.submit`."""
    if (recorder := tracing.active()) is not None:
        spec = replace(spec, traceparent=recorder.stored())
    try:
        accepted: AcceptedRun = await call.state.writer.call(submissions.submit_remembered, spec)
    except ConfigurationChanged:
        # Judged again from its body on, if that can be read again; else as it was judged when it came.
        if not call.streamed or not await call.permitted():
            raise
        return await store(call, replace(spec, judged=None))
    except IntegrityError:
        known = await call.state.reader.one(lambda conn: submissions.stored(conn, spec))
        if known is None:
            raise
        return known
    metrics.ACCEPTED.inc()
    return accepted


async def answered(call: Call, content: bytes, prepare: Prepare, answer: Answer) -> Response:
    """Store a run once per Idempotency-Key; the answer is kept with the key.

    `content` identifies what is asked, `prepare` makes the run of a task id. Errors: those of both, and of `store`.
    """

    async def produce(reserved: str | None) -> Response:
        return await answer(await store(call, await prepare(reserved)))

    return await idempotency.once(call, content, produce)


async def submit(call: Call, prepare: Prepare) -> AcceptedRun:
    """Store a run once per Idempotency-Key, for an answer that is yet to come. Errors: as `answered`."""

    async def make(reserved: str | None) -> AcceptedRun:
        return await store(call, await prepare(reserved))

    return await once(call, make)


async def once(call: Call, make: Make, more: str = "") -> AcceptedRun:
    """The run that `make` gives, or gave before to the same Idempotency-Key.

    `more` is what the request consists of besides path and body. `make` gets the id to give to what it makes (None:
    any).
    """
    if idempotency.key_of(call) is None:
        return await make(None)

    async def produce(reserved: str | None) -> Response:
        return reply(asdict(await make(reserved)))

    content = hashlib.sha256(await call.raw()).digest() + more.encode()
    response = await idempotency.once(call, content, produce)
    kept = _ACCEPTED.validate_json(bytes(response.body))
    return replace(kept, replayed="idempotent-replayed" in response.headers)


async def answer(
    call: Call, conversation: Conversation | None, message: str, reserved: str | None
) -> AcceptedRun | None:
    """The task of this conversation that waited for an answer, which the message is now, or was already when the same
    request came before (`reserved`); None when none waits. Errors: those of `replies.answer`."""
    org_id, actor = call.org_id, call.actor
    if reserved is not None:
        known = await call.read(replies.answered_before, reserved)
        if known is not None:
            status = Status(known.status)
            return AcceptedRun(known.task_id, status, session_id=known.session_id, after=known.after)
    waiting = conversation.waiting if conversation is not None else None
    if waiting is None:
        return None
    try:
        await call.state.write(replies.answer, org_id, waiting.id, message, actor, reserved)
    except Conflict:
        return None  # it waits no longer: the message begins a run of its own
    return AcceptedRun(waiting.id, waiting.status, session_id=waiting.session_id, after=waiting.last_seq)


async def outcome(call: Call, task_id: str) -> Task:
    """The task once it has completed.

    Errors: `WaitTimeout` (it goes on, and the error names it), and `failure` for one that ended otherwise.
    """
    waiting = until(
        call.state, call.org_id, task_id, lambda seen: seen.ended, call.state.settings.wait_seconds
    )
    task = (await while_connected(call.receive, waiting)).task
    if task.status is Status.COMPLETED:
        return task
    raise failure(task)


async def outcome_or_questions(call: Call, task_id: str) -> TaskSnapshot:
    """The task once it has completed, or once it waits for answers; its `questions` are those. Errors: as `outcome`."""
    waiting = until(call.state, call.org_id, task_id, _answers_or_asks, call.state.settings.wait_seconds)
    found = await while_connected(call.receive, waiting)
    if found.task.status in (Status.COMPLETED, Status.WAITING_FOR_INPUT):
        return found
    raise failure(found.task)


def _answers_or_asks(seen: TaskSnapshot) -> bool:
    return seen.ended or (seen.task.status is Status.WAITING_FOR_INPUT and bool(seen.questions))


def failure(task: Task) -> RunyardError:
    """A run that did not complete, as its caller's error; it names the task."""
    details: dict[str, Any] = {"task_id": task.id}
    if task.error is None or task.finished_at is None:
        return WaitTimeout(
            f"The run did not end within the time this route waits; it goes on as task {task.id}.", **details
        )
    code, cause, message = task.error.get("code"), task.error.get("cause"), task.error.get("message")
    if code in _MONEY:
        return PaymentRequired(message, code=code, **details)
    if cause == Cause.INPUT:
        return InvalidRequest(message, code=code, field=task.error.get("field"), **details)
    if cause == Cause.DEADLINE:
        return WaitTimeout(message, code=code, **details)
    return RunFailed(message, code=code, **details)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; `ClientDisconnect`, and the work is dropped, once the caller has gone.

    The request's body must have been read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
