"""Recordings: the journal of a run with all that its code was given, as a document that can be replayed elsewhere.

A recording has pages: the entries of the journal in order, as far as their bytes go, and on the first page the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from runyard_common.agents.queries import agents
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database import pages
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks import queries as questions
from runyard_common.runs.queries import events, journal, tasks
from runyard_common.runs.rules.journal import JournalEntry, TimedEntry
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service import rebinds
from runyard_common.sessions.queries import messages
from runyard_common.values.errors import Forbidden, NotFound

#: The number of the document's form: another one when an older reader could not read it.
FORMAT: Final = 1
_SEALED: Final = "********"
_SHORTEST_SECRET: Final = 6  # characters: what is shorter is found in many a word
_REPORTED: Final = ("custom", "progress", "log")
_TASK: Final = (
    "id", "version", "status", "attempt", "input", "output", "error", "session_id", "meta", "created_at",
)  # fmt: skip
_ENTRY: Final = ("key", "pos", "attempt", "kind", "name", "effect", "detail", "state", "value")
_ANSWER: Final = (
    "id", "key", "kind", "payload", "on_timeout", "deadline_at", "created_at", "state", "answer", "answered_at",
)  # fmt: skip


def page(scope: OrgScope, task_id: str, after: int = 0, sealer: Sealer | None = None) -> dict[str, Any]:
    """A page of the recording of an organisation's run: `entries` behind the position `after`, and `next`, the
    position to ask for next, or None. Credentials of the request are left out (`sealer` opens them, to know them where
    a step has returned one).

    Errors: `NotFound` task_not_found; `Forbidden` not_your_agent, for a run of an agent of which the organisation sees
    only the outside.
    """
    task = _own(scope, task_id)
    entries, following = _entries(scope, task_id, after)
    found: dict[str, Any] = {
        "runyard_journal": FORMAT,
        "entries": [_picked(entry, _ENTRY) for entry in entries],
        "next": following,
    }
    if not after:
        found |= _rest(scope, task)
    cleaned: dict[str, Any] = _cleaned(found, task, sealer)
    return cleaned


def steps(
    scope: OrgScope, task_id: str, after: int, limit: int, most_bytes: int, sealer: Sealer
) -> list[TimedEntry]:
    """The steps of a run behind the position `after`, with their times, and with what is not larger than `most_bytes`.

    Credentials of the request are left out, as in a recording. Errors: see `page`.
    """
    task = _own(scope, task_id)
    found = journal.timed(scope.conn, task_id, after, limit, most_bytes)
    shown = _cleaned([[one.detail, one.value] for one in found], task, sealer)
    return [
        replace(one, detail=detail, value=value) for one, (detail, value) in zip(found, shown, strict=True)
    ]


def _own(scope: OrgScope, task_id: str) -> Task:
    task = tasks.get(scope, task_id)
    if task is None:
        raise NotFound("There is no such task.", code="task_not_found")
    version = agents.version(scope.conn, task.version_id)
    if version is None or version.org_id != scope.org_id:
        raise Forbidden(
            "The journal of a run shows what its agent's code does, and this agent is another organisation's.",
            code="not_your_agent",
        )
    return task


def _cleaned(value: Any, task: Task, sealer: Sealer | None) -> Any:
    secrets = list(_texts(sealer.open(task.secrets))) if sealer is not None and task.secrets else []
    return _without(value, secrets) if secrets else value


def whole(scope: OrgScope, task_id: str, sealer: Sealer | None = None) -> dict[str, Any]:
    """All pages as one document. Errors: see `page`."""
    found = page(scope, task_id, 0, sealer)
    while found["next"] is not None:
        following = page(scope, task_id, found["next"], sealer)
        found |= {"entries": found["entries"] + following["entries"], "next": following["next"]}
    return found


def _entries(scope: OrgScope, task_id: str, after: int) -> tuple[list[JournalEntry], int | None]:
    """The entries behind a position, as many as a page holds, and the position that the next page begins behind."""
    left = [entry for entry in journal.outline(scope.conn, task_id, 0) if entry.pos > after]
    count, size = 0, 0
    for entry in left:
        size += entry.value.bytes if entry.value is not None else 0
        if count and size > pages.MOST_BYTES:
            break
        count += 1
    chosen = left[:count]
    values = journal.values(scope.conn, task_id, [entry.key for entry in chosen]) if chosen else {}
    found = [replace(entry, value=values.get(entry.key)) for entry in chosen]
    return found, chosen[-1].pos if count < len(left) else None


def _rest(scope: OrgScope, task: Task) -> dict[str, Any]:
    answers = questions.of_tasks(scope.conn, [task]).get(task.id, [])
    history = (
        messages.of_session(scope, task.session_id, most_bytes=pages.MOST_BYTES) if task.session_id else ()
    )
    reported = events.count(scope.conn, task.id, _REPORTED) - events.count_output(scope.conn, task.id)
    return {
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": _picked(task, _TASK)
        | {"agent": task.agent_name, "began_with": rebinds.began_with(scope, task.id) or task.version},
        "history": [
            {"role": line.role, "type": line.type, "content": line.content}
            for line in history
            if line.task_id != task.id
        ],
        "answers": [_picked(answer, _ANSWER) for answer in answers if answer.state != "open"],
        "children": _children(scope, task.id),
        "reported": reported,
    }


def _children(scope: OrgScope, task_id: str) -> dict[str, Any]:
    """How the children ended whose ends are not in the journal yet, by id."""
    begun = [e for e in journal.outline(scope.conn, task_id, 0) if e.kind == "child" and e.state == "begun"]
    known = tasks.load(scope.conn, [entry.detail["task_id"] for entry in begun])
    return {
        child.id: {
            "task_id": child.id,
            "status": child.status.value,
            "output": child.output,
            "error": child.error,
        }
        for child in known.values()
        if child.finished_at is not None and child.org_id == scope.org_id
    }


def _picked(row: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _texts(value: Any) -> Iterable[str]:
    """The texts in a value that are long enough to be known again."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
        yield value


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(one, secrets) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without(one, secrets) for one in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _SEALED)
    return value
