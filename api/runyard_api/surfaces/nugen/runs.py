"""Run an agent by its normalised name, or by its id, and wait for its answer."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Routes
from runyard_api.submission import outcome, outcome_or_questions, prepare, submit
from runyard_api.surfaces.nugen.front import NUGEN, SESSION_HEADER
from runyard_api.surfaces.nugen.live_agents import SESSIONS
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.runs.rules.tasks import Task
from runyard_common.sessions.service import replies
from runyard_common.values.errors import Conflict, InvalidRequest, NotFound

routes = Routes(NUGEN, "nugen")

_LONGEST_SESSION = 255
_ERRORS = (400, 402, 404, 408, 409, 413, 415, 422, 429, 504)


class NugenRunBody(BaseModel):
    """What to say to the agent. Unknown fields are tolerated."""

    model_config = ConfigDict(extra="ignore")

    message: str = Field(min_length=1, description="User message or prompt.")


class NugenUsage(BaseModel):
    """Tokens used."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class NugenRunAnswer(BaseModel):
    """What the agent said."""

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
    if agent.agent["slug"] != name:
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
    scope = f"{SESSIONS}{call.principal.actor}:{agent.ref.agent_id}"
    task_id = await _answered(call, scope, session, given.message) if session else None
    if task_id is None:
        request = RunRequest(message=given.message, session_id=session)
        run = await submit(call, partial(prepare, call, NUGEN.name, request, agent, session_scope=scope))
        task_id = run.task_id
    if session is None:  # nobody could answer a question here: it is answered elsewhere, or the wait ends
        return reply(answer(await outcome(call, task_id), agent), headers={"x-task-id": task_id})
    found = await outcome_or_questions(call, task_id)
    body = answer(found.task, agent)
    if found.questions:
        body["response"] = "\n".join(str(asked["payload"].get("text", "")) for asked in found.questions)
    return reply(body, headers={"x-task-id": task_id})


async def _answered(call: Call, scope: str, session: str, message: str) -> str | None:
    """The task of this session that waited for an answer, which the message was; None when none waits."""
    found = await call.state.reader.call(replies.find, (call.org_id, session, scope))
    if found is None or found.waiting is None:
        return None
    try:
        await call.state.write(replies.answer, call.org_id, found.waiting.id, message, call.principal.actor)
    except Conflict:
        return None  # it waits no longer: the message begins a run of its own
    return found.waiting.id


def answer(task: Task, agent: AgentRecord) -> dict[str, Any]:
    """A completed task as nugen shows it."""
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
