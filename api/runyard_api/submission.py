"""Submit a run for a front, and wait for what comes of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy.exc import IntegrityError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from runyard_api import idempotency, metrics
from runyard_api.facts import Facts, facts
from runyard_api.http.call import Call, reply
from runyard_api.waiting import until
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.runs.rules.lifecycle import Cause, Status
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import runs
from runyard_common.runs.service.runs import Caller, Submitted
from runyard_common.sessions.service import replies
from runyard_common.sessions.service.replies import Conversation
from runyard_common.values.errors import Conflict, InvalidRequest, PaymentRequired, RunyardError, WaitTimeout
from runyard_common.values.ids import uuid7
from runyard_common.webhooks.rules.payloads import when

T = TypeVar("T")
_MONEY: Final = frozenset({"balance_exhausted", "budget_exhausted", "quota_exceeded"})


class RunFailed(RunyardError):
    """The run ended without an output."""

    code = "run_failed"
    title = "The run failed"


@dataclass(frozen=True, slots=True)
class Wish:
    """A run that a front was asked for. `session_scope` keeps its conversations apart from other callers'."""

    front: str
    request: RunRequest
    agent: AgentRecord
    session_scope: str = ""
    named_session: str = ""  # a session of this name and the task's id, when the request names none
    files: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run; `replayed` when an earlier request with the same Idempotency-Key stored it."""

    task_id: str
    session_id: str | None
    status: str
    schedules: list[dict[str, Any]]
    replayed: bool = False
    after: int = 0  # the number of the log's entry behind which what this request led to begins


async def submit(call: Call, wish: Wish) -> Run:
    """Store the run, once per Idempotency-Key. Errors: those of `runs.prepare` and `runs.submit`."""
    return await once(call, partial(store, call, wish))


async def once(call: Call, make: Callable[[str | None], Awaitable[Run]], more: str = "") -> Run:
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
    kept = Run(**orjson.loads(bytes(response.body)))
    return replace(kept, replayed="idempotent-replayed" in response.headers)


async def answer(
    call: Call, conversation: Conversation | None, message: str, reserved: str | None
) -> Run | None:
    """The task of this conversation that waited for an answer, which the message is now, or was already when the same
    request came before (`reserved`); None when none waits. Errors: those of `replies.answer`."""
    org_id, actor = call.org_id, call.principal.actor
    if reserved is not None:
        known = await call.state.reader.one(lambda conn: replies.answered_before(conn, org_id, reserved))
        if known is not None:
            return Run(known.task_id, known.session_id, known.status, [], after=known.after)
    waiting = conversation.waiting if conversation is not None else None
    if waiting is None:
        return None
    try:
        await call.state.write(replies.answer, org_id, waiting.id, message, actor, reserved)
    except Conflict:
        return None  # it waits no longer: the message begins a run of its own
    return Run(waiting.id, waiting.session_id, waiting.status.value, [], after=waiting.last_seq)


async def store(call: Call, wish: Wish, reserved: str | None) -> Run:
    """Store the run. Errors: those of `runs.prepare` and `runs.submit`."""
    who, request, task_id = call.principal, wish.request, reserved or uuid7()
    if request.session_id is None and wish.named_session:
        request = request.model_copy(update={"session_id": wish.named_session + task_id})
    caller = Caller(who.org_id, who.actor, wish.front, who.key_id, session_scope=wish.session_scope)
    rules, now = call.state.rules, call.state.now()
    beside = call.in_turn if runs.is_costly(request, wish.agent.manifest) else call.work_on_body
    prepared = await beside(
        runs.prepare, request, wish.agent, caller, rules, now=now, files=wish.files, task_id=task_id
    )
    try:
        submitted: Submitted = await call.state.writer.call(runs.submit, prepared)
    except IntegrityError:
        if reserved is None:
            raise
        task = (await facts(call.state, who.org_id, task_id)).task  # its first sender died before it was told
        return Run(task.id, task.session_id, task.status.value, [])
    metrics.ACCEPTED.inc()
    schedules = [
        {"id": one.id, "kind": one.kind, "next_at": when(one.next_due_at)} for one in submitted.schedules
    ]
    return Run(task_id, submitted.session_id, submitted.accepted.status.value, schedules)


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


async def outcome_or_questions(call: Call, task_id: str) -> Facts:
    """The task once it has completed, or once it waits for answers; its `questions` are those. Errors: as `outcome`."""
    waiting = until(call.state, call.org_id, task_id, _answers_or_asks, call.state.settings.wait_seconds)
    found = await while_connected(call.receive, waiting)
    if found.task.status in (Status.COMPLETED, Status.WAITING_FOR_INPUT):
        return found
    raise failure(found.task)


def _answers_or_asks(seen: Facts) -> bool:
    return seen.ended or (seen.task.status is Status.WAITING_FOR_INPUT and bool(seen.questions))


def failure(task: Task) -> RunyardError:
    """A run that did not complete, as the error its caller is told; it names the task."""
    told: dict[str, Any] = {"task_id": task.id}
    if task.error is None or task.finished_at is None:
        return WaitTimeout(
            f"The run did not end within the time this route waits; it goes on as task {task.id}.", **told
        )
    code, cause, message = task.error.get("code"), task.error.get("cause"), task.error.get("message")
    if code in _MONEY:
        return PaymentRequired(message, code=code, **told)
    if cause == Cause.INPUT:
        return InvalidRequest(message, code=code, field=task.error.get("field"), **told)
    if cause == Cause.DEADLINE:
        return WaitTimeout(message, code=code, **told)
    return RunFailed(message, code=code, **told)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; `ClientDisconnect`, and the work is dropped, once nobody is there to have it.

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
