"""`python -m runyard_workers.replaying ORDER`: read a recording from the database, or replay one, for `runyard replay`.

It is a process of its own, as it runs the agents' code. ORDER is JSON: ``{"task"?, "save"?, "file"?, "agents"?,
"timeout"?}``. The last line of standard output is one JSON object: what was found, or the error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from runyard.replays import NotReplayable
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.environment import load
from runyard_common.identity.service.identity import sealer
from runyard_common.runs.queries import tasks
from runyard_common.sessions.service import recordings
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError, NotFound, RunyardError, Unavailable
from runyard_workers import replaying
from runyard_workers.agent_code import catalogue
from runyard_workers.replaying.recorded import document, recording
from runyard_workers.replaying.replay import chosen


def _from_database(task_id: str, settings: Settings) -> dict[str, Any]:
    """The whole recording of a run of this installation. Raises `RunyardError`s."""
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).exists():
        raise Unavailable("There is no database here.", code="database_unavailable")
    db = Database(settings.database)
    try:
        with db.read() as conn:
            task = tasks.load(conn, [task_id]).get(task_id)
            if task is None:
                raise NotFound("There is no such task.", code="task_not_found")
            return recordings.whole(OrgScope(conn, task.org_id), task_id, sealer(settings))
    except SQLAlchemyError as error:
        raise Unavailable(
            f"The database does not answer, or has no tables: {type(error).__name__}.",
            code="database_unavailable",
        ) from None
    finally:
        db.close()


def _done(order: Mapping[str, Any]) -> dict[str, Any]:
    if order.get("task"):
        saved = Path(order["save"])
        saved.write_text(
            json.dumps(_from_database(order["task"], load()), ensure_ascii=False), encoding="utf-8"
        )
        return {}
    found = recording(document(order["file"]))
    sources = order.get("agents") or load().agent_sources
    loaded = catalogue.load_each(sources)
    if loaded.broken:
        raise ConfigurationError("; ".join(loaded.broken))
    replay = replaying.run(chosen(loaded.definitions, found), found, timeout=float(order["timeout"]))
    return {"replay": replay.to_json(), "text": str(replay)}


def main() -> None:
    """Entry point of the process."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as report:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what agents' code prints is no report
        try:
            answer = _done(json.loads(sys.argv[1]))
        except RunyardError as error:
            answer = {"error": {"message": error.message, "code": error.code}}
        except NotReplayable as error:
            answer = {"error": {"message": str(error), "code": "not_replayable"}}
        print(json.dumps(answer, ensure_ascii=False, default=str), file=report, flush=True)
    os._exit(0)  # what the code has left running keeps nothing


if __name__ == "__main__":
    main()
