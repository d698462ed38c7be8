"""POST and GET /api/agent/run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final, Literal

from pydantic import Field, JsonValue
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer, Routes
from runyard_api.http.request_body import Tolerant
from runyard_api.submission import outcome, prepare, submit
from runyard_api.surfaces.nara.front import NARA
from runyard_api.surfaces.nara.trace import messages, truthy
from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentRow
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import events
from runyard_common.runs.rules.run_request import RunRequest
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import qualify
from runyard_common.values.models import Model

routes = Routes(NARA, "nara")

SESSION: Final = "api-"
#: Agents of this scope do the server's own work.
BUILT_IN: Final = "@runyard/"
_PAGE: Final = 500
_MOST_EVENTS: Final = 5_000


_ARGS: Final[JsonValue] = [
    {"type": "object"},
    {"type": "array", "items": {}},
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
]


class NaraRunBody(Tolerant):
    """Which agent to run, with which arguments. Unknown fields are tolerated."""

    agentName: str = Field(min_length=1, max_length=200, description="A name that GET lists.")  # noqa: N815
    args: Any = Field(
        description="Checked against the agent's argument schema.",
        json_schema_extra={"anyOf": _ARGS},
    )


class NaraMessage(Model):
    """A message of the trace."""

    role: Literal["assistant"]
    parts: list[dict[str, Any]] = Field(description="Each with its `type`: text, reasoning, tool-…, data-….")


class NaraRunResult(Model):
    """What the agent gave."""

    success: Literal[True]
    sessionId: str = Field(description="api-<uuid>; the UUID is the task's.")  # noqa: N815
    agent: str
    output: Any = Field(description="The structured result; never a falsy value.")
    messages: list[NaraMessage] = Field(description="The execution trace.")
    agentExecutionId: str = Field(description="The task's id.")  # noqa: N815


class NaraAgentName(Model):
    """An agent that can be run."""

    name: str


class NaraAgentList(Model):
    """The functional agents of the organisation."""

    agents: list[NaraAgentName]


@routes.post(
    "/run",
    "runs:create",
    body=NaraRunBody,
    headers=("Idempotency-Key",),
    answers=[Answer(200, "The agent has finished.", NaraRunResult)],
    errors=(400, 402, 404, 408, 409, 413, 415, 422, 429, 504),
)
async def run_agent(call: Call) -> Response:
    """Run a functional agent and wait for its result.

    Needs the role admin. A run that outlasts the wait goes on; 504 names its task.
    """
    given = await call.json(NaraRunBody)
    call.state.open_calls.check(call.org_id)
    agent = await _functional(call, given.agentName)
    if given.args is None:
        raise InvalidRequest("args is required, and not null.", code="missing_field", field="args")
    request = RunRequest(args=given.args)
    run = await submit(call, partial(prepare, call, NARA.name, request, agent, named_session=SESSION))
    task = await outcome(call, run.task_id)
    log = await call.read(events.outline, task.id, _MOST_EVENTS)

    def build() -> dict[str, Any]:
        return {
            "success": True,
            "sessionId": SESSION + task.id,
            "agent": given.agentName,
            "output": truthy(task.output),
            "messages": messages(log, task.output),
            "agentExecutionId": task.id,
        }

    return await call.reply_with([task], build, besides=log.bytes)


async def _functional(call: Call, name: str) -> AgentRecord:
    agent = await call.state.agents.find(call.org_id, name)
    if not agent.is_active:
        raise NotFound(f"There is no agent {name!r}.", code="agent_not_found", field="agentName")
    if not agent.functional:
        raise InvalidRequest(
            f"{agent.ref.name} is a chat agent; only functional agents run here.",
            code="agent_not_functional",
            field="agentName",
        )
    return agent


@routes.get("/run", "agents:read", answers=[Answer(200, "The agents.", NaraAgentList)])
async def list_runnable(call: Call) -> Response:
    """List the functional agents of the organisation, by the names that POST takes.

    Needs the role admin.
    """
    org_id = call.org_id
    found = await call.read(_visible)
    names = short_names(found, org_id)
    listed = [names[a.id] for a in found if _is_runnable(a)]
    return reply({"agents": [{"name": name} for name in sorted(listed)]})


def _is_runnable(agent: AgentRow) -> bool:
    can_run = agent.is_active and agent.functional and agent.version_id
    return bool(can_run) and not agent.name.startswith(BUILT_IN)


def _visible(scope: OrgScope) -> list[AgentRow]:
    found: list[AgentRow] = []
    while page := agents.page(scope, _PAGE, found[-1].id if found else None):
        found += page
    return found


def short_names(agents: Iterable[AgentRow], org_id: str) -> dict[str, str]:
    """Each agent's id with the shortest name that means it: its normalised name, or ``@scope/name``.

    `agents` are all that the organisation may run. A normalised name means the agent of that name in
    ``@default``, else the organisation's own, else the oldest: as `agents.service.agents` looks it up.
    """
    known = list(agents)
    full = {(a.name, a.org_id == org_id): a.id for a in known}
    slugs: dict[str, str] = {}
    for agent in sorted(known, key=lambda a: (a.org_id != org_id, a.id)):
        slugs.setdefault(agent.slug, agent.id)
    found = {}
    for agent in known:
        slug, name = agent.slug, qualify(agent.slug)
        meant = full.get((name, True)) or full.get((name, False)) or slugs[slug]
        found[agent.id] = slug if meant == agent.id else agent.name
    return found
