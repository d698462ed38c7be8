"""Agents, their versions and tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from runyard_common.database import advisory, pages, rows
from runyard_common.database.columns import dump
from runyard_common.database.pages import Page, unindexed
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Agent, AgentTag, AgentVersion, Task
from runyard_common.values import ids
from runyard_common.values.json_text import JsonObject

#: Rows of a list that its contract gives no pages.
_MOST_LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class AgentRow:
    """What can be run, as `runyard_common.agents.tables.Agent` describes it."""

    id: str
    org_id: str
    name: str
    slug: str
    kind: str
    created_at: float
    updated_at: float
    description: str = ""
    functional: bool = True
    is_active: bool = True
    shared: bool = False
    version_id: str | None = None
    chosen_at: float | None = None
    settings: JsonObject | None = None
    created_by: str | None = None


@dataclass(frozen=True, slots=True)
class AgentWithManifest(AgentRow):
    """An agent with the manifest of its current version; None for a large one where they are many."""

    manifest: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class VersionOutline:
    """A version without its manifest and secrets, as `runyard_common.agents.tables.AgentVersion` describes it."""

    id: str
    org_id: str
    agent_id: str
    number: int
    version: str
    status: str
    yanked: bool
    shared: bool
    size: int
    digest: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class VersionRow(VersionOutline):
    """A version, its credentials sealed."""

    manifest: JsonObject
    secrets: bytes | None


@dataclass(frozen=True, slots=True)
class BroughtVersion:
    """A version that workers may bring, with its agent's name."""

    id: str
    org_id: str
    agent_id: str
    name: str
    number: int
    version: str
    yanked: bool
    created_at: float


_AGENT = rows.columns(AgentRow, Agent)
_OUTLINE = rows.columns(VersionOutline, AgentVersion)
_VERSION = rows.columns(VersionRow, AgentVersion)
_BROUGHT = {field.name for field in fields(BroughtVersion)}


def lock_names(tx: Tx, org_id: str) -> None:
    """Let one transaction at a time make or rename the organisation's agents: two workers that start together
    publish the same ones, and of two callers who want a name one gets it and the other is refused."""
    advisory.lock(tx, [f"agents|{org_id}"])


def get(scope: OrgScope, agent_id: str) -> AgentRow | None:
    """One agent that this organisation may see, by id."""
    return _first(scope, Agent.id == agent_id)


def is_own(conn: Connection, task_id: str) -> bool:
    """Whether a task's agent is of the task's own organisation."""
    query = select(Task.id).join(Agent, Agent.id == Task.agent_id)
    return conn.execute(query.where(Task.id == task_id, Agent.org_id == Task.org_id)).first() is not None


def by_name(scope: OrgScope, name: str) -> AgentRow | None:
    """One agent by ``@scope/name``; the organisation's own comes before a shared one."""
    return _first(scope, Agent.name == name)


def by_names(scope: OrgScope, names: Sequence[str]) -> dict[str, AgentRow]:
    """As `by_name` for many, by name; without those that are not there."""
    query = select(*_AGENT).where(Agent.name.in_(names), _visible(scope.org_id))
    # The last of a name is kept: the organisation's own, then the oldest.
    ordered = query.order_by(Agent.org_id == scope.org_id, Agent.id.desc())
    return {agent.name: agent for agent in rows.every(scope.conn, ordered, AgentRow)}


def named(scope: OrgScope, name: str) -> AgentRow | None:
    """One agent by ``@scope/name``: the one of this very name, else one of the scope whose normalised name it is, for
    callers whose names have hyphens where ours have underscores or capitals."""
    found = by_name(scope, name)
    prefix, slash, _ = name.partition("/")
    if found is not None or not slash:
        return found
    # LIKE does not distinguish capitals on SQLite
    in_scope = func.substr(Agent.name, 1, len(prefix) + 1) == f"{prefix}/"
    return _first(scope, Agent.slug == ids.normalise(name), in_scope)


def by_slug(scope: OrgScope, slug: str) -> AgentRow | None:
    """One agent by its normalised name; own before shared, then the oldest."""
    return _first(scope, Agent.slug == slug)


def _first(scope: OrgScope, *conditions: Any) -> AgentRow | None:
    query = select(*_AGENT).where(*conditions, _visible(scope.org_id))
    ordered = query.order_by(Agent.org_id != scope.org_id, Agent.id).limit(1)
    return rows.first(scope.conn, ordered, AgentRow)


def called(part: str) -> Any:
    """The condition that an agent's name contains this, written as people name agents or as full names are."""
    slug = ids.slug(part)
    found = Agent.name.icontains(part, autoescape=True)
    return or_(found, Agent.name.icontains(slug, autoescape=True)) if slug else found


def _visible(org_id: str) -> Any:
    return or_(Agent.org_id == org_id, Agent.shared.is_(True))


def page(scope: OrgScope, limit: int, before: str | None = None) -> list[AgentRow]:
    """Agents an organisation may see, newest first."""
    seen = or_(unindexed(Agent.org_id) == scope.org_id, unindexed(Agent.shared).is_(True))
    query = select(*_AGENT).where(seen)
    if before is not None:
        query = query.where(Agent.id < before)
    return rows.every(scope.conn, query.order_by(Agent.id.desc()).limit(limit), AgentRow)


def with_manifests(scope: OrgScope, include_inactive: bool = True) -> Page[AgentWithManifest]:
    """Agents an organisation may see that have a version to run, each with its `manifest`, newest first; None for
    large ones where they are many (see `pages.trimmed`)."""
    query = select(*_AGENT, AgentVersion.manifest).join(AgentVersion, AgentVersion.id == Agent.version_id)
    query = query.where(_visible(scope.org_id))
    if not include_inactive:
        query = query.where(Agent.is_active.is_(True))
    query = query.order_by(Agent.id.desc()).limit(_MOST_LISTED)
    return pages.trimmed(scope.conn, query, "id", ("manifest", "description"), kind=AgentWithManifest)


def insert_agent(tx: Tx, agent: AgentRow) -> None:
    """Store a new agent."""
    tx.conn.execute(insert(Agent), rows.values(agent))


def update_agent(tx: Tx, agent_id: str, **values: Any) -> bool:
    """Change columns of an agent."""
    done = tx.conn.execute(update(Agent).where(Agent.id == agent_id).values(**values, updated_at=tx.now))
    return bool(done.rowcount)


def delete_agent(tx: Tx, agent_id: str) -> bool:
    """Delete an agent with its versions and tags; its tasks stay."""
    tx.conn.execute(delete(AgentTag).where(AgentTag.agent_id == agent_id))
    tx.conn.execute(delete(AgentVersion).where(AgentVersion.agent_id == agent_id))
    return bool(tx.conn.execute(delete(Agent).where(Agent.id == agent_id)).rowcount)


def version(conn: Connection, version_id: str) -> VersionRow | None:
    """One version by id."""
    return rows.first(conn, select(*_VERSION).where(AgentVersion.id == version_id), VersionRow)


def versions(conn: Connection, agent_id: str) -> list[VersionOutline]:
    """Every version of an agent, newest first."""
    query = select(*_OUTLINE).where(AgentVersion.agent_id == agent_id).order_by(AgentVersion.number.desc())
    return rows.every(conn, query, VersionOutline)


def versions_of_each(conn: Connection, agent_ids: Sequence[str]) -> list[VersionOutline]:
    """Every version of each of these agents."""
    query = select(*_OUTLINE).where(AgentVersion.agent_id.in_(agent_ids))
    return rows.every(conn, query, VersionOutline)


def versions_by_id(conn: Connection, version_ids: Sequence[str]) -> list[VersionRow]:
    """These versions, newest first."""
    query = select(*_VERSION).where(AgentVersion.id.in_(version_ids)).order_by(AgentVersion.number.desc())
    return rows.every(conn, query, VersionRow)


def brought_versions(conn: Connection, names: Sequence[str]) -> list[BroughtVersion]:
    """The versions of agents of these names that workers may bring."""
    outline = [column for column in _OUTLINE if column.key in _BROUGHT]
    query = select(*outline, Agent.name).join(Agent, Agent.id == AgentVersion.agent_id)
    query = query.where(Agent.name.in_(names), AgentVersion.shared.is_(True), AgentVersion.status != "draft")
    return rows.every(conn, query, BroughtVersion)


def draft(conn: Connection, agent_id: str) -> VersionRow | None:
    """The version of an agent that is being written, whole."""
    mine = (AgentVersion.agent_id == agent_id, AgentVersion.status == "draft")
    query = select(*_VERSION).where(*mine).order_by(AgentVersion.number.desc()).limit(1)
    return rows.first(conn, query, VersionRow)


def insert_version(tx: Tx, version: VersionRow) -> None:
    """Store a new version."""
    tx.conn.execute(insert(AgentVersion), rows.values(version))


def size_of(manifest: Any) -> int:
    """The bytes a manifest takes in its column."""
    return len(dump(manifest).encode())


def update_version(tx: Tx, version_id: str, **values: Any) -> None:
    """Change a version's status, yank mark, or (drafts only) manifest."""
    if "manifest" in values:
        values["size"] = size_of(values["manifest"])
    tx.conn.execute(
        update(AgentVersion).where(AgentVersion.id == version_id).values(**values, updated_at=tx.now)
    )


def delete_version(tx: Tx, version_id: str) -> None:
    """Delete a version and the tags that point at it."""
    tx.conn.execute(delete(AgentTag).where(AgentTag.version_id == version_id))
    tx.conn.execute(delete(AgentVersion).where(AgentVersion.id == version_id))


def tags(conn: Connection, agent_id: str) -> dict[str, str]:
    """An agent's tags: name -> version id."""
    query = select(AgentTag.tag, AgentTag.version_id).where(AgentTag.agent_id == agent_id)
    return {row.tag: row.version_id for row in conn.execute(query)}


def set_tag(tx: Tx, agent_id: str, tag: str, version_id: str) -> None:
    """Point a tag at a version."""
    tx.conn.execute(delete(AgentTag).where(AgentTag.agent_id == agent_id, AgentTag.tag == tag))
    tx.conn.execute(
        insert(AgentTag), {"agent_id": agent_id, "tag": tag, "version_id": version_id, "updated_at": tx.now}
    )


def drop_tag(tx: Tx, agent_id: str, tag: str) -> bool:
    """Remove a tag."""
    return bool(
        tx.conn.execute(delete(AgentTag).where(AgentTag.agent_id == agent_id, AgentTag.tag == tag)).rowcount
    )
