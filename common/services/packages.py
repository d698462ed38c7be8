"""Packages: agents as a live draft with a lock number, and the versions published of it (appstrate's way)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from common.domain.errors import NotFound
from common.services import agents as publishing
from common.services.agents import AgentRecord
from common.store import agents

Row = dict[str, Any]


def live(conn: Connection, org_id: str, name: str) -> AgentRecord:
    """The agent as it is being written: its draft, where there is one, else its current version.

    Error: `NotFound` agent_not_found.
    """
    agent = agents.by_name(conn, org_id, name)
    if agent is None:
        raise NotFound(f"There is no agent {name!r}.", code="agent_not_found", field="name")
    draft = draft_of(conn, agent["id"])
    return AgentRecord(agent, draft) if draft else publishing.resolve(conn, org_id, agent["id"])


def chosen(conn: Connection, org_id: str, name: str, version: str | None) -> AgentRecord:
    """`live`, or the version a query names; the operator's agents have no choice of version.

    Errors: `NotFound` agent_not_found or version_not_found.
    """
    found = live(conn, org_id, name)
    if version is None or found.agent["shared"]:
        return found
    return publishing.resolve(conn, org_id, found.agent["id"], version)


def draft_of(conn: Connection, agent_id: str) -> Row | None:
    """The draft of an agent."""
    return next((v for v in agents.versions(conn, agent_id) if v["status"] == "draft"), None)
