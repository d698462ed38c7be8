"""Finished tasks as copies of one that really ran, made by the database itself: a million takes minutes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from runyard_common.database.engine import Database
from runyard_common.tables.query import Task, TaskEvent

_CHUNK: Final = 25_000
_MONTH: Final = 2_592_000.0
_SERIES: Final = {
    True: "SELECT n FROM generate_series(CAST(:start AS bigint), CAST(:stop AS bigint)) AS n",
    False: "WITH RECURSIVE up(n) AS (SELECT :start UNION ALL SELECT n + 1 FROM up WHERE n < :stop) SELECT n FROM up",
}
_HEX: Final = {
    True: "lpad(to_hex(CAST({} AS bigint)), 12, '0')",
    False: "printf('%012x', CAST({} AS integer))",
}


def fill(db: Database, task_id: str, stored: int) -> None:
    """`stored` copies of this task over the month before it, each with its last event; one in ten failed."""
    statements = [text(_copies(db.is_postgres)), text(_events(db.is_postgres))]
    for start in range(0, stored, _CHUNK):
        given = {"id": task_id, "start": start, "stop": min(start + _CHUNK, stored) - 1}
        given |= {"stored": stored, "gap": _MONTH / stored}
        with db.begin() as conn:
            for statement in statements:
                conn.execute(statement, {name: given[name] for name in statement.compile().params})
    if db.is_postgres:
        with db.engine.connect() as conn:
            conn.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def _numbered(is_postgres: bool) -> str:
    """Of each copy: its number, how many seconds earlier it was, and its id, as it would have been made then."""
    hexed = _HEX[is_postgres]
    at = hexed.format(
        "floor((done.created_at - ago) * 1000)" if is_postgres else "(done.created_at - ago) * 1000"
    )
    ago = (
        "CAST(:gap AS double precision) * (CAST(:stored AS bigint) - n)"
        if is_postgres
        else ":gap * (:stored - n)"
    )
    return (
        f"SELECT n, ago, substr(at, 1, 8) || '-' || substr(at, 9) || '-7000-8000-' || {hexed.format('n')} AS made"
        f" FROM (SELECT n, ago, {at} AS at"
        f" FROM (SELECT n, {ago} AS ago FROM ({_SERIES[is_postgres]}) AS s) AS s"
        " CROSS JOIN (SELECT created_at FROM tasks WHERE id = :id) AS done) AS s"
    )


def _copies(is_postgres: bool) -> str:
    names = [column.name for column in Task.__table__.columns]
    values = {name: f"t.{name}" for name in names}
    values |= {name: f"t.{name} - ago" for name in ("created_at", "updated_at", "started_at", "finished_at")}
    values |= {"id": "made", "status": "CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END"}
    return (
        f"INSERT INTO tasks ({', '.join(names)}) SELECT {', '.join(values[name] for name in names)}"
        f" FROM ({_numbered(is_postgres)}) AS copies CROSS JOIN tasks AS t WHERE t.id = :id"
    )


def _events(is_postgres: bool) -> str:
    names = [column.name for column in TaskEvent.__table__.columns]
    values = {name: f"last.{name}" for name in names} | {"task_id": "made", "at": "last.at - ago"}
    return (
        f"INSERT INTO events ({', '.join(names)}) SELECT {', '.join(values[name] for name in names)}"
        f" FROM ({_numbered(is_postgres)}) AS copies CROSS JOIN"
        " (SELECT * FROM events WHERE task_id = :id ORDER BY seq DESC LIMIT 1) AS last"
    )
