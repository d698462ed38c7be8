"""What an organisation has of each kind that is capped, counted by an index and no further than the cap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, union_all

from runyard_common.identity.rules.caps import CAPS, STORAGE
from runyard_common.tables.query import (
    Agent,
    AgentTag,
    AgentVersion,
    AnswerLink,
    ApiKey,
    Application,
    Datastore,
    Document,
    EndUser,
    Idempotency,
    Invitation,
    Limit,
    Member,
    Message,
    Organisation,
    Secret,
    SentEvent,
    Session,
    StoredFile,
)

_Query = Callable[[str, float], Select[Any]]
#: The rows of each kind, by whom they are counted for (an organisation, or by what `Cap.of` names) and now.
_ROWS: Final[Mapping[str, _Query]] = {
    "keys": lambda of, _: select(ApiKey.id).where(ApiKey.org_id == of, ApiKey.revoked_at.is_(None)),
    "members": lambda of, _: select(Member.user_id).where(Member.org_id == of),
    "invitations": lambda of, now: select(Invitation.id).where(
        Invitation.org_id == of, Invitation.expires_at > now
    ),
    "applications": lambda of, _: select(Application.id).where(Application.org_id == of),
    "end_users": lambda of, _: select(EndUser.org_id).where(EndUser.org_id == of),
    "agents": lambda of, _: select(Agent.org_id).where(Agent.org_id == of, Agent.shared.is_(False)),
    "versions": lambda of, _: select(AgentVersion.agent_id).where(AgentVersion.agent_id == of),
    "tags": lambda of, _: select(AgentTag.tag).where(AgentTag.agent_id == of),
    "sessions": lambda of, _: select(Session.org_id).where(Session.org_id == of),
    "datastores": lambda of, _: select(Datastore.id).where(Datastore.org_id == of),
    "documents": lambda of, _: select(Document.datastore_id).where(Document.datastore_id == of),
    "limits": lambda of, _: select(Limit.id).where(Limit.org_id == of, ~Limit.id.startswith("agent-")),
    "links": lambda of, now: select(AnswerLink.token_hash).where(AnswerLink.question_id == of),
    "unread_messages": lambda of, _: select(Message.task_id).where(
        Message.task_id == of, Message.unread.is_(True)
    ),
    "idempotent_answers": lambda of, _: select(Idempotency.key).where(Idempotency.org_id == of),
    "sent_events": lambda of, _: select(SentEvent.org_id).where(SentEvent.org_id == of),
    "secrets": lambda of, _: select(Secret.name).where(Secret.org_id == of),
    "stored_files": lambda of, _: select(StoredFile.org_id).where(StoredFile.org_id == of),
}
assert set(_ROWS) | {STORAGE} == set(CAPS)


def count(conn: Connection, kind: str, of: str, now: float, at_most: int) -> int:
    """How many there are, counted up to `at_most`; of `STORAGE` all bytes."""
    if kind == STORAGE:
        return stored_bytes(conn, of)
    rows = _ROWS[kind](of, now).limit(at_most).subquery()
    return int(conn.execute(select(func.count()).select_from(rows)).scalar_one())


def stored_bytes(conn: Connection, org_id: str) -> int:
    """The bytes an organisation keeps in files, manifests and answers; a file counts as often as it is attached."""
    sums = union_all(*(
        select(func.coalesce(func.sum(table.size), 0).label("bytes")).where(table.org_id == org_id)
        for table in (StoredFile, AgentVersion, Idempotency)
    )).subquery()  # fmt: skip
    return int(conn.execute(select(func.sum(sums.c.bytes))).scalar_one())


def settings_of(conn: Connection, org_id: str) -> Any:
    """An organisation's settings."""
    return conn.execute(select(Organisation.settings).where(Organisation.id == org_id)).scalar()
