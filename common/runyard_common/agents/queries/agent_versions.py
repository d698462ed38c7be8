"""Agents joined with their versions, as lists of versions show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, or_, select

from runyard_common.agents.queries import agents
from runyard_common.database import pages
from runyard_common.database.pages import Page, Row
from runyard_common.tables.query import Agent, AgentVersion

_VISIBLE = [
    AgentVersion.id, AgentVersion.agent_id, AgentVersion.number, AgentVersion.version, AgentVersion.status,
    AgentVersion.yanked, AgentVersion.manifest, AgentVersion.secrets, AgentVersion.created_at, AgentVersion.updated_at,
    Agent.org_id, Agent.name, Agent.kind, Agent.description, Agent.functional, Agent.is_active, Agent.shared,
    Agent.version_id.label("current_id"),
]  # fmt: skip
_WIDE = ("manifest", "secrets", "description")


def page(
    conn: Connection,
    org_id: str,
    statuses: Sequence[str],
    limit: int,
    before: str | None = None,
    name: str | None = None,
) -> Page[Row]:
    """Versions in these statuses of the agents an organisation may see, newest first, older than `before`; fewer than
    `limit`, and `more`, where they are large."""
    query = _joined(org_id).where(AgentVersion.status.in_(list(statuses)))
    if before is not None:
        query = query.where(AgentVersion.id < before)
    if name:
        query = query.where(agents.called(name))
    return pages.bounded_rows(conn, query.order_by(AgentVersion.id.desc()).limit(limit), "id", _WIDE)


def of_agent(conn: Connection, org_id: str, agent_id: str) -> Page[Row]:
    """Every version of one agent, newest first; of large ones the manifests only as far as `pages.trimmed` goes."""
    query = _joined(org_id).where(Agent.id == agent_id).order_by(AgentVersion.number.desc())
    return pages.trimmed(conn, query, "id", _WIDE)


def get(conn: Connection, org_id: str, version_id: str) -> Row | None:
    """One version, with its agent."""
    row = conn.execute(_joined(org_id).where(AgentVersion.id == version_id)).first()
    return dict(row._mapping) if row else None


def _joined(org_id: str) -> Any:
    joined = select(*_VISIBLE).join(Agent, Agent.id == AgentVersion.agent_id)
    return joined.where(or_(Agent.org_id == org_id, Agent.shared.is_(True)))
