"""Read tasks: one, many, their answer, their feed, their conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.compressed import matches
from runyard_api.http.operations import Answer
from runyard_api.long_poll import until
from runyard_api.native import schemas
from runyard_api.native.front import (
    ROOTED,
    NativeRoutes,
    Paging,
    Parameters,
    cursor,
    instant_of,
    listing,
    moment,
    page,
    when,
)
from runyard_api.native.runs.task_view import brief, etag, event_json, listed, poll_after_ms, whole
from runyard_api.native.schedules.schedule_view import ScheduledTask, schedule_json
from runyard_api.task_snapshot import TaskSnapshot, snapshot
from runyard_common.agents.queries import agents
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import events, tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import CODE_LENGTH, Task
from runyard_common.schedules.queries import schedules
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Message
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, NotFound
from runyard_common.values.ids import is_uuid

routes = NativeRoutes("tasks")

_MOST_FEED: Final = 5_000
_MOST_IDS: Final = 100
_A_UUID: Final = "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
#: Inputs of more bytes have no preview in lists.
_PREVIEWED: Final = 8 * 1024
#: A microsecond: times on the wire are rounded to it, and both bounds are inclusive.
_GRAIN: Final = 1e-6


def task_id(call: Call) -> str:
    """The task named by the path; `InvalidRequest` invalid_id for what is no UUID."""
    given = call.params["task_id"]
    if not is_uuid(given):
        raise InvalidRequest("A task id is a UUID.", code="invalid_id", field="task_id")
    return given.lower()


class Filters(Parameters):
    """Which tasks."""

    ids: str | None = Field(
        None,
        max_length=37 * _MOST_IDS,
        description=f"Comma-separated task ids, {_MOST_IDS} at most.",
        examples=["019c1f2b-3c50-7f60-8a70-8192a3b4c5d6"],
        json_schema_extra={"pattern": f"^{_A_UUID}(,{_A_UUID}){{0,{_MOST_IDS - 1}}}$"},
    )
    agent_id: str | None = Field(
        None, description="An agent, or one version of it.", json_schema_extra={"format": "uuid"}
    )
    status: str | None = Field(
        None, description="Comma-separated statuses.", json_schema_extra=listing(Status)
    )
    session_id: str | None = Field(None, max_length=64)
    schedule_id: str | None = Field(None, max_length=64)
    end_user_id: str | None = Field(None, max_length=64)
    parent_id: str | None = Field(None, max_length=64, description="The children of this task.")
    created_by: str | None = Field(
        None, max_length=64, description="Who made them: key:<id> of an API key, or user:<id>."
    )
    error_code: str | None = Field(
        None,
        min_length=1,
        max_length=CODE_LENGTH,
        description="The code of their error: of tasks that failed or were stopped.",
        examples=["worker_lost"],
    )
    retried: bool | None = Field(None, description="Whether another task repeats them (retry).")
    created_after: str | None = moment("RFC 3339, inclusive.")
    created_before: str | None = moment("RFC 3339, inclusive.")
    q: str | None = Field(None, max_length=200, description="Part of the title, in any case.")


class TaskListParameters(Filters, Paging):
    """Which tasks, and which page of them."""


async def filter_of(call: Call, given: Filters) -> Filter:
    """The store's filter for what was asked; `InvalidRequest` invalid_id or invalid_field."""
    agent_id = version_id = None
    if given.agent_id is not None:
        if not is_uuid(given.agent_id):
            raise InvalidRequest("agent_id is a UUID.", code="invalid_id", field="agent_id")
        asked = given.agent_id.lower()
        version = await call.state.reader.one(lambda conn: agents.version(conn, asked))
        agent_id, version_id = (asked, None) if version is None else (version.agent_id, asked)
    after, before = given.created_after, given.created_before
    return Filter(
        ids=_ids(given.ids),
        statuses=_statuses(given.status),
        agent_id=agent_id,
        version_id=version_id,
        session_id=given.session_id,
        schedule_id=given.schedule_id,
        end_user_id=given.end_user_id,
        parent_id=given.parent_id,
        created_by=given.created_by,
        created_after=instant_of(after, "created_after") - _GRAIN if after is not None else None,
        created_before=instant_of(before, "created_before") + _GRAIN if before is not None else None,
        error_code=given.error_code,
        retried=given.retried,
        title=given.q or None,
    )


def _ids(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    ids = [one.strip().lower() for one in text.split(",") if one.strip()]
    if not 1 <= len(ids) <= _MOST_IDS or not all(map(is_uuid, ids)):
        raise InvalidRequest(f"ids lists 1 to {_MOST_IDS} task ids.", code="invalid_field", field="ids")
    return tuple(ids)


def _statuses(text: str | None) -> tuple[Status, ...] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Status)]
    if unknown or not names:
        raise InvalidRequest(
            f"status lists some of: {', '.join(Status)}.", code="invalid_field", field="status"
        )
    return tuple(Status(name) for name in names)


@routes.get(
    "/tasks",
    "runs:read",
    query=TaskListParameters,
    prefixes=ROOTED,
    answers=[Answer(200, "A page of tasks.", schemas.TaskPage)],
)
async def list_tasks(call: Call) -> Response:
    """List tasks, newest first.

    With q a page may have fewer tasks than limit, or none, and has_more all the same: it has looked at 20,000 tasks,
    and goes on behind them with next_cursor.
    """
    given = call.query(TaskListParameters)
    wanted = await filter_of(call, given)
    return reply(await call.read(_list, wanted, given.limit, given.before))


def _list(scope: OrgScope, wanted: Filter, limit: int, before: str | None) -> dict[str, Any]:
    if wanted.title is None:
        found = tasks.page(scope, wanted, limit + 1, before)
        return page(
            _rows(scope, found[:limit]), limit, [task.id for task in found][:limit], len(found) > limit
        )
    searched = tasks.search(scope, wanted, limit, before)
    end = None if searched.end is None else cursor(searched.end)
    return {"data": _rows(scope, searched.tasks), "has_more": end is not None, "next_cursor": end}


def _rows(scope: OrgScope, found: Sequence[Task]) -> list[dict[str, Any]]:
    untitled = [task.id for task in found if not task.title]
    inputs = tasks.small_inputs(scope, untitled, _PREVIEWED) if untitled else {}
    repeated = tasks.retried_as(scope.conn, found)
    return [listed(task, inputs.get(task.id), repeated.get(task.id)) for task in found]


class TaskParameters(Parameters):
    """Whether to wait."""

    wait: float = Field(
        0,
        ge=0,
        le=bounds.WAIT.most,
        description="Wait so many seconds for the task to come to rest (or, with If-None-Match, to change).",
    )


@routes.get(
    "/tasks/{task_id}",
    "runs:read",
    query=TaskParameters,
    prefixes=ROOTED,
    headers=("If-None-Match",),
    answers=[
        Answer(200, "The task.", schemas.Task, headers=("ETag",)),
        Answer(200, "The id was a schedule's, which no run has yet.", ScheduledTask),
        Answer(304, "It has not changed."),
    ],
    errors=(429,),
    checks_memory=True,
)
async def get_task(call: Call) -> Response:
    """Read a task, or a schedule by its id, as cancelling takes it too.

    With ?wait=30 the answer comes when the task has ended or waits for a person, at the latest after 30
    seconds; with If-None-Match it comes as soon as the task differs from what that tag stood for.
    poll_after_ms is when asking again is worth while.
    """
    seconds = min(call.query(TaskParameters).wait, call.state.settings.wait_seconds)
    known = call.headers.get("if-none-match")

    def enough(seen: TaskSnapshot) -> bool:
        # "*" is never changed: its 304 has nothing to wait for.
        return known == "*" or not matches(known, etag(seen)) if known else seen.at_rest

    if seconds > 0:
        call.state.open_calls.check(call.org_id)
    try:
        seen = await until(call.state, call.org_id, task_id(call), enough, seconds, call.judged_at)
    except NotFound:
        if (scheduled := await _scheduled(call)) is None:
            raise
        return reply(scheduled)
    tag = etag(seen)
    if matches(known, tag):
        return Response(status_code=304, headers={"etag": tag})
    return await call.reply_with([seen.task], lambda: whole(seen, call.principal), {"etag": tag})


async def _scheduled(call: Call) -> dict[str, Any] | None:
    """The schedule that the path's id is of, as a task; None where it is of none that the caller may see."""
    id_ = task_id(call)
    found = await call.read(schedules.get, id_)
    if found is None or not call.principal.may("schedules:read"):
        return None
    return {
        "task_id": id_,
        "schedule_id": id_,
        "status": Status.PENDING.value,
        "message": "A schedule: cancelling it by this id deletes it.",
        "schedule": schedule_json(found, call.principal),
        "created_at": when(found.created_at),
        "updated_at": when(found.updated_at),
    }


@routes.get(
    "/tasks/{task_id}/summary",
    "runs:read",
    prefixes=ROOTED,
    answers=[Answer(200, "The task and its final answer.", schemas.TaskBrief)],
)
async def get_summary(call: Call) -> Response:
    """Read a task's final answer.

    result holds it once there is one: {summary, completed_at} of a completed task, else the last
    message of the agent. Structured output is under extracted_data.
    """
    seen = await snapshot(call.state, call.org_id, task_id(call))
    task, body = seen.task, brief(seen.task) | {"poll_after_ms": poll_after_ms(seen)}
    if task.status is Status.COMPLETED:
        return await call.reply_with([task], lambda: body | _summed_up(task))
    lines = [message_json(row, task.version_id) for row in await call.read(messages.of_task, task.id)]
    answered = [line for line in _with_question(lines, seen) if line["role"] == "assistant"]
    if answered:
        body["result"] = answered[-1]["content"]
    if task.final_error:
        body["error"] = task.final_error
    return reply(body)


def _summed_up(task: Task) -> dict[str, Any]:
    found = {"result": {"summary": summary_of(task.output), "completed_at": when(task.finished_at)}}
    return found | ({"extracted_data": task.output} if isinstance(task.output, dict | list) else {})


def summary_of(output: Any) -> Any:
    """The part of an output that sums it up: itself, or its `summary`."""
    if isinstance(output, dict) and isinstance(output.get("summary"), str):
        return output["summary"]
    return output


@routes.get(
    "/tasks/{task_id}/result",
    "runs:read",
    prefixes=ROOTED,
    answers=[Answer(200, "The task and all it did.", schemas.Task)],
)
async def get_result(call: Call) -> Response:
    """Read a task with its whole feed, in order.

    The feed ends with a task_complete item once the task has completed. It breaks off behind 8 MB, or 5,000
    items, where has_more is true; GET /tasks/{task_id}/events gives the rest.
    """
    seen = await snapshot(call.state, call.org_id, task_id(call))
    task = seen.task
    rows = await call.read(events.after, task.id, 0, _MOST_FEED + 1)
    more = rows.more or len(rows) > _MOST_FEED

    def build() -> dict[str, Any]:
        feed = [event_json(row) | {"created_at": when(row["at"])} for row in rows[:_MOST_FEED]]
        if task.status is Status.COMPLETED and not more:
            feed.append(_complete(task))
        return whole(seen, call.principal) | {"feed": feed, "has_more": more}

    return await call.reply_with([task], build, besides=rows.bytes)


def _complete(task: Task) -> dict[str, Any]:
    done = when(task.finished_at)
    return {
        "type": "task_complete",
        "created_at": done,
        "result": task.output,
        "structuredContent": {"summary": summary_of(task.output), "completed_at": done},
    }


@routes.get(
    "/tasks/{task_id}/messages",
    "runs:read",
    prefixes=ROOTED,
    answers=[Answer(200, "The conversation.", schemas.MessageList)],
)
async def get_messages(call: Call) -> Response:
    """Read a task's conversation, oldest line first.

    While the task waits for input, the newest line of the assistant is the pending question. Of more than 8 MB
    the newest lines; has_more: there are older ones.
    """
    seen = await snapshot(call.state, call.org_id, task_id(call))
    task = seen.task
    rows = await call.read(messages.of_task, task.id)
    lines = [message_json(row, task.version_id) for row in rows]

    def build() -> dict[str, Any]:
        opened = lines if rows.more else _with_opening(task, lines)
        return {"data": _with_question(opened, seen), "has_more": rows.more}

    return await call.reply_with([task], build, besides=rows.bytes)


def message_json(row: Message, version_id: str | None) -> dict[str, Any]:
    """A line of a conversation; `version_id` is the version of the agent that its task runs, as in the task itself."""
    names = ("id", "task_id", "session_id", "seq", "role", "type", "content", "user_id", "parent_id")
    agent = {"agent_id": version_id, "agent_group_id": row.agent_id}
    return {name: getattr(row, name) for name in names} | agent | {"created_at": when(row.created_at)}


def _line(
    task: Task, id_: str, role: str, type_: str, content: Any, at: float, by: str | None
) -> dict[str, Any]:
    return {
        "id": id_, "task_id": task.id, "agent_id": task.version_id, "agent_group_id": task.agent_id,
        "session_id": task.session_id, "seq": None, "role": role, "type": type_, "content": content, "user_id": by,
        "parent_id": None, "created_at": when(at),
    }  # fmt: skip


def _with_opening(task: Task, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the caller asked comes first, also while the agent has not yet written its lines."""
    given = task.input or {}
    asked = given.get("message", given.get("args"))
    if asked is None or any(line["role"] == "user" and line["content"] == asked for line in lines):
        return lines
    opening = _line(task, task.id, "user", "user_message", asked, task.created_at, task.created_by)
    return [opening, *lines]


def _with_question(lines: list[dict[str, Any]], seen: TaskSnapshot) -> list[dict[str, Any]]:
    shown = [line["content"] for line in lines if line["type"] == "question"]
    asked = [
        _line(seen.task, q.id, "assistant", q.kind, q.payload, q.created_at, None)
        for q in seen.questions
        if q.kind != "question" or (q.payload or {}).get("text") not in shown
    ]
    return [*lines, *asked]
