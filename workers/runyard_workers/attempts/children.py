"""Child tasks: started with their parent's journal entry in one transaction, awaited without a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from runyard import json_form
from runyard.errors import AgentError, ChildFailed
from runyard_common.agents.service import agents
from runyard_common.credentials.rules import documents
from runyard_common.database.group_commit import own_transaction
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Store, Tx
from runyard_common.runs.queries import tasks
from runyard_common.runs.rules.journal import CONCURRENT, Step
from runyard_common.runs.rules.run_request import OPTIONS, RunRequest, options_of
from runyard_common.runs.rules.specs import AgentRef, RunSpec
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import steps, submissions
from runyard_common.schemas import checks
from runyard_common.values.errors import NotFound, RunyardError, Unavailable
from runyard_common.values.ids import uuid7
from runyard_workers.attempts import spans
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.patience import AWAY
from runyard_workers.isolation.threads import in_engine_thread

T = TypeVar("T")
#: How many runs may wait for each other in a chain, each for the one it started.
MOST_DEPTH: Final = 50
#: Children that one transaction starts, and whose ends one statement reads.
_AT_ONCE: Final = 100
_LONGEST_TITLE: Final = 120  # characters, as other runs' titles
#: The options of `ctx.run` besides the arguments; see `RunRequest`.
_NOT_OF_CHILDREN: Final = (
    "callback",
    "background",
    "streaming_tokens",
)  # they are between a caller and its run
OPTIONS_OF_CHILDREN: Final = (
    "version", "priority", "deadline", "ttl", "metadata", *(o for o in OPTIONS if o not in _NOT_OF_CHILDREN),
)  # fmt: skip


def child_request(options: dict[str, Any], call: str) -> RunRequest:
    """The options of a `ctx.run`, read. Raises `AgentError` invalid_call, which names the option."""
    for name in options:
        if name not in OPTIONS_OF_CHILDREN:
            raise AgentError(
                f"{call}: there is no option {name[:100]!r}. Options are {', '.join(OPTIONS_OF_CHILDREN)}.",
                code="invalid_call",
                call=call,
            )
    try:
        wanted = RunRequest.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise AgentError(f"{call}, {at}: {first['msg']}.", code="invalid_call", call=call, field=at) from None
    if isinstance(wanted.deadline, str):
        raise AgentError(f"{call}, deadline: give seconds from now.", code="invalid_call", call=call)
    servers = [server.model_dump(by_alias=True, exclude_none=True) for server in wanted.mcp_servers or ()]
    if documents.split({"mcp_servers": servers})[1]:
        raise AgentError(
            f"{call}, mcp_servers: credentials belong in the child's manifest, where they are kept encrypted.",
            code="invalid_call",
            call=call,
        )
    return wanted


@dataclass(frozen=True, slots=True)
class _Start:
    begin: steps.Begin
    spec: RunSpec


@own_transaction
def _start(tx: Tx, commands: Sequence[_Start]) -> list[RunyardError | None]:
    """Journal the children's ids and submit them: a crash leaves both or neither, of each."""
    known = tasks.light(
        tx.conn, [c.spec.task_id for c in commands]
    )  # committed already: only the answer was lost
    new = [c for c in commands if c.spec.task_id not in known]
    accepted = submissions.submit(tx, [c.spec for c in new])
    stored = [c for c, answer in zip(new, accepted, strict=True) if not isinstance(answer, RunyardError)]
    for refused in steps.begin(tx, [c.begin for c in stored]):
        if refused is not None:
            raise refused  # cannot be: the parents' rows have been locked since; undo the children
    answers = {c.spec.task_id: a for c, a in zip(new, accepted, strict=True) if isinstance(a, RunyardError)}
    return [answers.get(c.spec.task_id) for c in commands]


def child_step(key: str, agent: str, child_id: str, concurrent: bool = False) -> Step:
    """The journal entry of a child."""
    detail = {"task_id": child_id} | ({CONCURRENT: True} if concurrent else {})
    return Step(key, "child", agent, "idempotent", detail)


def _check(args: Any, schema: Any) -> None:
    """Whether a child takes these arguments. Without any it is given an empty object, unless it takes null."""
    try:
        checks.check(args, schema, field="args", code="invalid_input")
    except RunyardError:
        if args is not None:
            raise
        checks.check({}, schema, field="args", code="invalid_input")


async def _read(work: Callable[..., T], *args: Any) -> T:
    """What `work` reads. A database that is away is an outage of ours, though the agent's code meets it."""
    try:
        return await in_engine_thread(work, *args)
    except AWAY as away:
        raise Unavailable("The database does not answer.", code="database_unavailable") from away


class Children:
    """Starts and reads the children of attempts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def start_many(
        self, attempt: Attempt, agent: str, given: Mapping[str, Any], wanted: RunRequest, map_: str
    ) -> dict[str, str]:
        """As `start`, for the arguments by journal key, as children of one `ctx.map`; task ids by key."""
        made: dict[str, str] = {}
        left = list(given)
        while left:
            chunk, left = left[:_AT_ONCE], left[_AT_ONCE:]
            specs = await _read(self._specs, attempt, agent, [given[key] for key in chunk], None, wanted)
            commands = []
            for key, spec in zip(chunk, specs, strict=True):
                step = attempt.placed(child_step(key, agent, spec.task_id, concurrent=True))
                begin = steps.Begin(attempt.task.id, attempt.fence, step)
                commands.append(_Start(begin, replace(spec, map=map_)))
            await asyncio.gather(*(attempt.write(_start, command) for command in commands))
            for command in commands:
                attempt.replay.remember(command.begin.step, "begun", None)
                made[command.begin.step.key] = command.spec.task_id
            await asyncio.sleep(0)
        return made

    async def results(self, child_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """How those of these children ended that have, by id: see `result`."""
        found: dict[str, dict[str, Any]] = {}
        for first in range(0, len(child_ids), _AT_ONCE):
            found |= await _read(self._results, child_ids[first : first + _AT_ONCE])
        return found

    def _results(self, child_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        with self._store.read() as conn:
            known = tasks.load(conn, child_ids)
        ended = {id_: _ending(id_, known.get(id_)) for id_ in child_ids}
        return {id_: its for id_, its in ended.items() if its is not None}

    async def start(
        self,
        attempt: Attempt,
        key: str,
        agent: str,
        args: Any,
        message: str | None,
        wanted: RunRequest,
        kind: str = "child",
    ) -> str:
        """Submit a child and journal it as begun; its task id. Raises `AgentError` when it cannot be accepted."""
        spec = await _read(self._spec, attempt, agent, args, message, wanted)
        step = attempt.placed(child_step(key, agent, spec.task_id))
        step = replace(step, kind=kind, detail=attempt.concurrently(step.detail))
        begin = steps.Begin(attempt.task.id, attempt.fence, step)
        await attempt.write(_start, _Start(begin, spec))
        return str(spec.task_id)

    def _spec(
        self, attempt: Attempt, agent: str, args: Any, message: str | None, wanted: RunRequest
    ) -> RunSpec:
        return self._specs(attempt, agent, [args], message, wanted)[0]

    def _specs(
        self, attempt: Attempt, agent: str, given: Sequence[Any], message: str | None, wanted: RunRequest
    ) -> list[RunSpec]:
        parent = attempt.task
        try:
            with self._store.read() as conn:
                record = agents.resolve(OrgScope(conn, parent.org_id), agent, wanted.version)
                depth = tasks.depth(conn, parent.id, MOST_DEPTH)
            if depth >= MOST_DEPTH:
                raise AgentError(
                    f"{agent}: {MOST_DEPTH} runs wait for each other already; agents may not start agents without end.",
                    code="too_many_generations",
                )
            schema = (record.manifest.get("input") or {}).get("schema")
            if schema is not None:
                for args in given:
                    if args is not None or not message:  # as over HTTP
                        _check(args, schema)
        except NotFound as missing:
            raise AgentError(missing.message, code=missing.code) from None
        except RunyardError as refusal:
            raise AgentError(refusal.message, code=refusal.code, field=refusal.field) from None
        return [_spec_of(attempt, record.ref, args, message, wanted) for args in given]

    async def result(self, child_id: str) -> dict[str, Any] | None:
        """How a child ended {task_id, status, output, error}, or None while it has not."""
        return (await _read(self._results, [child_id])).get(child_id)


def _spec_of(
    attempt: Attempt, agent: AgentRef, args: Any, message: str | None, wanted: RunRequest
) -> RunSpec:
    parent = attempt.task
    return RunSpec(
        task_id=uuid7(),
        org_id=parent.org_id,
        agent=agent,
        front="child",
        input={"message": message, "args": args, "options": options_of(wanted)},
        lane=parent.lane,
        title=json_form.name(message)[:_LONGEST_TITLE] if message else None,
        end_user_id=parent.end_user_id,
        created_by=parent.created_by,
        key_id=parent.key_id,
        parent_id=parent.id,
        parent_fence=attempt.fence,
        priority=wanted.priority if "priority" in wanted.model_fields_set else parent.priority,
        ttl_s=wanted.ttl,
        deadline_at=parent.deadline_at,
        deadline_s=wanted.deadline if isinstance(wanted.deadline, float) else None,
        meta=wanted.metadata or {},
        traceparent=spans.traceparent(parent),
    )


def child_output(ended: Mapping[str, Any]) -> Any:
    """The output of a child that has ended so. Raises `ChildFailed`."""
    if ended["status"] == "completed":
        return ended["output"]
    error = ended["error"] or {}
    raise ChildFailed(
        f"The child task {ended['task_id']} ended {ended['status']}: {error.get('message', '')}",
        task_id=ended["task_id"],
        status=ended["status"],
        error=error,
    )


def _ending(child_id: str, child: Task | None) -> dict[str, Any] | None:
    if child is None:
        error: Any = {"message": "it was deleted"}
        return {"task_id": child_id, "status": "stopped", "output": None, "error": error}
    if child.finished_at is None:
        return None
    return {"task_id": child_id, "status": child.status.value, "output": child.output, "error": child.error}
