"""Applications of organisations and their end-users."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database import pages
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Application, EndUser

_APP = Application.__table__.c
_USER = EndUser.__table__.c
_MOST_LISTED = 10_000
Row = dict[str, Any]


def _one(conn: Connection, query: Any) -> Row | None:
    row = conn.execute(query).first()
    return dict(row._mapping) if row else None


def get(conn: Connection, org_id: str, application_id: str) -> Row | None:
    """One application of an organisation."""
    return _one(conn, select(*_APP).where(_APP.id == application_id, _APP.org_id == org_id))


def default(conn: Connection, org_id: str) -> Row | None:
    """The organisation's default application, once there is one."""
    return _one(conn, select(*_APP).where(_APP.org_id == org_id, _APP.is_default.is_(True)).limit(1))


def every(conn: Connection, org_id: str) -> list[Row]:
    """All applications of an organisation, oldest first."""
    query = select(*_APP).where(_APP.org_id == org_id).order_by(_APP.created_at, _APP.id).limit(_MOST_LISTED)
    return pages.trimmed(conn, query, "id", ("settings",))


def add(tx: Tx, row: Row) -> None:
    """Store a new application."""
    empty = {"is_default": False, "settings": None, "created_by": None}
    tx.conn.execute(insert(Application), empty | row | {"created_at": tx.now, "updated_at": tx.now})


def change(tx: Tx, application_id: str, **values: Any) -> None:
    """Set columns of an application."""
    tx.conn.execute(update(Application).where(_APP.id == application_id).values(**values, updated_at=tx.now))


def remove(tx: Tx, application_id: str) -> None:
    """Delete an application with its end-users."""
    tx.conn.execute(delete(EndUser).where(_USER.application_id == application_id))
    tx.conn.execute(delete(Application).where(_APP.id == application_id))


def end_user(conn: Connection, org_id: str, end_user_id: str) -> Row | None:
    """One end-user of an organisation."""
    return _one(conn, select(*_USER).where(_USER.id == end_user_id, _USER.org_id == org_id))


def by_external_id(conn: Connection, application_id: str, external_id: str) -> Row | None:
    """The end-user that an application knows by an id of its own."""
    query = select(*_USER).where(_USER.application_id == application_id, _USER.external_id == external_id)
    return _one(conn, query)


def end_users(
    conn: Connection,
    org_id: str,
    limit: int,
    after: str | None = None,
    before: str | None = None,
    **equal: str,
) -> list[Row]:
    """End-users, newest first: older than the id `after`, or the ones just newer than the id `before`.

    `equal` are columns with the value they must have.
    """
    query = select(*_USER).where(
        _USER.org_id == org_id, *(_USER[name] == value for name, value in equal.items())
    )
    if before is not None:
        rows = conn.execute(query.where(_USER.id > before).order_by(_USER.id).limit(limit)).all()
        return [dict(row._mapping) for row in reversed(rows)]
    if after is not None:
        query = query.where(_USER.id < after)
    return [dict(row._mapping) for row in conn.execute(query.order_by(_USER.id.desc()).limit(limit))]


def add_end_user(tx: Tx, row: Row) -> None:
    """Store a new end-user."""
    empty = {"name": None, "email": None, "external_id": None, "meta": None}
    tx.conn.execute(insert(EndUser), empty | row | {"created_at": tx.now, "updated_at": tx.now})


def change_end_user(tx: Tx, end_user_id: str, **values: Any) -> None:
    """Set columns of an end-user."""
    tx.conn.execute(update(EndUser).where(_USER.id == end_user_id).values(**values, updated_at=tx.now))


def remove_end_user(tx: Tx, end_user_id: str) -> None:
    """Delete an end-user."""
    tx.conn.execute(delete(EndUser).where(_USER.id == end_user_id))
