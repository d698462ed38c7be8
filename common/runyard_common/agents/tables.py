"""What can be run: agents, their immutable versions, the tags that point at versions, and registered tools."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, String, false
from sqlmodel import Field, SQLModel

from runyard_common.database import columns as c


class Agent(SQLModel, table=True):
    """What can be run."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("ux_agents_name", "org_id", "name", unique=True),
        Index("ix_agents_slug", "org_id", "slug"),
        Index("ix_agents_shared", "shared", "slug"),
    )

    id: str = c.key()  # stable over versions (on the wire: agent_group_id)
    org_id: str = c.ref()
    name: str = c.text(length=200)  # @scope/name
    slug: str = c.text(length=200)  # normalised name
    kind: str = c.text(length=16)  # declared, python
    description: str = c.text()
    functional: bool = Field(default=True)  # takes args and gives one structured result; chat agents do not
    is_active: bool = Field(default=True)
    shared: bool = Field(default=False)  # operator-published: every organisation may run it
    version_id: str | None = c.ref(nullable=True)  # the version that runs when none is asked for
    chosen_at: float | None = c.instant(
        nullable=True
    )  # when a publish chose it; None: workers that brought it did
    settings: Any = c.json()  # front-specific facts that are not part of a version
    created_by: str | None = c.ref(nullable=True)
    created_at: float = c.instant()
    updated_at: float = c.instant()


class AgentVersion(SQLModel, table=True):
    """An immutable published manifest, or the one draft that is being written."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        Index("ix_agent_versions_agent", "agent_id", "number"),
        Index("ux_agent_versions_version", "agent_id", "version", unique=True),
        Index("ix_agent_versions_org", "org_id", "size"),
    )

    id: str = c.key()
    org_id: str = c.ref()
    agent_id: str = c.ref()
    number: int = c.integer()  # 1, 2, 3 …
    version: str = c.text(length=64)  # semantic version
    status: str = c.text(length=16)  # draft, published, archived
    yanked: bool = Field(default=False)
    manifest: Any = c.json()  # with ******** for its credentials
    size: int = c.counter()  # bytes of the manifest
    secrets: bytes | None = c.blob()  # encrypted {JSON pointer into the manifest: credential}
    shared: bool = Field(
        default=False, sa_column_kwargs={"server_default": false()}
    )  # by the operator's workers
    digest: str = c.text(length=64)  # SHA-256 of the canonical manifest as it is stored, hex
    created_at: float = c.instant()
    updated_at: float = c.instant()


class AgentTag(SQLModel, table=True):
    """A name, such as `latest`, that points at a version."""

    __tablename__ = "agent_tags"

    agent_id: str = c.key()
    tag: str = c.key()
    version_id: str = c.ref()
    updated_at: float = c.instant()


class RegisteredTool(SQLModel, table=True):
    """A tool that workers have registered, as the api judges who may name it."""

    __tablename__ = "registered_tools"

    name: str = Field(sa_column=Column(String(200), primary_key=True))
    public: bool = Field(default=False)  # every organisation's agents may use it
    effect: str = c.text(length=16)  # read, idempotent, irreversible
    review: bool = Field(default=False)  # each call waits for approval
    updated_at: float = c.instant()
