"""Sessions: read, fork, clear and remove conversations."""

from __future__ import annotations

from typing import Any

from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import identity
from runyard_common.identity.service import caps
from runyard_common.runs.queries import tasks
from runyard_common.runs.queries.filters import Filter
from runyard_common.runs.rules.admission import Strategy
from runyard_common.sessions.queries import messages, sessions, state
from runyard_common.sessions.rules import Session, state_scope
from runyard_common.values.errors import Conflict, NotFound
from runyard_common.values.ids import uuid7


def get(tx: Tx, org_id: str, session_id: str) -> Session:
    """A session of the organisation. Error: `NotFound` session_not_found."""
    session = sessions.get(tx.scope(org_id), session_id)
    if session is None:
        raise NotFound("There is no such session.", code="session_not_found")
    return session


def fork(tx: Tx, org_id: str, session_id: str, up_to: int | None = None, key: str | None = None) -> Session:
    """A new session that begins with this one's conversation, up to line `up_to` when given, and with what agents
    keep in it now.

    Error: `Conflict` session_exists when `key` is taken, too_many_sessions.
    """
    old = get(tx, org_id, session_id)
    new_id = uuid7()
    name = key or new_id
    if sessions.find(tx.scope(org_id), name, old.scope) is not None:
        raise Conflict("There is a session of that name already.", code="session_exists", field="key")
    caps.check(tx, org_id, "sessions")
    sessions.ensure(
        tx, org_id, name, old.scope, old.agent_id, old.end_user_id, Strategy(old.strategy), new_id
    )
    sessions.forked(tx, new_id, session_id)
    messages.copy_session(tx, session_id, new_id, up_to)
    state.copy(tx, state_scope(session_id, ""), state_scope(new_id, ""))
    return get(tx, org_id, new_id)


def clear(tx: Tx, org_id: str, session_id: str, by: str | None = None) -> int:
    """Erase the conversation; how many lines were erased. The session stays, its numbering goes on, and agents keep
    their values.

    Here and below `by` is whom the audit log names; None notes nothing.
    """
    get(tx, org_id, session_id)
    lines = messages.clear_session(tx, org_id, session_id)
    _note(tx, org_id, by, "clear", session_id, {"lines": lines})
    return lines


def _note(tx: Tx, org_id: str, by: str | None, verb: str, session_id: str, data: Any = None) -> None:
    if by is not None:
        identity.audit(tx, org_id, by, f"session.{verb}", session_id, data)


def change(
    tx: Tx, org_id: str, session_id: str, strategy: str | None, key: str | None, by: str | None = None
) -> Session:
    """Change what a second run does while one is under way (enqueue, reject or interrupt), and the caller's name for
    the session; None leaves one as it is.

    Error: `Conflict` session_exists when another session of its scope has that name.
    """
    old = get(tx, org_id, session_id)
    if strategy is not None:
        sessions.set_strategy(tx, org_id, session_id, Strategy(strategy))
    if key is not None and not sessions.rename(tx, old, key):
        raise Conflict("There is a session of that name already.", code="session_exists", field="key")
    changed = {"strategy": strategy, "key": key}
    _note(tx, org_id, by, "change", session_id, {k: v for k, v in changed.items() if v is not None})
    return get(tx, org_id, session_id)


def remove(tx: Tx, org_id: str, session_id: str, by: str | None = None) -> None:
    """Delete a session with its conversation. Error: `Conflict` session_busy while a task of it is under way."""
    get(tx, org_id, session_id)
    under_way = tasks.page(tx.scope(org_id), Filter(session_id=session_id), 50)
    if any(task.finished_at is None for task in under_way):
        raise Conflict("A task of this session is under way; cancel it first.", code="session_busy")
    sessions.remove(tx, org_id, session_id)
    _note(tx, org_id, by, "delete", session_id)
