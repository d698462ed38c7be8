"""Tasks and everything that exists because a task exists."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


class Task(SQLModel, table=True):
    """One execution request and its whole life."""

    __tablename__ = "tasks"
    __table_args__ = (
        # The claim: lane by lane, answered runs first, then priority, then first come.
        Index("ix_tasks_claim", "lane", "resume", "priority", "id", **_where("status = 'pending'")),
        Index("ix_tasks_held", "held_by", "lane", "resume", "priority", "id", **_where("status = 'queued'")),
        Index("ix_tasks_due", "available_at", **_where("status = 'queued' AND available_at IS NOT NULL")),
        Index("ix_tasks_owner", "lease_owner", **_where("status = 'running'")),
        Index(
            "ix_tasks_deadline", "deadline_at", **_where("deadline_at IS NOT NULL AND finished_at IS NULL")
        ),
        Index(
            "ix_tasks_expiry",
            "expires_at",
            **_where("expires_at IS NOT NULL AND started_at IS NULL AND finished_at IS NULL"),
        ),
        Index("ix_tasks_org", "org_id", "id"),
        Index("ix_tasks_agent", "agent_id", "id"),
        Index("ix_tasks_session", "session_id", "id", **_where("session_id IS NOT NULL")),
        Index("ix_tasks_parent", "parent_id", **_where("parent_id IS NOT NULL")),
        Index("ix_tasks_schedule", "schedule_id", "id", **_where("schedule_id IS NOT NULL")),
        Index("ix_tasks_finished", "org_id", "status", "finished_at", **_where("finished_at IS NOT NULL")),
        Index("ix_tasks_active_org", "org_id", "status", **_where("finished_at IS NULL")),
        Index("ix_tasks_dead", "org_id", "id", **_where("status = 'failed'")),
    )

    id: str = c.key()
    org_id: str = c.ref()
    agent_id: str = c.ref()
    version_id: str = c.ref()
    agent_name: str = c.text(length=200)
    version: str = c.text(length=64)
    status: str = c.text(length=20)
    front: str = c.text(length=16)  # the API surface it came by; child
    external_id: str | None = c.ref(nullable=True)  # the id this run has on its front, where it differs
    title: str | None = c.text(nullable=True, length=200)
    session_id: str | None = c.ref(nullable=True)
    end_user_id: str | None = c.ref(nullable=True)
    created_by: str | None = c.ref(nullable=True)  # key:<id>, user:<id>
    key_id: str | None = c.ref(nullable=True)
    parent_id: str | None = c.ref(nullable=True)
    retry_of: str | None = c.ref(nullable=True)
    schedule_id: str | None = c.ref(nullable=True)

    lane: str = c.text(length=64)  # fairness key: the organisation
    priority: int = c.integer()  # lower runs first
    resume: int = Field(default=1)  # 0 = was already started (answered, rescued): claimed ahead of new work
    held_by: str | None = c.text(
        nullable=True, length=200
    )  # the limit that holds a queued task, or retry / child
    model: str | None = c.text(nullable=True, length=128)  # the model it asks for, as model limits name it
    limit_keys: Any = c.json()  # every limit it counts against
    required_agent: str | None = c.text(
        nullable=True, length=272
    )  # @scope/name@version of a Python agent: only workers that have it claim the task; None: any worker
    available_at: float | None = c.instant(nullable=True)  # back-off: not admitted before
    expires_at: float | None = c.instant(nullable=True)  # time to live of unstarted work
    deadline_at: float | None = c.instant(nullable=True)
    timeout_s: float | None = Field(default=None)  # run time of one attempt

    # The fence: every write of an attempt names its number and the random token of its claim.
    attempt: int = c.integer()
    claim_token: str | None = c.ref(nullable=True)
    lease_owner: str | None = c.ref(nullable=True)
    suspicion: int = c.counter()  # how likely it is that this task ends its worker's process
    releases: int = c.counter()  # times it was handed back without progress, a drain apart
    retry_policy: Any = c.json()  # {cause: {budget, base_s, cap_s}} as it was at submission
    retries: Any = c.json()  # {cause: used}
    last_seq: int = c.integer()  # last event number

    input: Any = c.json()  # {message, args, options, output_config, files, …}
    secrets: bytes | None = c.blob()  # encrypted; erased when the task ends
    has_callback: bool = Field(default=False)
    output: Any = c.json()
    error: Any = c.json()  # {code, message, cause, attempt, details?}
    usage: Any = c.json()
    cost_micros: int = c.integer()  # millionths of a USD
    meta: Any = c.json()

    created_at: float = c.instant()
    updated_at: float = c.instant()
    started_at: float | None = c.instant(nullable=True)
    finished_at: float | None = c.instant(nullable=True)


class TaskEvent(SQLModel, table=True):
    """A numbered fact in a task's log; numbers have no gaps."""

    __tablename__ = "events"

    task_id: str = c.key()
    seq: int = Field(primary_key=True)
    type: str = c.text(length=64)
    attempt: int = c.integer()
    data: Any = c.json()
    at: float = c.instant()


class JournalEntry(SQLModel, table=True):
    """A step inside a task: begun before, ended after, never executed again once ended."""

    __tablename__ = "journal"

    task_id: str = c.key()
    key: str = c.text(length=200, primary_key=True)  # name#occurrence
    pos: int = c.integer()  # order of beginning
    attempt: int = c.integer()
    kind: str = c.text(length=16)  # step, model, tool, ask, review, child, value
    name: str = c.text(length=200)
    effect: str = c.text(length=16)  # read, idempotent, irreversible
    fingerprint: str | None = c.text(nullable=True, length=64)  # of what it was called with
    state: str = c.text(length=16)  # begun, done, failed
    detail: Any = c.json()  # what a reviewer or the console sees
    value: Any = c.json()
    began_at: float = c.instant()
    ended_at: float | None = c.instant(nullable=True)


class Slot(SQLModel, table=True):
    """One task's hold on one limit, from admission until it leaves pending/running: the limit's only count."""

    __tablename__ = "slots"
    __table_args__ = (Index("ix_slots_task", "task_id"),)

    limit_key: str = c.text(length=200, primary_key=True)
    task_id: str = c.key()
    at: float = c.instant()


class Limit(SQLModel, table=True):
    """A rule: at most so many at once, or so many starts in a window, for each key it yields."""

    __tablename__ = "limits"
    __table_args__ = (Index("ix_limits_org", "org_id"),)

    id: str = c.key()
    org_id: str = c.ref()  # "*" = every organisation (set by the operator)
    kind: str = c.text(length=16)  # agent, organisation, end_user, session, model, key
    selector: str = c.text(length=200)  # agent or model name, JSON pointer into the input; "*" = each
    max_concurrent: int | None = Field(default=None)
    rate_count: int | None = Field(default=None)
    rate_seconds: float | None = Field(default=None)
    tokens_per_minute: int | None = Field(default=None)
    strategy: str = c.text(length=16)  # enqueue, reject, interrupt
    created_at: float = c.instant()
    updated_at: float = c.instant()


class Start(SQLModel, table=True):
    """A start counted against a rate limit; kept for the length of its window."""

    __tablename__ = "starts"
    __table_args__ = (Index("ix_starts_at", "at"),)

    limit_key: str = c.text(length=200, primary_key=True)
    at: float = Field(primary_key=True)
    task_id: str = c.key()


class Lane(SQLModel, table=True):
    """Fair queuing: the virtual time a lane has used, divided by its weight. Row "*" holds the system's."""

    __tablename__ = "lanes"

    lane: str = c.key()
    weight: float = Field(default=1.0)
    vtime: float = Field(default=0.0)


class Worker(SQLModel, table=True):
    """One life of a worker process: its heartbeat is the lease of every run it holds."""

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_lease", "lease_expires_at"),)

    id: str = c.key()
    host: str = c.text(length=200)
    pid: int = c.integer()
    capacity: int = c.integer()
    lease_seconds: float = Field(default=10.0)
    lease_expires_at: float = c.instant()
    lost: bool = Field(default=False)  # its runs were handed on: it may write nothing more
    draining: bool = Field(default=False)
    running: int = c.integer()
    agents: Any = c.json()  # @scope/name@version of each Python agent it runs; None: it is not known
    brings: Any = c.json()  # @scope/name@version of each agent in its sources; None: as `agents`
    loop_lag_s: float = c.seconds()  # how late the event loop was at the last beat
    threads_held: int = c.counter()  # threads that runs which have ended have not given back
    started_at: float = c.instant()
    seen_at: float = c.instant()


class Outbox(SQLModel, table=True):
    """A doorbell to ring: written with the state change, deleted once rung."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_at", "at"),)

    id: str = c.key()
    topic: str = c.text(length=32)
    payload: Any = c.json()
    at: float = c.instant()


class StoredFile(SQLModel, table=True):
    """An attachment: its bytes are in the file store under their hash."""

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_task", "task_id"),
        Index("ix_files_hash", "sha256"),
        Index("ix_files_org", "org_id", "size"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    task_id: str | None = c.ref(nullable=True)
    sha256: str = c.text(length=64)
    name: str = c.text(length=255)
    media_type: str = c.text(length=128)
    size: int = c.integer()
    field: str | None = c.text(nullable=True, length=128)
    created_at: float = c.instant()
