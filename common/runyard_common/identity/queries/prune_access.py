"""Prune what is left of access that has ended: keys, sign-ins and invitations, and the log of who changed what."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, or_, select

from runyard_common.database.transaction import Tx
from runyard_common.tables.query import ApiKey, Audit, Invitation, Login


def _old_entries(org_id: str, before: float, limit: int) -> Any:
    query = select(Audit.id).where(Audit.org_id == org_id, Audit.at < before)
    return query.order_by(Audit.at).limit(limit)


def _ended_keys(org_id: str, before: float, limit: int) -> Any:
    ended = or_(ApiKey.revoked_at < before, ApiKey.expires_at < before)
    return select(ApiKey.id).where(ApiKey.org_id == org_id, ended).limit(limit)


def any_entry(conn: Connection, org_id: str, before: float) -> bool:
    """Whether `remove_entries` would find one."""
    return conn.execute(_old_entries(org_id, before, 1)).first() is not None


def any_key(conn: Connection, org_id: str, before: float) -> bool:
    """Whether `remove_keys` would find one."""
    return conn.execute(_ended_keys(org_id, before, 1)).first() is not None


def remove_entries(tx: Tx, org_id: str, before: float, limit: int) -> int:
    """Delete entries of the audit log from before an instant."""
    return _remove(tx, Audit.id, _old_entries(org_id, before, limit))


def remove_keys(tx: Tx, org_id: str, before: float, limit: int) -> int:
    """Delete keys that were revoked, or expired, before an instant."""
    return _remove(tx, ApiKey.id, _ended_keys(org_id, before, limit))


def remove_sign_ins(tx: Tx, limit: int) -> int:
    """Delete sign-ins that have expired; those that their people ended are gone already."""
    chosen = select(Login.token_hash).where(Login.expires_at <= tx.now).limit(limit)
    return _remove(tx, Login.token_hash, chosen)


def remove_invitations(tx: Tx, limit: int) -> int:
    """Delete invitations that have expired; those that were used or withdrawn are gone already."""
    chosen = select(Invitation.id).where(Invitation.expires_at <= tx.now).limit(limit)
    return _remove(tx, Invitation.id, chosen)


def _remove(tx: Tx, key: Any, chosen: Any) -> int:
    keys = list(tx.conn.execute(chosen.with_for_update(skip_locked=True)).scalars())
    if keys:
        tx.conn.execute(delete(key.table).where(key.in_(keys)))
    return len(keys)
