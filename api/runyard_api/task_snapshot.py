"""A task as callers see it: with its place in the queue and its open questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from runyard_api.state import State
from runyard_common.human_tasks import queries as questions
from runyard_common.human_tasks.rules import Question
from runyard_common.identity.queries import config_versions
from runyard_common.runs.queries import tasks, workers
from runyard_common.runs.queries.workers import Fleet
from runyard_common.runs.rules.lifecycle import SUSPENDED, TERMINAL, Status
from runyard_common.runs.rules.tasks import OwnTask, Task
from runyard_common.runs.service.queues import QueuePosition, queue_position
from runyard_common.values.errors import ConfigurationChanged, NotFound


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """A task as it was in one snapshot of the database."""

    task: Task
    queue_position: QueuePosition | None = None
    questions: list[Question] = field(default_factory=list)  # open ones, oldest first
    retried_as: str | None = None  # the newest task that repeats it, of one that failed or was stopped

    @property
    def ended(self) -> bool:
        """Whether the task is in a terminal status."""
        return self.task.status in TERMINAL

    @property
    def at_rest(self) -> bool:
        """Whether nothing more happens unless a person acts."""
        return self.ended or self.task.status in SUSPENDED


async def snapshot(state: State, org_id: str, task_id: str, judged_at: int | None = None) -> TaskSnapshot:
    """A task of an organisation; `NotFound` task_not_found, also for another organisation's. `ConfigurationChanged`
    where the organisation's number is not `judged_at` (None: any)."""
    found = await state.reader.call(_read, (OwnTask(org_id, task_id), state.now(), judged_at))
    if found is None:
        raise NotFound("There is no such task.", code="task_not_found", field="task_id")
    return found


_Asked = tuple[OwnTask, float, int | None]


def _read(conn: Connection, asked: Sequence[_Asked]) -> list[TaskSnapshot | None]:
    found = tasks.of_organisations(conn, {own for own, _, _ in asked})
    loaded = {own: task for own, (task, _) in found.items()}
    now = max(now for _, now, _ in asked)
    suspended = [task for task in loaded.values() if task.status in SUSPENDED]
    asks = questions.of_tasks(conn, suspended) if suspended else {}
    coded = any(task.status is Status.PENDING and task.required_agent for task in loaded.values())
    fleet = workers.fleet(conn, now) if coded else None
    repeated = tasks.retried_as(conn, loaded.values())
    whole: dict[OwnTask, TaskSnapshot] = {}
    for own, task in loaded.items():
        place = (
            queue_position(conn, task, now) if task.status is Status.QUEUED or _stuck(task, fleet) else None
        )
        waiting = [q for q in asks.get(task.id, ()) if q.state == "open"]
        whole[own] = TaskSnapshot(task, place, waiting, repeated.get(task.id))
    numbers = {own.org_id: number for own, (_, number) in found.items()}
    return _checked(conn, asked, [whole.get(own) for own, _, _ in asked], numbers)


def _checked(
    conn: Connection, asked: Sequence[_Asked], found: list[TaskSnapshot | None], numbers: dict[str, int]
) -> list[TaskSnapshot | None]:
    """What was found; the error for those whose organisation's number is another than they were judged at.

    `numbers` of organisations came with their tasks; those that have none of these tasks are looked up.
    """
    if left := {own.org_id for own, _, judged_at in asked if judged_at is not None} - numbers.keys():
        numbers |= config_versions.numbers(conn, left)
    answers: list[Any] = [
        one if judged_at in (None, numbers.get(own.org_id)) else ConfigurationChanged()
        for one, (own, _, judged_at) in zip(found, asked, strict=True)
    ]
    return answers  # the reader raises the errors


def _stuck(task: Task, fleet: Fleet | None) -> bool:
    """Whether it is pending and no live worker has its agent."""
    if fleet is None or task.status is not Status.PENDING or task.required_agent is None:
        return False
    return not fleet.has(task.required_agent)
