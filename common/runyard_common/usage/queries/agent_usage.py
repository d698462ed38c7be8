"""How agents have been used: by runs, and by the models they asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, distinct, func, select

from runyard_common.tables.query import Question, Task, Turn

#: Averages are taken over so many of an agent's newest runs.
RECENT: Final = 500


@dataclass(frozen=True, slots=True)
class AgentUsage:
    """An agent's runs: how many, when the last began (epoch seconds), and of the newest ones the mean time
    to answer (seconds) and how many questions and reviews people were asked."""

    runs: int = 0
    last_at: float | None = None
    mean_s: float = 0.0
    asked: int = 0


def of_agents(conn: Connection, org_id: str, agent_ids: Iterable[str]) -> dict[str, AgentUsage]:
    """The usage of these agents by an organisation; one that was never run is left out."""
    query = (
        select(Task.agent_id, func.count().label("runs"), func.max(Task.id).label("last_id"))
        .where(Task.agent_id.in_(list(agent_ids)), Task.org_id == org_id)
        .group_by(Task.agent_id)
    )
    found = {}
    for row in conn.execute(query).all():
        last_at = conn.execute(select(Task.created_at).where(Task.id == row.last_id)).scalar_one()
        found[row.agent_id] = AgentUsage(row.runs, last_at, *_recent(conn, org_id, row.agent_id))
    return found


def _recent(conn: Connection, org_id: str, agent_id: str) -> tuple[float, int]:
    newest = (
        select(Task.id, Task.created_at, Task.finished_at, Task.status)
        .where(Task.agent_id == agent_id, Task.org_id == org_id)
        .order_by(Task.id.desc())
        .limit(RECENT)
        .subquery()
    )
    took = select(func.avg(newest.c.finished_at - newest.c.created_at)).where(newest.c.status == "completed")
    asked = select(func.count()).select_from(Question).join(newest, newest.c.id == Question.task_id)
    return float(conn.execute(took).scalar() or 0.0), int(conn.execute(asked).scalar_one())


def by_model(conn: Connection, org_id: str) -> list[dict[str, Any]]:
    """For each model an organisation has asked: {model, runs, tokens}, the most used first."""
    query = (
        select(
            Turn.model,
            func.count(distinct(Turn.task_id)).label("runs"),
            func.sum(Turn.input_tokens + Turn.output_tokens).label("tokens"),
        )
        .where(Turn.org_id == org_id)
        .group_by(Turn.model)
        .order_by(func.count(distinct(Turn.task_id)).desc(), Turn.model)
    )
    return [{"model": row.model, "runs": row.runs, "tokens": int(row.tokens)} for row in conn.execute(query)]


def runs_with_model(conn: Connection, org_id: str) -> int:
    """How many runs of an organisation have asked a model."""
    query = select(func.count(distinct(Turn.task_id))).where(Turn.org_id == org_id)
    return int(conn.execute(query).scalar_one())
