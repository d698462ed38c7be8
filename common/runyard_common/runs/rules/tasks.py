"""A task as the rest of the code sees it: frozen values read from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.runs.rules.lifecycle import TERMINAL, Cause, Status
from runyard_common.values.json_text import JsonText, read

#: Letters of an error's code that runs are found by.
CODE_LENGTH: Final = 100
#: Details of an error that show an agent's source code.
_SOURCE: Final = ("traceback", "stack")


class Fence(NamedTuple):
    """What every write of an attempt carries, to show that its claim still owns the task.

    The number alone can be given twice: a claim that a database crash or a failover rolled back is followed by
    another of the same number. The token is random, a new one for each claim.
    """

    attempt: int
    token: str | None


#: A stored document, or none: its members are those of the API, not columns.
Json = dict[str, Any] | None


class OwnTask(NamedTuple):
    """A task as a caller may name it: one of an organisation."""

    org_id: str
    task_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A whole task row. Times are epoch seconds, `cost_micros` millionths of a USD."""

    id: str
    org_id: str
    agent_id: str
    version_id: str
    agent_name: str
    version: str
    status: Status
    front: str
    title: str | None
    session_id: str | None
    end_user_id: str | None
    created_by: str | None
    key_id: str | None
    parent_id: str | None
    retry_of: str | None
    schedule_id: str | None
    lane: str
    priority: int
    resume: int = 1
    blocked_by: BlockedBy | None
    model: str | None
    limit_keys: list[str] | None
    required_agent: str | None
    available_at: float | None = None
    expires_at: float | None
    deadline_at: float | None
    timeout_s: float | None
    attempt: int = 0
    claim_token: str | None = None
    lease_owner: str | None = None
    suspicion: int = 0
    releases: int = 0
    retry_policy: Json = None  # not of a claim: who stores a failure reads it
    retries: dict[str, int] | None = None
    last_seq: int = 1
    stored_input: Any = None  # a value, or the text of one (`JsonText`): see `input`
    secrets: bytes | None = None
    has_callback: bool
    stored_output: Any = None
    error: Json = None
    ending: Json = None  # see `rules.endings`
    usage: Json = None
    cost_micros: int = 0
    meta: Json
    traceparent: str | None = None  # of what asked for it: see `tracing.recorder`
    created_at: float
    updated_at: float
    started_at: float | None = None
    finished_at: float | None = None

    @property
    def input(self) -> Json:
        """{message, args, options, output_config, files}, each where it was given; None when it was not loaded."""
        given: Json = read(self.stored_input)
        return given

    @property
    def output(self) -> Any:
        """What the run gave back; None before its end, and when it was not loaded."""
        return read(self.stored_output)

    @property
    def final_error(self) -> Json:
        """Why it failed or was stopped; None while it goes on, and once it has completed."""
        return self.error if self.status in TERMINAL and self.status is not Status.COMPLETED else None

    @property
    def stored_length(self) -> int:
        """Letters of the input and output as they are stored, where they were loaded as text."""
        stored = (self.stored_input, self.stored_output)
        return sum(len(one.text) for one in stored if isinstance(one, JsonText))

    @property
    def fence(self) -> Fence:
        """The claim that owns this task, or owned it last."""
        return Fence(self.attempt, self.claim_token)


_MEMBERS: Final = {name: Task.__dict__[name] for name in Task.__slots__}


def changed(task: Task, values: Mapping[str, Any]) -> Task:
    """As `dataclasses.replace`, in a third of its time: a claim changes each of its tasks."""
    new = object.__new__(Task)
    for name, member in _MEMBERS.items():
        member.__set__(new, values[name] if name in values else member.__get__(task))
    return new


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed: a stable code, a sentence, whose fault; `retryable` false ends the run at once."""

    code: str
    message: str
    cause: Cause
    retryable: bool = False
    retry_after: float | None = None  # seconds, where the provider gave them
    details: dict[str, Any] = field(default_factory=dict)
    traceback: str = ""  # of the agent's code, for its own organisation alone

    def to_json(self, attempt: int) -> dict[str, Any]:
        """The `error` of a task."""
        details = self.details | ({"traceback": self.traceback} if self.traceback else {})
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "cause": self.cause.value,
            "attempt": attempt,
        }
        return error | ({"details": details} if details else {})


def outward(error: Mapping[str, Any] | None) -> Json:
    """A task's `error` as it leaves the organisation, in a webhook or callback: without source code."""
    if error is None:
        return None
    details = {k: v for k, v in (error.get("details") or {}).items() if k not in _SOURCE}
    rest = {k: v for k, v in error.items() if k != "details"}
    return rest | ({"details": details} if details else {})


@dataclass(frozen=True, slots=True)
class Head:
    """The columns of a task that a transition reads."""

    id: str
    org_id: str
    agent_id: str
    agent_name: str
    status: Status
    attempt: int
    claim_token: str | None
    last_seq: int
    lease_owner: str | None
    limit_keys: list[str] | None
    session_id: str | None
    key_id: str | None
    parent_id: str | None
    has_callback: bool
    started_at: float | None
    schedule_id: str | None
    listened: bool = True  # its organisation has endpoints, as far as this was looked up
