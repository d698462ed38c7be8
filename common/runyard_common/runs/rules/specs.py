"""A run that is ready to be stored, and what became of it when it was: `RunSpec` and `AcceptedRun`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runyard_common.runs.rules.admission import AdmissionContext, Strategy
from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.run_request import Knowledge
from runyard_common.runs.rules.tasks import Fence, Json
from runyard_common.schedules.rules.new_schedule import NewSchedule
from runyard_common.values.json_text import JsonText


def versioned(name: str, version: str) -> str:
    """A version of an agent as workers and tasks name it: ``@scope/name@1.0.0``."""
    return f"{name}@{version}"


@dataclass(frozen=True, slots=True)
class AgentRef:
    """The agent version that a run is bound to."""

    org_id: str
    agent_id: str
    version_id: str
    name: str  # @scope/name
    version: str
    timeout_s: float | None = None
    retry_policy: Json = None
    is_code: bool = False  # a Python agent: only workers that have this version run it

    @property
    def required(self) -> str | None:
        """What a worker must have to run it; None where any worker does."""
        return versioned(self.name, self.version) if self.is_code else None


@dataclass(frozen=True, slots=True)
class CallbackTo:
    """Where a run's own events are posted; `headers` are sealed."""

    url: str
    headers: bytes | None = None


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session a run belongs to, by id or by the caller's own name for it; found or made with the run."""

    key: str
    scope: str = ""
    strategy: Strategy | None = None  # of this run alone


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run was judged by: the number of its organisation's configuration, and who can see whether that still
    counts where the number is another now."""

    at: int | None
    still: Callable[[Any], bool]  # of an `OrgScope`: whether caller and agent are the same


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One judged run request. Times are epoch seconds unless they end in `_s` (seconds)."""

    task_id: str
    org_id: str
    agent: AgentRef
    front: str
    input: dict[str, Any]  # {message, args, options, output_config, files}
    lane: str = ""
    title: str | None = None
    session_id: str | None = None
    session: SessionRef | None = None  # in place of `session_id`, where that is not known yet
    session_strategy: Strategy = Strategy.ENQUEUE
    end_user_id: str | None = None
    created_by: str | None = None
    input_text: JsonText | None = None  # the input as it is stored, where it was written beforehand
    key_id: str | None = None
    parent_id: str | None = None
    parent_fence: Fence | None = None  # the parent's fence: a stale parent creates no child
    retry_of: str | None = None
    schedule_id: str | None = None
    model: str | None = None
    priority: int = 0
    ttl_s: float | None = None
    deadline_at: float | None = None
    deadline_s: float | None = None  # from when the run is stored; with both, the earlier counts
    secrets: bytes | None = None
    callback: CallbackTo | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    attempts_left: int | None = None  # a requeued run gets one attempt: no retries of any class
    max_queued: int | None = None
    blocked_by: BlockedBy | None = None  # it begins queued behind this, even if no limit is full
    requested: bool = (
        False  # by a caller: needs a balance, and a deadline to come; children and retries do not
    )
    schedules: tuple[NewSchedule, ...] = ()  # stored with it
    tools: tuple[str, ...] = ()  # registered ones that must be open by `@tool(public=True)`
    knowledge: Knowledge | None = None
    map: str | None = None  # the `ctx.map` that starts it, with its bound: see `AdmissionContext`
    judged: Judged | None = None  # where it was judged by what a process remembers
    traceparent: str | None = None  # of what asks for it, where traces are recorded

    @property
    def has_callback(self) -> bool:
        """Whether its events are posted to a URL."""
        return self.callback is not None

    @property
    def context(self) -> AdmissionContext:
        """What limits look at."""
        return AdmissionContext(
            self.org_id,
            self.agent.name,
            self.end_user_id,
            self.session_id,
            self.session_strategy,
            self.model,
            self.input.get("args"),
            self.map,
        )


@dataclass(frozen=True, slots=True)
class ScheduleRef:
    """A schedule that a run brought, as its answer names it."""

    id: str
    kind: str
    next_due_at: float | None = None


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """A stored run, with its session and the schedules it brought; `blocked_by` names the limit while it is queued."""

    task_id: str
    status: Status
    blocked_by: str | None = None
    created_at: float = 0.0
    session_id: str | None = None
    schedules: tuple[ScheduleRef, ...] = ()
    after: int = 0  # the number of the log's entry behind which what the request led to begins
    replayed: bool = False  # an earlier request with the same Idempotency-Key stored it
