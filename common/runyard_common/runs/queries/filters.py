"""What a list of tasks may ask for, as conditions that an index answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func

from runyard_common.database.pages import unindexed
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.lifecycle import ACTIVE, TERMINAL, Status
from runyard_common.tables import query as runs
from runyard_common.values.ids import first_uuid7

_T = runs.Task
#: How far the clock that made an id may be from the database's, in seconds.
_CLOCK_SKEW = 3_600.0


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listing asks for; None = anything. Times are epoch seconds, inclusive."""

    statuses: tuple[Status, ...] | None = None
    agent_id: str | None = None
    version_id: str | None = None
    session_id: str | None = None
    schedule_id: str | None = None
    end_user_id: str | None = None
    created_by: str | None = None
    parent_id: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    title: str | None = None  # case-insensitive substring


#: What a filter may name that has an index of its own.
_FEW = ("agent_id", "session_id", "schedule_id", "end_user_id", "created_by", "parent_id")


def filtered(query: Select[Any], scope: OrgScope, wanted: Filter) -> Select[Any]:
    """The query with the conditions of this filter."""
    active = wanted.statuses is not None and ACTIVE.issuperset(wanted.statuses)
    few = not active and any(getattr(wanted, name) is not None for name in _FEW)
    query = query.where((unindexed(_T.org_id) if few else _T.org_id) == scope.org_id)
    if wanted.statuses is not None:
        query = query.where(_T.status.in_([s.value for s in wanted.statuses]))
        # As the partial indexes have it.
        if active:
            query = query.where(_T.finished_at.is_(None))
        elif TERMINAL.issuperset(wanted.statuses):
            query = query.where(_T.finished_at.is_not(None))
    for name in (
        "agent_id",
        "version_id",
        "session_id",
        "schedule_id",
        "end_user_id",
        "created_by",
        "parent_id",
    ):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(_T, name) == value)
    # Ids hold the time too, and lead the indexes: they narrow the search to about the right rows.
    if (after := wanted.created_after) is not None:
        query = query.where(_T.created_at >= after, _T.id >= first_uuid7(after - _CLOCK_SKEW))
    if (before := wanted.created_before) is not None:
        query = query.where(_T.created_at <= before, _T.id <= first_uuid7(before + _CLOCK_SKEW))
    return query if not wanted.title else query.where(titled(_T.title, wanted.title))


def titled(title: ColumnElement[Any], part: str) -> ColumnElement[bool]:
    """Whether a title has this part, in any case."""
    pattern = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return func.lower(title).like(f"%{pattern.lower()}%", escape="\\")
