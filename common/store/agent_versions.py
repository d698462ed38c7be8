"""Agents joined with their versions, as lists of versions show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, or_, select

from common.store.tables.query import Agent, AgentVersion

_VISIBLE = [
    AgentVersion.id, AgentVersion.agent_id, AgentVersion.number, AgentVersion.version, AgentVersion.status,
    AgentVersion.yanked, AgentVersion.manifest, AgentVersion.secrets, AgentVersion.created_at, AgentVersion.updated_at,
    Agent.org_id, Agent.name, Agent.kind, Agent.description, Agent.functional, Agent.is_active, Agent.shared,
    Agent.version_id.label("current_id"),
]  # fmt: skip


def page(
    conn: Connection,
    org_id: str,
    statuses: Sequence[str],
    limit: int,
    before: str | None = None,
    name: str | None = None,
) -> list[dict[str, Any]]:
    """Versions in these statuses of the agents an organisation may see, newest first, older than `before`."""
    query = _joined(org_id).where(AgentVersion.status.in_(list(statuses)))
    if before is not None:
        query = query.where(AgentVersion.id < before)
    if name:
        query = query.where(Agent.name.icontains(name, autoescape=True))
    rows = conn.execute(query.order_by(AgentVersion.id.desc()).limit(limit))
    return [dict(row._mapping) for row in rows]


def of_agent(conn: Connection, org_id: str, agent_id: str) -> list[dict[str, Any]]:
    """Every version of one agent, newest first."""
    rows = conn.execute(_joined(org_id).where(Agent.id == agent_id).order_by(AgentVersion.number.desc()))
    return [dict(row._mapping) for row in rows]


def get(conn: Connection, org_id: str, version_id: str) -> dict[str, Any] | None:
    """One version, with its agent."""
    row = conn.execute(_joined(org_id).where(AgentVersion.id == version_id)).first()
    return dict(row._mapping) if row else None


def _joined(org_id: str) -> Any:
    joined = select(*_VISIBLE).join(Agent, Agent.id == AgentVersion.agent_id)
    return joined.where(or_(Agent.org_id == org_id, Agent.shared.is_(True)))
