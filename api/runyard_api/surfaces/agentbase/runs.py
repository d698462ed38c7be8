"""POST / and /run-agent: run an agent, and stream what it does or answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from runyard_api import sse
from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.submission import answer, once, prepare, store
from runyard_api.surfaces.agentbase.front import AGENTBASE, AgentbaseRoutes, started
from runyard_api.surfaces.agentbase.stream import RunStream
from runyard_api.surfaces.agentbase.wire import AgentbaseAccepted, AgentbaseParameters, AgentbaseRunBody
from runyard_common.agents.rules.manifests import Manifest
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.runs.rules.specs import AcceptedRun, RunSpec
from runyard_common.sessions.service import replies
from runyard_common.sessions.service.replies import Conversation
from runyard_common.stream import Subscription
from runyard_common.values.errors import NotFound
from runyard_common.webhooks.rules import callback_events as words
from runyard_common.webhooks.rules.payloads import when

routes = AgentbaseRoutes()

#: How the names of sessions begin that a call without one opens.
_SESSION: Final = "agent_session_"
#: The agent that answers calls which name none: published for every organisation on first use. An organisation that
#: publishes an agent of the same name gives its own callers another default.
_ASSISTANT: Final = {
    "name": "@runyard/assistant",
    "version": "1.0.0",
    "description": "Does what its caller's message says, with the tools the call brings.",
    "instructions": "You do the task the user gives you. Use your tools where they help, keep to the rules you "
    "are given, and answer plainly with the result.",
    "functional": False,
    "timeout": 3600,
}


@routes.post(
    "",
    "runs:create",
    query=AgentbaseParameters,
    body=AgentbaseRunBody,
    headers=("Idempotency-Key",),
    prefixes=("/", "/run-agent", "/agentbase", "/agentbase/run-agent"),
    answers=[
        Answer(
            200,
            "The events, as they happen.",
            sse.described("A JSON object with `type`, `session` and `task_id`."),
            "text/event-stream",
        ),
        Answer(
            200,
            "With background: the run is stored. To callers that accept text/event-stream, one event that holds this.",
            AgentbaseAccepted,
        ),
    ],
    errors=(404, 408, 409, 413, 415, 422, 429),
)
async def run_agent(call: Call) -> Response:
    """Run an agent on a message and stream what it does.

    The stream holds unnamed events, one JSON object each, from agent_started to agent_completed or agent_error.
    A client that leaves does not stop the run. With background the answer is JSON at once, and events go to
    the callback; a caller that accepts text/event-stream alone gets that answer as the only event of a stream.
    A message to a session whose agent waits for an answer is that answer.
    """
    given = call.query(AgentbaseParameters)
    body = await call.json(AgentbaseRunBody, untyped=True)
    if not body.background:
        call.state.open_calls.check(call.org_id)
    conversation = await find_conversation(call, given.session) if given.session else None
    begun = _Begun()
    try:
        run = await once(call, partial(_carry_out, call, given, body, conversation, begun))
        return _respond(call, body, run, begun.heard)
    except BaseException:
        if begun.heard is not None:
            begun.heard.close()
        raise


@dataclass(slots=True)
class _Begun:
    """What is heard of a run from before it could start: its tokens are sent once, and kept nowhere."""

    heard: Subscription | None = None

    async def store(self, call: Call, spec: RunSpec) -> AcceptedRun:
        """Store the run, and follow it."""
        self.heard = call.state.follower.follow(call.org_id, spec.task_id, tokens=True)
        return await store(call, spec)


async def _carry_out(
    call: Call,
    given: AgentbaseParameters,
    body: AgentbaseRunBody,
    conversation: Conversation | None,
    begun: _Begun,
    reserved: str | None,
) -> AcceptedRun:
    """Answer what the session's agent waits for, or else begin a run."""
    answered = await answer(call, conversation, body.message, reserved)
    if answered is not None:
        return answered
    agent = await (call.state.agents.find(call.org_id, given.agent) if given.agent else _default(call))
    request = body.request(conversation.session.id if conversation else None)
    spec = await prepare(call, AGENTBASE.name, request, agent, reserved, named_session=_SESSION)
    return await (
        begun.store(call, spec) if body.streaming_tokens and not body.background else store(call, spec)
    )


async def find_conversation(call: Call, session: str) -> Conversation:
    """The conversation of this id or name; `NotFound` SESSION_NOT_FOUND."""
    found = await call.state.reader.call(replies.find, (call.org_id, session, ""))
    if found is None:
        raise NotFound("There is no such session.", code="SESSION_NOT_FOUND", field="session")
    return found


async def _default(call: Call) -> AgentRecord:
    """The agent of calls that name none, published if need be."""
    import nodesemver

    state, default = call.state, Manifest.model_validate(_ASSISTANT)
    try:
        found = await state.agents.find(call.org_id, default.name)
        if not found.agent.shared or not nodesemver.lt(found.ref.version, default.version, False):
            return found
    except NotFound:
        pass
    try:
        # For all organisations: it belongs to the operator's. An older version may be an older server's.
        await state.write(agents.publish, state.org_id, default, by="system", shared=True)
    except IntegrityError:
        pass  # another process has published it this very moment
    await state.configured_at(call.org_id)
    return await state.agents.find(call.org_id, default.name)


def _accepted(call: Call, run: AcceptedRun) -> Response:
    """The answer to a background call. The published clients read event streams and nothing else: one of JSON is an
    iteration without any event to them."""
    accepted = {
        "taskId": run.task_id,
        "task_id": run.task_id,
        "status": "queued",
        "session": run.session_id,
        "schedules": _schedules(run),
    }
    if not call.accepts("text/event-stream") or call.accepts("application/json"):
        return reply(accepted)
    event = words.body_of({"type": "agent_started"} | accepted, run.task_id, run.session_id)
    return Response(
        f"data: {event}\n\n",
        media_type="text/event-stream",
        headers={"cache-control": "no-cache, no-transform"},
    )


def _schedules(run: AcceptedRun) -> list[dict[str, Any]]:
    return [{"id": one.id, "kind": one.kind, "next_at": when(one.next_due_at)} for one in run.schedules]


def _respond(call: Call, body: AgentbaseRunBody, run: AcceptedRun, heard: Subscription | None) -> Response:
    """The answer to a call whose run is stored; from here on no client is to repeat it."""
    started(call)
    call.response_headers["x-task-id"] = run.task_id
    if body.background:
        return _accepted(call, run)
    opening: dict[str, Any] = {"type": "agent_started"}
    if run.schedules:
        opening["schedules"] = _schedules(run)
    stream = RunStream(call, run.task_id, run.session_id, bool(body.streaming_tokens), heard)
    return sse.response(call.state, call.org_id, stream.frames(opening, run.after), heard)
