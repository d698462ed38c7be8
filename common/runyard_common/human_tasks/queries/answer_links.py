"""One-time answer links: only the hash of their token is kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import AnswerLink


def put(tx: Tx, token_hash: str, org_id: str, question_id: str, expires_at: float) -> None:
    """Store a link."""
    row = {"token_hash": token_hash, "org_id": org_id, "question_id": question_id, "expires_at": expires_at}
    tx.conn.execute(insert(AnswerLink), row)


def get(conn: Connection, token_hash: str) -> dict[str, Any] | None:
    """One link by the hash of its token."""
    row = conn.execute(select(*AnswerLink.__table__.c).where(AnswerLink.token_hash == token_hash)).first()
    return dict(row._mapping) if row else None


def use(tx: Tx, token_hash: str) -> bool:
    """Mark a link as used; False when it was used before or has expired."""
    done = tx.conn.execute(
        update(AnswerLink)
        .where(
            AnswerLink.token_hash == token_hash, AnswerLink.used_at.is_(None), AnswerLink.expires_at > tx.now
        )
        .values(used_at=tx.now)
    )
    return bool(done.rowcount)


def prune(tx: Tx) -> int:
    """Forget expired links; how many."""
    return int(tx.conn.execute(delete(AnswerLink).where(AnswerLink.expires_at < tx.now)).rowcount)
