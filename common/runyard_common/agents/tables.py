"""What can be run: agents, their immutable versions, the tags that point at versions, and registered tools."""

from __future__ import annotations

from sqlalchemy import Index

from runyard_common.database import columns as c


class Agent(c.Table):
    """What can be run."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("ux_agents_name", "org_id", "name", unique=True),
        Index("ix_agents_name", "name"),  # an agent that is shared is found by its name alone
        Index("ix_agents_slug", "org_id", "slug"),
        Index("ix_agents_shared", "shared", "slug"),
    )

    id = c.key()  # stable over versions (on the wire: agent_group_id)
    org_id = c.ref()
    name = c.text(length=200)  # @scope/name
    slug = c.text(length=200)  # normalised name
    kind = c.text(length=16)  # declared, python
    description = c.text()
    functional = c.boolean(default=True)  # takes args and gives one structured result; chat agents do not
    is_active = c.boolean(default=True)
    shared = c.boolean(default=False)  # operator-published: every organisation may run it
    version_id = c.ref(nullable=True)  # the version that runs when none is asked for
    chosen_at = c.instant(nullable=True)  # when a publish chose it; None: workers that brought it did
    settings = c.json()  # front-specific facts that are not part of a version
    created_by = c.ref(nullable=True)
    created_at = c.instant()
    updated_at = c.instant()


class AgentVersion(c.Table):
    """An immutable published manifest, or the one draft that is being written."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        Index("ix_agent_versions_agent", "agent_id", "number"),
        Index("ux_agent_versions_version", "agent_id", "version", unique=True),
        Index("ix_agent_versions_org", "org_id", "size"),
    )

    id = c.key()
    org_id = c.ref()
    agent_id = c.ref()
    number = c.integer()  # 1, 2, 3 …
    version = c.text(length=64)  # semantic version
    status = c.text(length=16)  # draft, published, archived
    yanked = c.boolean(default=False)
    manifest = c.json()  # with ******** for its credentials
    size = c.counter()  # bytes of the manifest
    secrets = c.blob()  # encrypted {JSON pointer into the manifest: credential}
    shared = c.flag()  # by the operator's workers
    digest = c.text(length=64)  # SHA-256 of the canonical manifest as it is stored, hex
    created_at = c.instant()
    updated_at = c.instant()


class AgentTag(c.Table):
    """A name, such as `latest`, that points at a version."""

    __tablename__ = "agent_tags"

    agent_id = c.key()
    tag = c.key()
    version_id = c.ref()
    updated_at = c.instant()


class RegisteredTool(c.Table):
    """A tool that workers have registered, as the api judges who may name it."""

    __tablename__ = "registered_tools"

    name = c.text(length=200, primary_key=True)
    public = c.boolean(default=False)  # every organisation's agents may use it
    effect = c.text(length=16)  # read, idempotent, irreversible
    review = c.boolean(default=False)  # each call waits for approval
    updated_at = c.instant()
