"""Runs counted per agent, and the applications whose keys made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, select

from runyard_common.runs.rules.tasks import Task as Run
from runyard_common.tables.query import ApiKey, Task


def numbers(conn: Connection, runs: Sequence[Run]) -> dict[str, int]:
    """Each run's number among its agent's runs in the organisation, from 1, by task id."""
    by_agent: dict[tuple[str, str], list[str]] = defaultdict(list)
    for run in runs:
        by_agent[run.org_id, run.agent_id].append(run.id)
    found: dict[str, int] = {}
    for (org_id, agent_id), ids in by_agent.items():
        counted, last = 0, ""
        for id_ in sorted(ids):
            mine = (Task.agent_id == agent_id, Task.org_id == org_id, Task.id > last, Task.id <= id_)
            counted += conn.execute(select(func.count()).where(*mine)).scalar_one()
            found[id_], last = counted, id_
    return found


def applications(conn: Connection, key_ids: Iterable[str]) -> dict[str, str | None]:
    """The application of each key that has one."""
    query = select(ApiKey.id, ApiKey.application_id).where(ApiKey.id.in_(set(key_ids)))
    return {row.id: row.application_id for row in conn.execute(query)}
