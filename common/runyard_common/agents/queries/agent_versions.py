"""Agents joined with their versions, as lists of versions show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select

from runyard_common.agents.queries import agents
from runyard_common.database import pages, rows
from runyard_common.database.pages import Page
from runyard_common.database.rows import OrgScope
from runyard_common.tables.query import Agent, AgentVersion
from runyard_common.values.json_text import JsonObject


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """A version with its agent; `org_id` and `shared` are the agent's, `current_id` its current version."""

    id: str
    agent_id: str
    number: int
    version: str
    status: str
    yanked: bool
    manifest: JsonObject | None
    secrets: bytes | None
    created_at: float
    updated_at: float
    org_id: str
    name: str
    kind: str
    description: str | None
    functional: bool
    is_active: bool
    shared: bool
    current_id: str | None


_VISIBLE = [
    AgentVersion.id, AgentVersion.agent_id, AgentVersion.number, AgentVersion.version, AgentVersion.status,
    AgentVersion.yanked, AgentVersion.manifest, AgentVersion.secrets, AgentVersion.created_at, AgentVersion.updated_at,
    Agent.org_id, Agent.name, Agent.kind, Agent.description, Agent.functional, Agent.is_active, Agent.shared,
    Agent.version_id.label("current_id"),
]  # fmt: skip
_WIDE = ("manifest", "secrets", "description")


def page(
    scope: OrgScope, statuses: Sequence[str], limit: int, before: str | None = None, name: str | None = None
) -> Page[ListedVersion]:
    """Versions in these statuses of the agents an organisation may see, newest first, older than `before`; fewer than
    `limit`, and `more`, where they are large."""
    query = _joined(scope).where(AgentVersion.status.in_(list(statuses)))
    if before is not None:
        query = query.where(AgentVersion.id < before)
    if name:
        query = query.where(agents.called(name))
    ordered = query.order_by(AgentVersion.id.desc()).limit(limit)
    return pages.bounded_rows(scope.conn, ordered, "id", _WIDE, kind=ListedVersion)


def of_agent(scope: OrgScope, agent_id: str) -> Page[ListedVersion]:
    """Every version of one agent, newest first; of large ones the manifests only as far as `pages.trimmed` goes."""
    query = _joined(scope).where(Agent.id == agent_id).order_by(AgentVersion.number.desc())
    return pages.trimmed(scope.conn, query, "id", _WIDE, kind=ListedVersion)


def get(scope: OrgScope, version_id: str) -> ListedVersion | None:
    """One version, with its agent."""
    return rows.first(scope.conn, _joined(scope).where(AgentVersion.id == version_id), ListedVersion)


def _joined(scope: OrgScope) -> Any:
    joined = select(*_VISIBLE).join(Agent, Agent.id == AgentVersion.agent_id)
    return joined.where(or_(Agent.org_id == scope.org_id, Agent.shared.is_(True)))
