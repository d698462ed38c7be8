"""The shapes of native answers, for the OpenAPI document; tests check real answers against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.models import Model

StatusName = Literal[
    "pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed", "stopped"
]
assert set(StatusName.__args__) == {status.value for status in Status}  # type: ignore[attr-defined]


RoleName = Literal["owner", "admin", "member", "viewer"]


class Shape(Model):
    """An answer. Fields may be added to it; none is taken away."""

    model_config = ConfigDict(extra="allow")


class Queue(Shape):
    """What blocks a queued task."""

    limit: str | None = Field(
        description="The limit that is full, as kind:value; or retry, resume, child:<id>, children, event, sleep, or "
        "worker: no live worker has this version of the agent."
    )
    position: int = Field(description="Its place in its organisation's part of the queue; 1 is next.")
    estimate_s: float | None = Field(description="A guess in seconds until it starts.")
    basis: str = Field(description="What the guess is based on.")
    until: str | None = Field(None, description="When a run that sleeps or waits goes on at the latest.")


class Question(Shape):
    """Something a person is asked; the payload's fields (text, schema, action, arguments …) come beside these."""

    id: str
    kind: Literal["question", "review"]
    cause: str | None = Field(
        description="Why the engine itself asks: unknown_outcome, budget or balance; null when the agent asks."
    )
    task_id: str
    deadline: str | None
    on_timeout: dict[str, Any] | None
    created_at: str


class TaskError(Shape):
    """Why a task failed."""

    code: str
    message: str
    cause: str | None = None


class ScheduleRef(Shape):
    """A schedule made with the run; cancel it by its id."""

    id: str
    kind: str = Field(description="cron, date or delay.")
    next_at: str | None


class Accepted(Shape):
    """A run that is stored and will be carried out."""

    task_id: str
    agent_id: str
    status: StatusName
    message: str
    created_at: str
    session_id: str | None
    queue: Queue | None = None
    schedules: list[ScheduleRef] | None = None
    poll_after_ms: int | None


class LimitUse(Shape):
    """A limit that a run counts against."""

    limit: str = Field(description="As kind:value.")
    max_concurrent: int | None
    in_use: int
    strategy: str


class RunPreview(Shape):
    """What a run would come to; nothing is stored."""

    dry_run: Literal[True]
    would: Literal["start", "queue", "reject"]
    status: StatusName | None = Field(description="The status it would have; null where it would be refused.")
    held_by: str | None = Field(description="The limit that is full, as kind:value.")
    limits: list[LimitUse]
    agent_id: str = Field(description="The agent version that would run.")
    agent: str
    version: str


class TaskBrief(Shape):
    """A task in a list."""

    task_id: str
    agent_id: str = Field(description="The agent version that runs.")
    agent_group_id: str = Field(description="The agent, in any version.")
    agent: str
    agent_name: str
    version: str
    status: StatusName
    title: str | None
    session_id: str | None
    front: str
    created_at: str
    updated_at: str


class ListedTask(TaskBrief):
    """A task in the list of tasks."""

    preview: str | None = Field(
        description="Of a task without a title: the start of its input, if that is small."
    )
    attempt: int
    usage: dict[str, Any]
    cost: float = Field(description="In USD.")
    parent_id: str | None
    end_user_id: str | None
    created_by: str | None = Field(description="key:<id> or user:<id>.")
    error_code: str | None = Field(description="Of one that failed or was stopped.")
    retried_as: str | None = Field(description="The newest task that repeats this failed or stopped one.")
    started_at: str | None
    finished_at: str | None


class Ending(Shape):
    """How a run ends once it has undone what it did."""

    status: Literal["failed", "stopped"]
    error: TaskError | None


class Task(TaskBrief):
    """A task."""

    message: str
    input: dict[str, Any]
    output: Any
    error: TaskError | None
    usage: dict[str, Any]
    cost: float = Field(description="In USD.")
    attempt: int
    metadata: dict[str, Any]
    retried_as: str | None = Field(
        None, description="The newest task that repeats this failed or stopped one (retry)."
    )
    queue: Queue | None = None
    ending: Ending | None = Field(
        None, description="Of a run that undoes, or has undone, what it did (`ctx.on_failure`)."
    )
    question: Question | None = None
    review: Question | None = None
    poll_after_ms: int | None
    started_at: str | None
    finished_at: str | None
    links: dict[str, str]


class Event(Shape):
    """A numbered fact in a task's log."""

    task_id: str
    seq: int
    type: str
    attempt: int
    at: str
    data: dict[str, Any] | None


class Message(Shape):
    """A line of a conversation."""

    id: str
    task_id: str | None
    agent_id: str | None = Field(description="The agent version that runs, as in the task; null in a fork.")
    agent_group_id: str | None = Field(description="The agent.")
    role: str
    type: str
    content: Any
    user_id: str | None
    parent_id: str | None
    created_at: str


class Page(Shape):
    """A page of a list."""

    data: list[dict[str, Any]]
    has_more: bool
    next_cursor: str | None


class TaskPage(Page):
    """A page of tasks, newest first."""

    data: list[ListedTask]  # type: ignore[assignment]


class HumanTask(Question):
    """A question or review, and its task."""

    task: TaskBrief


class HumanTaskPage(Page):
    """A page of open questions and reviews, oldest first."""

    data: list[HumanTask]  # type: ignore[assignment]


class EventPage(Shape):
    """A page of a task's log."""

    data: list[Event]
    has_more: bool
    next_after: int


class MessageList(Shape):
    """A conversation, oldest line first."""

    data: list[Message]
    has_more: bool = Field(description="Older lines are left out.")


class Problem(Shape):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    error: str = Field(description="The detail again, where nanonets' clients look for it.")
    code: str = Field(description="Stable: what programs branch on.")
    request_id: str
    field: str | None = None
    retry_after: int | None = Field(None, description="Seconds after which to try again.")
