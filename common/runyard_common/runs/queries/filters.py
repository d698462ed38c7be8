"""What a list of tasks may ask for, as conditions that an index answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, exists, func, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from runyard_common.database.pages import byte_length, unindexed
from runyard_common.database.rows import OrgScope
from runyard_common.runs.rules.lifecycle import ACTIVE, TERMINAL, Status
from runyard_common.runs.rules.tasks import CODE_LENGTH
from runyard_common.tables import query as runs
from runyard_common.values.ids import first_uuid7

_T = runs.Task
#: How far the clock that made an id may be from the database's, in seconds.
_CLOCK_SKEW = 3_600.0


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listing asks for; None = anything. Times are epoch seconds, inclusive."""

    ids: tuple[str, ...] | None = None
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
    error_code: str | None = None  # of those that failed or were stopped
    retried: bool | None = None  # whether another run repeats it
    title: str | None = None  # a part of it, in any case

    def fits(self, title: str | None) -> bool:
        """Whether a title has the part that is asked for: by case folding, as Unicode has it."""
        return not self.title or (title is not None and self.title.casefold() in title.casefold())


#: What a filter may name that has an index of its own.
_FEW = ("ids", "agent_id", "session_id", "schedule_id", "end_user_id", "created_by", "parent_id")
_AGAIN = _T.__table__.alias("again").c


def filtered(query: Select[Any], scope: OrgScope, wanted: Filter) -> Select[Any]:
    """The query with this filter's conditions. A part of a title gives candidates, which `Filter.fits` judges."""
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
    if wanted.ids is not None:
        query = query.where(_T.id.in_(wanted.ids))
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
    if wanted.error_code is not None:
        query = query.where(_T.error_code == wanted.error_code[:CODE_LENGTH])
    if wanted.retried is not None:
        again = exists().where(_AGAIN.retry_of == _T.id)
        query = query.where(again if wanted.retried else ~again)
    # Ids hold the time too, and lead the indexes: they narrow the search to about the right rows.
    if (after := wanted.created_after) is not None:
        query = query.where(_T.created_at >= after, _T.id >= first_uuid7(after - _CLOCK_SKEW))
    if (before := wanted.created_before) is not None:
        query = query.where(_T.created_at <= before, _T.id <= first_uuid7(before + _CLOCK_SKEW))
    return query if not wanted.title else query.where(may_fit(_T.title, wanted.title))


class ascii_lower(FunctionElement[str]):  # noqa: N801 - it is written like a function of the database
    """A text with the capitals of ASCII in lower case, and no others: what both databases do in any locale."""

    type = Text()
    inherit_cache = True


@compiles(ascii_lower)
def _lower_in_c(element: Any, compiler: Any, **options: Any) -> str:
    return f'lower(({compiler.process(element.clauses, **options)}) COLLATE "C")'


@compiles(ascii_lower, "sqlite")
def _lower_of_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"


def may_fit(title: ColumnElement[Any], part: str) -> ColumnElement[bool]:
    """Whether a title may have this part in any case: exact for titles in ASCII, true for all others.

    What the databases know of other letters differs, and depends on the locale of PostgreSQL.
    """
    other_letters = byte_length(title) != func.length(title)
    folded = part.casefold()
    if not folded.isascii():
        return other_letters  # ASCII, case folded, is ASCII
    pattern = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return or_(other_letters, ascii_lower(title).like(f"%{pattern}%", escape="\\"))
