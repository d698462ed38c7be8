"""Tasks and everything that exists because a task exists."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, String
from sqlalchemy.types import TypeDecorator

from runyard_common.database import columns as c
from runyard_common.runs.rules.blocked_by import BlockedBy


class _Blocker(TypeDecorator[BlockedBy]):
    """A `BlockedBy` in its stored form."""

    impl = String(200)
    cache_ok = True

    def process_bind_param(self, value: BlockedBy | None, dialect: Any) -> str | None:
        """To the database."""
        return None if value is None else value.stored

    def process_result_value(self, value: str | None, dialect: Any) -> BlockedBy | None:
        """From the database."""
        return None if value is None else BlockedBy.parse(value)


class Task(c.Table):
    """One execution request and its whole life."""

    __tablename__ = "tasks"
    __table_args__ = (
        # The claim: lane by lane, answered runs first, then priority, then first come.
        Index("ix_tasks_claim", "lane", "resume", "priority", "id", **c.where("status = 'pending'")),
        # Admission: what one limit keeps, runs that were under way first, then lane by lane.
        Index(
            "ix_tasks_queued",
            "blocked_by",
            "resume",
            "lane",
            "priority",
            "id",
            **c.where("status = 'queued'"),
        ),
        Index("ix_tasks_due", "available_at", **c.where("status = 'queued' AND available_at IS NOT NULL")),
        Index("ix_tasks_owner", "lease_owner", **c.where("status = 'running'")),
        Index(
            "ix_tasks_deadline", "deadline_at", **c.where("deadline_at IS NOT NULL AND finished_at IS NULL")
        ),
        Index(
            "ix_tasks_expiry",
            "expires_at",
            **c.where("expires_at IS NOT NULL AND started_at IS NULL AND finished_at IS NULL"),
        ),
        Index("ix_tasks_org", "org_id", "id"),
        Index("ix_tasks_agent", "agent_id", "id"),
        Index("ix_tasks_session", "session_id", "id", **c.where("session_id IS NOT NULL")),
        Index("ix_tasks_parent", "parent_id", **c.where("parent_id IS NOT NULL")),
        Index("ix_tasks_schedule", "schedule_id", "id", **c.where("schedule_id IS NOT NULL")),
        Index("ix_tasks_finished", "org_id", "status", "finished_at", **c.where("finished_at IS NOT NULL")),
        # Lists by status.
        Index("ix_tasks_active", "org_id", "status", "id", **c.where("finished_at IS NULL")),
        Index("ix_tasks_ended", "org_id", "status", "id", **c.where("finished_at IS NOT NULL")),
        Index("ix_tasks_end_user", "end_user_id", "id", **c.where("end_user_id IS NOT NULL")),
        Index("ix_tasks_created_by", "created_by", "id", **c.where("created_by IS NOT NULL")),
        Index("ix_tasks_error_code", "org_id", "error_code", "id", **c.where("error_code IS NOT NULL")),
        Index("ix_tasks_retry_of", "retry_of", "id", **c.where("retry_of IS NOT NULL")),
    )

    id = c.key()
    org_id = c.ref()
    agent_id = c.ref()
    version_id = c.ref()
    agent_name = c.text(length=200)
    version = c.text(length=64)
    status = c.text(length=20)
    front = c.text(length=16)  # the API surface it came by; child
    external_id = c.ref(nullable=True)  # of rows of earlier versions; nothing reads it
    title = c.text(nullable=True, length=200)
    session_id = c.ref(nullable=True)
    end_user_id = c.ref(nullable=True)
    created_by = c.ref(nullable=True)  # key:<id>, user:<id>
    key_id = c.ref(nullable=True)
    parent_id = c.ref(nullable=True)
    retry_of = c.ref(nullable=True)
    schedule_id = c.ref(nullable=True)

    lane = c.text(length=64)  # fairness key: the organisation
    priority = c.integer()  # lower runs first
    resume = c.integer32(default=1)  # 0 = was already started (answered, rescued): claimed ahead of new work
    # What keeps it queued; the column has the name of an earlier version.
    blocked_by = Column("held_by", _Blocker, nullable=True)
    model = c.text(nullable=True, length=128)  # the model it asks for, as model limits name it
    limit_keys = c.json()  # every limit it counts against
    required_agent = c.text(
        nullable=True, length=272
    )  # @scope/name@version of a Python agent: only workers that have it claim the task; None: any worker
    available_at = c.instant(nullable=True)  # back-off: not admitted before
    expires_at = c.instant(nullable=True)  # time to live of unstarted work
    deadline_at = c.instant(nullable=True)
    timeout_s = c.real(nullable=True)  # run time of one attempt

    # The fence: every write of an attempt names its number and the random token of its claim.
    attempt = c.integer()
    claim_token = c.ref(nullable=True)
    lease_owner = c.ref(nullable=True)
    suspicion = c.counter()  # how likely it is that this task ends its worker's process
    releases = c.counter()  # times it was handed back without progress, a drain apart
    retry_policy = c.json()  # {cause: {budget, base_s, cap_s}} as it was at submission
    retries = c.json()  # {cause: used}
    last_seq = c.integer()  # last event number

    input = c.json()  # {message, args, options, output_config, files, …}
    secrets = c.blob()  # encrypted; erased when the task ends
    has_callback = c.boolean(default=False)
    output = c.json()
    error = c.json()  # {code, message, cause, attempt, details?}
    error_code = c.text(nullable=True, length=100)  # the code of its error once it has ended with one
    ending = c.json()  # {event, error, data, attempt}: how it ends once its compensations have run
    usage = c.json()
    cost_micros = c.integer()  # millionths of a USD
    meta = c.json()
    traceparent = c.text(
        nullable=True, length=600
    )  # W3C trace context of what asked for it, and its tracestate

    created_at = c.instant()
    updated_at = c.instant()
    started_at = c.instant(nullable=True)
    finished_at = c.instant(nullable=True)


class TaskEvent(c.Table):
    """A numbered fact in a task's log; numbers have no gaps."""

    __tablename__ = "events"

    task_id = c.key()
    seq = c.integer32(primary_key=True)
    type = c.text(length=64)
    attempt = c.integer()
    data = c.json()
    at = c.instant()


class JournalEntry(c.Table):
    """A step inside a task: begun before, ended after, never executed again once ended."""

    __tablename__ = "journal"

    task_id = c.key()
    key = c.text(length=200, primary_key=True)  # name#occurrence
    pos = c.integer()  # order of beginning
    attempt = c.integer()
    kind = c.text(length=16)  # step, model, tool, ask, review, child, value
    name = c.text(length=200)
    effect = c.text(length=16)  # read, idempotent, irreversible
    fingerprint = c.text(nullable=True, length=64)  # of what it was called with
    state = c.text(length=16)  # begun, done, failed
    detail = c.json()  # what a reviewer or the console sees
    value = c.json()
    began_at = c.instant()
    ended_at = c.instant(nullable=True)


class AwaitedPart(c.Table):
    """One thing that a queued run waits for: a child, an event, a time. A run that sleeps or waits for one child has
    none. Rows of a run that has gone on mean nothing; its next wait replaces them."""

    __tablename__ = "awaited_parts"
    __table_args__ = (Index("ix_awaited_ref", "ref", **c.where("kind = 'child'")),)

    task_id = c.key()
    kind = c.text(length=8, primary_key=True)  # child, event, time
    ref = c.text(length=200, primary_key=True)  # task id of the child; journal key of the event
    place = c.integer32(primary_key=True)  # of its group: the run goes on when one group has all
    at = c.instant(nullable=True)
    urgent = c.boolean(default=False)  # the first child that does not complete ends the wait


class EventWait(c.Table):
    """A run waits, or has waited, for an event from outside. `event_id` is the one that it got."""

    __tablename__ = "event_waits"
    __table_args__ = (
        Index("ix_event_waits_open", "org_id", "name", "address", **c.where("closed_at IS NULL")),
    )

    task_id = c.key()
    key = c.text(length=200, primary_key=True)  # the journal entry that the event completes
    org_id = c.ref()
    name = c.text(length=200)
    address = c.text(length=300)  # key:<key>, or nothing
    session_id = c.ref(nullable=True)
    deadline_at = c.instant(nullable=True)
    event_id = c.ref(nullable=True)
    closed_at = c.instant(nullable=True)
    created_at = c.instant()


class SentEvent(c.Table):
    """An event sent from outside, kept for a while for runs that wait for it later."""

    __tablename__ = "sent_events"
    __table_args__ = (
        Index("ix_sent_events_address", "org_id", "name", "address", "id"),
        Index("ix_sent_events_expiry", "expires_at"),
    )

    id = c.key()
    org_id = c.ref()
    name = c.text(length=200)
    address = c.text(length=300)  # task:<id>, session:<id>, key:<key>, or nothing
    data = c.json()
    sent_by = c.text(nullable=True, length=128)
    created_at = c.instant()
    expires_at = c.instant()


class Slot(c.Table):
    """One task's hold on one limit, from admission until it leaves pending/running: the limit's only count."""

    __tablename__ = "slots"
    __table_args__ = (Index("ix_slots_task", "task_id"),)

    limit_key = c.text(length=200, primary_key=True)
    task_id = c.key()
    at = c.instant()


class Limit(c.Table):
    """A rule: at most so many at once, or so many starts in a window, for each key it yields."""

    __tablename__ = "limits"
    __table_args__ = (Index("ix_limits_org", "org_id"),)

    id = c.key()
    org_id = c.ref()  # "*" = every organisation (set by the operator)
    kind = c.text(length=16)  # agent, organisation, end_user, session, model, key
    selector = c.text(length=200)  # agent or model name, JSON pointer into the input; "*" = each
    max_concurrent = c.integer32(nullable=True)
    rate_count = c.integer32(nullable=True)
    rate_seconds = c.real(nullable=True)
    tokens_per_minute = c.integer32(nullable=True)
    strategy = c.text(length=16)  # enqueue, reject, interrupt
    created_at = c.instant()
    updated_at = c.instant()


class Start(c.Table):
    """A start counted against a rate limit; kept for the length of its window."""

    __tablename__ = "starts"
    __table_args__ = (Index("ix_starts_at", "at"),)

    limit_key = c.text(length=200, primary_key=True)
    at = c.real(primary_key=True)
    task_id = c.key()


class Lane(c.Table):
    """Fair queuing: the virtual time a lane has used, divided by its weight. Row "*" holds the system's, and the lane
    up to which the ring of lanes was gone around."""

    __tablename__ = "lanes"

    lane = c.key()
    weight = c.real(default=1.0)
    vtime = c.real(default=0.0)
    passed = c.text(nullable=True, length=64)


class QueuePlace(c.Table):
    """How far the lanes that one limit keeps queued were served: in this round, up to so many starts of this lane.

    Runs that were under way (`resume` 0) and new ones have a place each.
    """

    __tablename__ = "queue_places"

    limit_key = c.text(length=200, primary_key=True)
    resume = c.integer32(primary_key=True)
    round = c.integer()
    lane = c.text(length=64)
    given = c.integer()


class Worker(c.Table):
    """One life of a worker process: its heartbeat is the lease of every run it holds."""

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_lease", "lease_expires_at"),)

    id = c.key()
    host = c.text(length=200)
    pid = c.integer()
    capacity = c.integer()
    lease_seconds = c.real(default=10.0)
    lease_expires_at = c.instant()
    lost = c.boolean(default=False)  # its runs were handed on: it may write nothing more
    draining = c.boolean(default=False)
    running = c.integer()
    agents = c.json()  # @scope/name@version of each Python agent it runs; None: it is not known
    brings = c.json()  # @scope/name@version of each agent in its sources; None: as `agents`
    resumes = c.json()  # of versions that it does not run: those it carries on once no worker has them
    release = c.text(nullable=True, length=64)  # what it runs, as RUNYARD_RELEASE has it; None: an older one
    loop_lag_s = c.seconds()  # how late the event loop was at the last beat
    threads_held = c.counter()  # threads that runs which have ended have not given back
    started_at = c.instant()
    seen_at = c.instant()


class WorkerAgent(c.Table):
    """A Python agent (@scope/name@version) of a worker that has many: its claims look here for a task's agent."""

    __tablename__ = "worker_agents"

    worker_id = c.key()
    agent = c.text(length=272, primary_key=True)


class Outbox(c.Table):
    """A wake-up to send, as earlier versions write them: a pending task is its own now, and the relay deletes these."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_at", "at"),)

    id = c.key()
    topic = c.text(length=32)
    payload = c.json()
    at = c.instant()


class StoredFile(c.Table):
    """An attachment: its bytes are in the file store under their hash."""

    __tablename__ = "files"
    __table_args__ = (
        Index("ix_files_task", "task_id"),
        Index("ix_files_hash", "sha256"),
        Index("ix_files_org", "org_id", "size"),
    )

    id = c.key()
    org_id = c.ref()
    task_id = c.ref(nullable=True)
    sha256 = c.text(length=64)
    name = c.text(length=255)
    media_type = c.text(length=128)
    size = c.integer()
    field = c.text(nullable=True, length=128)
    created_at = c.instant()
