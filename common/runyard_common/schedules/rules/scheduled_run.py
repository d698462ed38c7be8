"""The run that a schedule makes: a judged request, kept to be run later. Pure."""

from __future__ import annotations

import hashlib
import uuid

from runyard_common.runs.rules.run_request import OPTIONS, RunRequest
from runyard_common.runs.rules.specs import RunSpec
from runyard_common.schedules.rules.new_schedule import NewSchedule, StoredRun, Wanted, judge


def stored_run(
    request: RunRequest,
    spec: RunSpec,
    session_scope: str = "",
    message: str | None = None,
    version: str | None = None,
) -> StoredRun:
    """What to keep of a judged request (`spec` is what `runs.prepare` made of it) to run it later.

    `message` replaces its message, `version` the version it names.
    """
    own = request.model_dump(
        mode="json",
        by_alias=True,
        exclude_unset=True,
        exclude_none=True,
        exclude={*OPTIONS, "schedules"} | ({"query", "message"} if message is not None else set()),
    )
    if message is not None:
        own["message"] = message
    if version is not None:
        own["version"] = version
    return StoredRun(
        spec.org_id,
        spec.agent.agent_id,
        spec.agent.name,
        spec.front,
        own | spec.input.get("options", {}),
        spec.secrets,
        session_scope,
        spec.created_by,
        spec.key_id,
        spec.end_user_id,
    )


def of_request(
    request: RunRequest, spec: RunSpec, session_scope: str, most: int, now: float
) -> tuple[NewSchedule, ...]:
    """The schedules that a run request brings; each runs the request again with its own message.

    A deadline given as a date is the run's alone. Errors: `ScheduleError`.
    """
    asked = request.schedules
    if not asked:
        return ()
    if isinstance(request.deadline, str):
        request = request.model_copy(update={"deadline": None})
    new = tuple(
        NewSchedule(
            Wanted(one.schedule, catch_up=one.catch_up, at=f"schedules[{index}].schedule"),
            stored_run(request, spec, session_scope, one.message),
            most,
            id=_id_of(spec.task_id, index),
        )
        for index, one in enumerate(asked)
    )
    for one in new:
        judge(one.wanted, now)
    return new


def _id_of(task_id: str, index: int) -> str:
    """An id as old as the task's, and the same whenever the same request is prepared again."""
    mark = int.from_bytes(hashlib.blake2b(f"{task_id}/{index}".encode(), digest_size=8).digest()) >> 2
    return str(uuid.UUID(int=uuid.UUID(task_id).int >> 62 << 62 | mark))
