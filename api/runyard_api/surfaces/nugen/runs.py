"""Run an agent by its normalised name, or by its id, and wait for its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call
from runyard_api.http.operations import Answer, Routes
from runyard_api.http.request_body import Tolerant
from runyard_api.submission import answer, once, outcome, outcome_or_questions, prepare, store
from runyard_api.surfaces.nugen.front import NUGEN, SESSION_HEADER
from runyard_api.surfaces.nugen.live_agents import SESSIONS
from runyard_api.task_snapshot import snapshot
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.specs import AcceptedRun
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.service import replies
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.models import Model

routes = Routes(NUGEN, "nugen")

_LONGEST_SESSION = 255
_ERRORS = (400, 402, 404, 408, 409, 413, 415, 422, 429, 504)


class NugenRunBody(Tolerant):
    """What to say to the agent. Unknown fields are tolerated."""

    message: str = Field(min_length=1, description="User message or prompt.")


class NugenUsage(Model):
    """Tokens used."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class NugenRunAnswer(Model):
    """What the agent answered."""

    agent_id: str
    model: str = Field(description="The model that answered; python for an agent that is code.")
    response: str
    usage: NugenUsage


@routes.post(
    "/run-agents/{agent_name}/run",
    "runs:create",
    body=NugenRunBody,
    headers=(SESSION_HEADER, "Idempotency-Key"),
    answers=[Answer(200, "The agent's answer.", NugenRunAnswer)],
    errors=_ERRORS,
)
async def run_by_name(call: Call) -> Response:
    """Run an agent by its normalised name and wait for its answer.

    The name is lower case with underscores. Calls with the same X-Session-ID are one conversation, for each
    key and agent its own: a question of the agent is its answer, and the next message is the answer to it. A run
    that outlasts the wait goes on; 504 names its task.
    """
    name = call.params["agent_name"]
    agent = await _active(call, name)
    if agent.agent.slug != name:
        raise _unknown(name)
    return await _run(call, agent)


@routes.post(
    "/{agent_id}/run",
    "runs:create",
    body=NugenRunBody,
    headers=(SESSION_HEADER, "Idempotency-Key"),
    answers=[Answer(200, "The agent's answer.", NugenRunAnswer)],
    errors=_ERRORS,
)
async def run_by_id(call: Call) -> Response:
    """Run an agent by its id and wait for its answer (the older path)."""
    return await _run(call, await _active(call, call.params["agent_id"]))


async def _active(call: Call, name: str) -> AgentRecord:
    agent = await call.state.agents.find(call.org_id, name)
    if not agent.is_active:
        raise _unknown(name)
    return agent


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no active agent {name!r}.", code="agent_not_found", field="agent_name")


async def _run(call: Call, agent: AgentRecord) -> Response:
    given = await call.json(NugenRunBody, untyped=True)
    call.state.open_calls.check(call.org_id)
    session = call.headers.get(SESSION_HEADER) or None
    if session is not None and len(session) > _LONGEST_SESSION:
        raise InvalidRequest(
            f"{SESSION_HEADER} has more than {_LONGEST_SESSION} characters.",
            code="invalid_field",
            field=SESSION_HEADER,
        )
    scope = f"{SESSIONS}{call.actor}:{agent.ref.agent_id}"
    request = RunRequest(message=given.message, session_id=session)
    run = await once(call, partial(_carry_out, call, agent, request, scope), session or "")
    headers = {"x-task-id": run.task_id}
    if session is None:  # no question can be answered here: it is answered elsewhere, or the wait ends
        task = await outcome(call, run.task_id)
        return await call.reply_with([task], lambda: shown(task, agent), headers)
    asked = await _asked_before(call, run) if run.replayed else ()
    if asked:
        task = (await snapshot(call.state, call.org_id, run.task_id)).task
    else:
        found = await outcome_or_questions(call, run.task_id)
        task, asked = found.task, [one.payload for one in found.questions]

    def build() -> dict[str, Any]:
        text = "\n".join(str(one.get("text", "")) for one in asked)
        return shown(task, agent) | ({"response": text} if asked else {})

    return await call.reply_with([task], build, headers)


async def _carry_out(
    call: Call, agent: AgentRecord, request: RunRequest, scope: str, reserved: str | None
) -> AcceptedRun:
    """Answer what the session's agent waits for, or else begin a run."""
    session, conversation = request.session_id, None
    if session is not None:
        conversation = await call.state.reader.call(replies.find, (call.org_id, session, scope))
    answered = await answer(call, conversation, request.message or "", reserved)
    if answered is not None:
        return answered
    return await store(call, await prepare(call, NUGEN.name, request, agent, reserved, session_scope=scope))


async def _asked_before(call: Call, run: AcceptedRun) -> Sequence[Mapping[str, Any]]:
    """What the agent asked in answer to a request that was carried out before."""
    found = await call.read(events.first, run.task_id, (Event.ASK.value,), run.after)
    return (found["data"] or {}).get("asked") or () if found is not None else ()


def shown(task: Task, agent: AgentRecord) -> dict[str, Any]:
    used = task.usage or {}
    return {
        "agent_id": task.agent_id,
        "model": used.get("model") or agent.manifest.get("model") or agent.kind,
        "response": as_text(task.output),
        "usage": {name: used.get(name, 0) for name in ("input_tokens", "output_tokens", "total_tokens")},
    }


def as_text(output: Any) -> str:
    """Text as it is, nothing as no text, anything else as JSON."""
    if output is None:
        return ""
    return (
        output if isinstance(output, str) else orjson.dumps(output, option=orjson.OPT_NON_STR_KEYS).decode()
    )
