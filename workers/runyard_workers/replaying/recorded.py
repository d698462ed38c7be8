"""A recording as an attempt meets it: the task, its journal, answers and conversation, made of the document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final

from runyard.context import File, SessionInfo
from runyard.errors import AgentError
from runyard.replays import NotReplayable
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.rules.journal import JournalEntry
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from runyard_common.runs.service.claims import Claimed

_KNOWN: Final = frozenset(
    [
        "id",
        "org_id",
        "agent_id",
        "version_id",
        "agent_name",
        "version",
        "status",
        "front",
        "session_id",
        "lane",
        "priority",
        "has_callback",
        "meta",
        "created_at",
        "updated_at",
    ]
)
#: Forms of the document that this reads.
_FORMS: Final = (1,)
_ORG: Final = "recorded"


@dataclass(frozen=True, slots=True)
class Recording:
    """What is known of a run."""

    task: Task
    entries: list[JournalEntry]
    answers: list[Question]
    history: list[dict[str, Any]]
    children: Mapping[str, Any]
    reported: int
    status: str
    error: Mapping[str, Any] | None
    output: Any
    began_with: str

    @property
    def claimed(self) -> Claimed:
        """The claim of its next attempt."""
        return Claimed(self.task, journal=self.entries, answers=self.answers, at=self.task.created_at)

    @property
    def session(self) -> SessionInfo | None:
        """Its conversation."""
        return SessionInfo(self.task.session_id, self.history) if self.task.session_id else None

    def files(self, given: Mapping[str, bytes]) -> tuple[File, ...]:
        """Its attached files. A recording has their names; `given` has what is in them."""
        return tuple(
            File(f["id"], f["name"], f["media_type"], f["size"], _reader(f["name"], given))
            for f in (self.task.input or {}).get("files") or ()
        )


def _reader(name: str, given: Mapping[str, bytes]) -> Any:
    def read() -> bytes:
        if name not in given:
            raise AgentError(
                f"The recording does not hold {name}: give it in `files`.", code="file_not_recorded"
            )
        return given[name]

    return read


def document(source: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """The recording in a file, or as it is given. Raises `NotReplayable`."""
    if isinstance(source, Mapping):
        return source
    try:
        found = json.loads(Path(source).read_bytes())
    except OSError as error:
        raise NotReplayable(f"{source}: {error.strerror}.") from None
    except ValueError:
        raise NotReplayable(f"{source} is no JSON.") from None
    if not isinstance(found, Mapping):
        raise NotReplayable(f"{source} is no recording of a run: `runyard tasks journal TASK` writes one.")
    return found


def recording(found: Mapping[str, Any]) -> Recording:
    """The run of a recording. Raises `NotReplayable`."""
    if found.get("runyard_journal") not in _FORMS:
        raise NotReplayable(
            "This is no recording of a run, or one of a newer Runyard: `runyard tasks journal TASK` writes one."
        )
    try:
        task = _task(found["task"])
        return Recording(
            task,
            [JournalEntry(task_id=task.id, **entry) for entry in found["entries"]],
            [Question(org_id=_ORG, task_id=task.id, **answer) for answer in found["answers"]],
            list(found["history"]),
            dict(found["children"]),
            int(found["reported"]),
            str(found["task"]["status"]),
            found["task"]["error"],
            found["task"]["output"],
            str(found["task"]["began_with"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotReplayable(f"The recording is damaged: {type(error).__name__}: {error}.") from None


def _task(given: Mapping[str, Any]) -> Task:
    """The task as its next attempt claims it."""
    given_to_none = {field.name for field in fields(Task) if field.default is MISSING} - _KNOWN
    nothing: dict[str, Any] = dict.fromkeys(given_to_none)
    return Task(
        id=given["id"], org_id=_ORG, agent_id="recorded", version_id="recorded", agent_name=given["agent"],
        version=given["version"], status=Status.RUNNING, front="native", session_id=given["session_id"], lane="",
        priority=0, attempt=int(given["attempt"]) + 1, stored_input=given["input"],
        has_callback=False, meta=given["meta"], created_at=float(given["created_at"]),
        updated_at=float(given["created_at"]), **nothing,
    )  # fmt: skip
