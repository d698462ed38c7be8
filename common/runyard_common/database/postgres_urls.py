"""PostgreSQL's URLs and limits, without its driver: an installation on SQLite loads none."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL, make_url

#: Server-side limits in milliseconds: a process stopped in mid-transaction must not hold its locks for ever.
LIMITS: Final = {
    "idle_in_transaction_session_timeout": 10_000,
    "statement_timeout": 60_000,
    "lock_timeout": 20_000,
}
_POOLER: Final = "pgbouncer"
#: Parameters of the URL that are meant for Runyard.
OURS: Final = (_POOLER, "prepare_threshold")
_TRUE: Final = ("true", "1", "yes", "transaction")


def pooled(url: URL) -> bool:
    """Whether the URL names a pooler in transaction mode (`?pgbouncer=true`)."""
    return str(url.query.get(_POOLER, "")).lower() in _TRUE


def libpq_url(url: str) -> str:
    """The URL as PostgreSQL's own client library reads it: without SQLAlchemy's driver and our parameters."""
    parsed = make_url(url).set(drivername="postgresql").difference_update_query(OURS)
    return parsed.render_as_string(hide_password=False)
