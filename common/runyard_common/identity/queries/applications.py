"""Applications of organisations and their end-users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from runyard_common.database import pages, rows
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import Application, EndUser
from runyard_common.values.json_text import JsonObject

_APP = Application.__table__.c
_USER = EndUser.__table__.c
_MOST_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class ApplicationRow:
    """A caller's application, as `runyard_common.identity.tables.Application` describes it."""

    id: str
    org_id: str
    name: str
    created_at: float
    updated_at: float
    is_default: bool = False
    settings: JsonObject | None = None
    created_by: str | None = None


@dataclass(frozen=True, slots=True)
class EndUserRow:
    """A person on whose behalf an application runs agents."""

    id: str
    org_id: str
    application_id: str
    created_at: float
    updated_at: float
    name: str | None = None
    email: str | None = None
    external_id: str | None = None
    meta: JsonObject | None = None


def get(scope: OrgScope, application_id: str) -> ApplicationRow | None:
    """One application of an organisation."""
    query = select(*_APP).where(_APP.id == application_id, _APP.org_id == scope.org_id)
    return rows.first(scope.conn, query, ApplicationRow)


def default(scope: OrgScope) -> ApplicationRow | None:
    """The organisation's default application, once there is one."""
    query = select(*_APP).where(_APP.org_id == scope.org_id, _APP.is_default.is_(True)).limit(1)
    return rows.first(scope.conn, query, ApplicationRow)


def every(scope: OrgScope) -> list[ApplicationRow]:
    """All applications of an organisation, oldest first."""
    query = select(*_APP).where(_APP.org_id == scope.org_id).order_by(_APP.created_at, _APP.id)
    return pages.trimmed(scope.conn, query.limit(_MOST_LISTED), "id", ("settings",), kind=ApplicationRow)


def add(tx: Tx, new: ApplicationRow) -> None:
    """Store a new application."""
    tx.conn.execute(insert(Application), rows.values(new))


def change(tx: Tx, application_id: str, **values: Any) -> None:
    """Set columns of an application."""
    tx.conn.execute(update(Application).where(_APP.id == application_id).values(**values, updated_at=tx.now))


def remove(tx: Tx, application_id: str) -> None:
    """Delete an application with its end-users."""
    tx.conn.execute(delete(EndUser).where(_USER.application_id == application_id))
    tx.conn.execute(delete(Application).where(_APP.id == application_id))


def end_user(scope: OrgScope, end_user_id: str) -> EndUserRow | None:
    """One end-user of an organisation."""
    query = select(*_USER).where(_USER.id == end_user_id, _USER.org_id == scope.org_id)
    return rows.first(scope.conn, query, EndUserRow)


def has_external_id(conn: Connection, application_id: str, external_id: str) -> bool:
    """Whether an application has an end-user of this id of its own."""
    query = select(_USER.id).where(_USER.application_id == application_id, _USER.external_id == external_id)
    return conn.execute(query).first() is not None


def end_users(
    scope: OrgScope, limit: int, after: str | None, before: str | None, equal: Mapping[str, str]
) -> list[EndUserRow]:
    """End-users, newest first: older than the id `after`, or the ones just newer than the id `before`.

    `equal` are columns with the value they must have.
    """
    query = select(*_USER).where(
        _USER.org_id == scope.org_id, *(_USER[name] == value for name, value in equal.items())
    )
    if before is not None:
        newer = query.where(_USER.id > before).order_by(_USER.id).limit(limit)
        return rows.every(scope.conn, newer, EndUserRow)[::-1]
    if after is not None:
        query = query.where(_USER.id < after)
    return rows.every(scope.conn, query.order_by(_USER.id.desc()).limit(limit), EndUserRow)


def add_end_user(tx: Tx, new: EndUserRow) -> None:
    """Store a new end-user."""
    tx.conn.execute(insert(EndUser), rows.values(new))


def change_end_user(tx: Tx, end_user_id: str, **values: Any) -> None:
    """Set columns of an end-user."""
    tx.conn.execute(update(EndUser).where(_USER.id == end_user_id).values(**values, updated_at=tx.now))


def remove_end_user(tx: Tx, end_user_id: str) -> None:
    """Delete an end-user."""
    tx.conn.execute(delete(EndUser).where(_USER.id == end_user_id))
