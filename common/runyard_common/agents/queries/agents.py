"""Agents, their versions and tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from runyard_common.database import advisory, pages
from runyard_common.database.columns import dump
from runyard_common.database.pages import Page
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Agent, AgentTag, AgentVersion, Task
from runyard_common.values import ids

_AGENT = Agent.__table__.c
_VERSION = AgentVersion.__table__.c
_OUTSIDE = [c for c in _VERSION if c.key not in ("manifest", "secrets")]
#: Rows of a list that its contract gives no pages.
_MOST_LISTED: Final = 10_000
Row = dict[str, Any]


def _one(conn: Connection, query: Any) -> Row | None:
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def lock_names(tx: Tx, org_id: str) -> None:
    """Let one transaction at a time make or rename the organisation's agents: two workers that start together
    publish the same ones, and of two callers who want a name one gets it and the other is told."""
    advisory.lock(tx, [f"agents|{org_id}"])


def get(conn: Connection, org_id: str, agent_id: str) -> Row | None:
    """One agent that this organisation may see, by id."""
    return _one(conn, select(*_AGENT).where(Agent.id == agent_id, _visible(org_id)))


def is_own(conn: Connection, task_id: str) -> bool:
    """Whether a task's agent is of the task's own organisation."""
    query = select(Task.id).join(Agent, Agent.id == Task.agent_id)
    return conn.execute(query.where(Task.id == task_id, Agent.org_id == Task.org_id)).first() is not None


def by_name(conn: Connection, org_id: str, name: str) -> Row | None:
    """One agent by ``@scope/name``; the organisation's own stands before a shared one."""
    query = select(*_AGENT).where(Agent.name == name, _visible(org_id)).order_by(Agent.org_id != org_id)
    return _one(conn, query.limit(1))


def named(conn: Connection, org_id: str, name: str) -> Row | None:
    """One agent by ``@scope/name``: the one of this very name, else one of the scope whose normalised name it is, for
    callers whose names have hyphens where ours have underscores or capitals."""
    found = by_name(conn, org_id, name)
    scope, slash, _ = name.partition("/")
    if found is not None or not slash:
        return found
    query = select(*_AGENT).where(
        Agent.slug == ids.normalise(name),
        func.substr(Agent.name, 1, len(scope) + 1)
        == f"{scope}/",  # LIKE would not tell capitals apart on SQLite
        _visible(org_id),
    )
    return _one(conn, query.order_by(Agent.org_id != org_id, Agent.id).limit(1))


def by_slug(conn: Connection, org_id: str, slug: str) -> Row | None:
    """One agent by its normalised name; own before shared, then the oldest."""
    query = (
        select(*_AGENT).where(Agent.slug == slug, _visible(org_id)).order_by(Agent.org_id != org_id, Agent.id)
    )
    return _one(conn, query.limit(1))


def called(part: str) -> Any:
    """The condition that an agent's name contains this, written as people name agents or as full names are."""
    slug = ids.slug(part)
    found = Agent.name.icontains(part, autoescape=True)
    return or_(found, Agent.name.icontains(slug, autoescape=True)) if slug else found


def _visible(org_id: str) -> Any:
    return or_(Agent.org_id == org_id, Agent.shared.is_(True))


def page(
    conn: Connection,
    org_id: str,
    limit: int,
    before: str | None = None,
    name: str | None = None,
    include_inactive: bool = True,
) -> list[Row]:
    """Agents an organisation may see, newest first; `name` is a case-insensitive substring."""
    query = select(*_AGENT).where(_visible(org_id))
    if before is not None:
        query = query.where(Agent.id < before)
    if name:
        query = query.where(called(name))
    if not include_inactive:
        query = query.where(Agent.is_active.is_(True))
    return [dict(row._mapping) for row in conn.execute(query.order_by(Agent.id.desc()).limit(limit))]


def with_manifests(conn: Connection, org_id: str, include_inactive: bool = True) -> Page[Row]:
    """Agents an organisation may see that have a version to run, each with its `manifest`, newest first; None for
    large ones where they are many (see `pages.trimmed`)."""
    query = select(*_AGENT, AgentVersion.manifest).join(AgentVersion, AgentVersion.id == Agent.version_id)
    query = query.where(_visible(org_id))
    if not include_inactive:
        query = query.where(Agent.is_active.is_(True))
    query = query.order_by(Agent.id.desc()).limit(_MOST_LISTED)
    return pages.trimmed(conn, query, "id", ("manifest", "description"))


def insert_agent(tx: Tx, row: Row) -> None:
    """Store a new agent."""
    empty = {
        "description": "",
        "settings": None,
        "version_id": None,
        "chosen_at": None,
        "created_by": None,
        "shared": False,
        "is_active": True,
        "functional": True,
    }
    tx.conn.execute(insert(Agent), empty | row | {"created_at": tx.now, "updated_at": tx.now})


def update_agent(tx: Tx, agent_id: str, **values: Any) -> bool:
    """Change columns of an agent."""
    done = tx.conn.execute(update(Agent).where(Agent.id == agent_id).values(**values, updated_at=tx.now))
    return bool(done.rowcount)


def delete_agent(tx: Tx, agent_id: str) -> bool:
    """Delete an agent with its versions and tags; its tasks stay."""
    tx.conn.execute(delete(AgentTag).where(AgentTag.agent_id == agent_id))
    tx.conn.execute(delete(AgentVersion).where(AgentVersion.agent_id == agent_id))
    return bool(tx.conn.execute(delete(Agent).where(Agent.id == agent_id)).rowcount)


def version(conn: Connection, version_id: str) -> Row | None:
    """One version by id."""
    return _one(conn, select(*_VERSION).where(AgentVersion.id == version_id))


def versions(conn: Connection, agent_id: str) -> list[Row]:
    """Every version of an agent, newest first, without manifest and secrets; `size`: bytes of the manifest."""
    query = select(*_OUTSIDE).where(AgentVersion.agent_id == agent_id).order_by(AgentVersion.number.desc())
    return [dict(row._mapping) for row in conn.execute(query)]


def brought_versions(conn: Connection, names: Sequence[str]) -> list[Row]:
    """The versions of agents of these names that workers may bring, without manifest and secrets: `agent_id`, `name`,
    `number`, `version`, `yanked`, `created_at` and `org_id`."""
    query = select(*_OUTSIDE, Agent.name).join(Agent, Agent.id == AgentVersion.agent_id)
    query = query.where(Agent.name.in_(names), AgentVersion.shared.is_(True), AgentVersion.status != "draft")
    return [dict(row._mapping) for row in conn.execute(query)]


def draft(conn: Connection, agent_id: str) -> Row | None:
    """The version of an agent that is being written, whole."""
    mine = (AgentVersion.agent_id == agent_id, AgentVersion.status == "draft")
    return _one(conn, select(*_VERSION).where(*mine).order_by(AgentVersion.number.desc()).limit(1))


def insert_version(tx: Tx, row: Row) -> None:
    """Store a new version."""
    tx.conn.execute(
        insert(AgentVersion),
        {"yanked": False, "shared": False, "secrets": None}
        | row
        | {"size": size_of(row["manifest"]), "created_at": tx.now, "updated_at": tx.now},
    )


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
