"""Sessions: conversations across tasks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from runyard_common.database import rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries.filters import may_fit
from runyard_common.runs.queries.tasks import SEARCHED
from runyard_common.runs.rules.admission import Strategy
from runyard_common.sessions.queries import state
from runyard_common.sessions.rules import Session, state_scope
from runyard_common.tables import query as tables
from runyard_common.tables.query import Message
from runyard_common.values.ids import is_uuid, uuid7

_T = tables.Session
_OWN = select(*rows.columns(Session, _T))

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
    rows = conn.execute(select(_T.id, _T.strategy).where(_T.id.in_(ids)))
    return {row.id: Strategy(row.strategy) for row in rows}


def get(scope: OrgScope, session_id: str) -> Session | None:
    """One session of an organisation, by id."""
    return rows.first(scope.conn, _OWN.where(_T.id == session_id, _T.org_id == scope.org_id), Session)


def find(scope: OrgScope, key: str, within: str = "") -> Session | None:
    """One session of an organisation, by the caller's name for it."""
    query = _OWN.where(_T.org_id == scope.org_id, _T.scope == within, _T.key == key)
    return rows.first(scope.conn, query, Session)


def named(scope: OrgScope, name: str, within: str = "") -> Session | None:
    """One session of an organisation, by its id or else the caller's name for it."""
    found = get(scope, name) if is_uuid(name) else None
    return found if found is not None and found.scope == within else find(scope, name, within)


def page(scope: OrgScope, limit: int, before: str | None = None) -> list[Session]:
    """Sessions of an organisation, newest first."""
    query = _OWN.where(_T.org_id == scope.org_id)
    if before is not None:
        query = query.where(_T.id < before)
    return rows.every(scope.conn, query.order_by(_T.id.desc()).limit(limit), Session)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found so far; `end` is the id behind which it goes on, None once it has seen all."""

    sessions: list[Session]
    end: str | None = None


def search(scope: OrgScope, part: str, limit: int, before: str | None = None) -> Found:
    """As `page`, those with this part in the caller's name for them, in any case: it looks at `SEARCHED` at most."""
    newest = select(_T.id, _T.key).where(_T.org_id == scope.org_id)
    if before is not None:
        newest = newest.where(_T.id < before)
    among = newest.order_by(_T.id.desc()).limit(SEARCHED).subquery()
    candidates = select(among).where(may_fit(among.c.key, part)).order_by(among.c.id.desc())
    ids = [row.id for row in scope.conn.execute(candidates) if part.casefold() in row.key.casefold()]
    chosen = _OWN.where(_T.id.in_(ids[:limit]), _T.org_id == scope.org_id).order_by(_T.id.desc())
    found = rows.every(scope.conn, chosen, Session)
    if len(ids) > limit:
        return Found(found, ids[limit - 1])
    seen, last = scope.conn.execute(select(func.count(), func.min(among.c.id))).one()
    return Found(found, last if seen == SEARCHED else None)


def forked(tx: Tx, session_id: str, from_id: str) -> None:
    """Note which session a new one was forked from."""
    tx.conn.execute(update(_T).where(_T.id == session_id).values(forked_from=from_id))


def set_strategy(tx: Tx, org_id: str, session_id: str, strategy: Strategy) -> bool:
    """Change what the session does with a second run."""
    done = tx.conn.execute(
        update(_T).where(_T.id == session_id, _T.org_id == org_id).values(strategy=strategy.value)
    )
    return bool(done.rowcount)


def rename(tx: Tx, session: Session, key: str) -> bool:
    """Give a session another name of the caller's; false when another of its scope has that name: the transaction is
    then rolled back."""
    so_named = select(_T.id).where(_T.org_id == session.org_id, _T.scope == session.scope, _T.key == key)
    if tx.conn.execute(so_named.where(_T.id != session.id)).first() is not None:
        return False
    try:
        tx.conn.execute(update(_T).where(_T.id == session.id).values(key=key))
    except IntegrityError:  # another took the name meanwhile
        return False
    return True


def remove(tx: Tx, org_id: str, session_id: str) -> bool:
    """Delete a session with its conversation and what agents keep in it; its tasks stay."""
    state.lock(tx, [state_scope(session_id, "")])
    done = tx.conn.execute(delete(_T).where(_T.id == session_id, _T.org_id == org_id))
    if done.rowcount:
        tx.conn.execute(delete(Message).where(Message.session_id == session_id))
        state.remove_all(tx, [state_scope(session_id, "")])
    return bool(done.rowcount)


def remove_of_agent(tx: Tx, org_id: str, agent_id: str, scope: str) -> int:
    """Delete an agent's sessions whose scope begins with `scope`, with all that is theirs; how many."""
    theirs = (_T.org_id == org_id, _T.agent_id == agent_id, _T.scope.startswith(scope, autoescape=True))
    chosen = list(tx.conn.execute(select(_T.id).where(*theirs).order_by(_T.id).with_for_update()).scalars())
    scopes = [state_scope(id_, "") for id_ in chosen]
    state.lock(tx, scopes)
    state.remove_all(tx, scopes)
    tx.conn.execute(delete(Message).where(Message.session_id.in_(chosen)))
    return int(tx.conn.execute(delete(_T).where(_T.id.in_(chosen))).rowcount)
