"""Sessions: conversations across tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, select, text, update

from runyard_common.database.transaction import Tx
from runyard_common.runs.rules.admission import Strategy
from runyard_common.tables.query import Message, Session
from runyard_common.values.ids import uuid7

_COLUMNS = Session.__table__.c

_ENSURE = text("""
INSERT INTO sessions (id, org_id, scope, key, agent_id, end_user_id, strategy, last_seq, created_at, updated_at)
VALUES (:id, :org_id, :scope, :key, :agent_id, :end_user_id, :strategy, 0, :now, :now)
ON CONFLICT (org_id, scope, key) DO UPDATE SET updated_at = :now
RETURNING id
""")


def ensure(
    tx: Tx,
    org_id: str,
    key: str,
    scope: str = "",
    agent_id: str | None = None,
    end_user_id: str | None = None,
    strategy: Strategy = Strategy.ENQUEUE,
    session_id: str | None = None,
) -> str:
    """The id of the session the caller names `key`, created when new. Of two racing callers both get the same."""
    values = {
        "id": session_id or uuid7(),
        "org_id": org_id,
        "scope": scope,
        "key": key,
        "agent_id": agent_id,
        "end_user_id": end_user_id,
        "strategy": strategy.value,
        "now": tx.now,
    }
    return str(tx.conn.execute(_ENSURE, values).scalar_one())


def strategies(conn: Connection, session_ids: Iterable[str]) -> dict[str, Strategy]:
    """What each session does with a second run while one is under way."""
    ids = list(session_ids)
    if not ids:
        return {}
    rows = conn.execute(select(Session.id, Session.strategy).where(Session.id.in_(ids)))
    return {row.id: Strategy(row.strategy) for row in rows}


def get(conn: Connection, org_id: str, session_id: str) -> dict[str, Any] | None:
    """One session of an organisation, by id."""
    row = conn.execute(select(*_COLUMNS).where(Session.id == session_id, Session.org_id == org_id)).first()
    return dict(row._mapping) if row else None


def find(conn: Connection, org_id: str, key: str, scope: str = "") -> dict[str, Any] | None:
    """One session of an organisation, by the caller's name for it."""
    query = select(*_COLUMNS).where(Session.org_id == org_id, Session.scope == scope, Session.key == key)
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def page(conn: Connection, org_id: str, limit: int, before: str | None = None) -> list[dict[str, Any]]:
    """Sessions of an organisation, newest first."""
    query = select(*_COLUMNS).where(Session.org_id == org_id)
    if before is not None:
        query = query.where(Session.id < before)
    return [dict(row._mapping) for row in conn.execute(query.order_by(Session.id.desc()).limit(limit))]


def forked(tx: Tx, session_id: str, from_id: str) -> None:
    """Note which session a new one was forked from."""
    tx.conn.execute(update(Session).where(Session.id == session_id).values(forked_from=from_id))


def set_strategy(tx: Tx, org_id: str, session_id: str, strategy: Strategy) -> bool:
    """Change what the session does with a second run."""
    done = tx.conn.execute(
        update(Session)
        .where(Session.id == session_id, Session.org_id == org_id)
        .values(strategy=strategy.value)
    )
    return bool(done.rowcount)


def remove(tx: Tx, org_id: str, session_id: str) -> bool:
    """Delete a session and its conversation; its tasks stay."""
    done = tx.conn.execute(delete(Session).where(Session.id == session_id, Session.org_id == org_id))
    if done.rowcount:
        tx.conn.execute(delete(Message).where(Message.session_id == session_id))
    return bool(done.rowcount)


def remove_of_agent(tx: Tx, org_id: str, agent_id: str, scope: str) -> int:
    """Delete an agent's sessions whose scope begins with `scope`, with their conversations; how many."""
    chosen = select(Session.id).where(
        Session.org_id == org_id,
        Session.agent_id == agent_id,
        Session.scope.startswith(scope, autoescape=True),
    )
    tx.conn.execute(delete(Message).where(Message.session_id.in_(chosen)))
    return int(tx.conn.execute(delete(Session).where(Session.id.in_(chosen))).rowcount)
