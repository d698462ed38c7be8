"""The installation's database, for commands that an operator gives on its own machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.identity.queries import identity
from runyard_common.identity.rules.caps import Caps
from runyard_common.identity.service import identity as service
from runyard_common.settings import Settings
from runyard_common.values.errors import ConfigurationError, RunyardError
from runyard_launch.preflight import read_settings
from runyard_launch.problems import CommandFailed, Outcome, refused


@contextmanager
def opened() -> Iterator[tuple[Store, Settings]]:
    """The store of these settings. What goes wrong inside is a `CommandFailed` or a `StartProblem`."""
    try:
        settings = read_settings()
        db = Database(settings.database)
        try:
            yield Store(db, caps=Caps.of(settings)), settings
        finally:
            db.close()
    except RunyardError as refusal:
        raise failure(refusal) from None
    except SQLAlchemyError as error:
        raise refused(
            f"The database does not answer, or has no tables (`runyard migrate`): {error.__class__.__name__}.",
            "database_unavailable",
            503,
        ) from None


def failure(error: RunyardError) -> CommandFailed:
    """The failure of a command that a service has refused: what a server's refusal of the same would be."""
    if isinstance(error, ConfigurationError):
        return CommandFailed(error.message, error.code, Outcome.REFUSED, field=error.field)
    return refused(error.message, error.code, error.status, field=error.field, retry_after=error.retry_after)


def organisation(store: Store, wanted: str) -> dict[str, Any]:
    """The organisation of this id or name; `CommandFailed` where there is none."""
    with store.read() as conn:
        found = identity.organisation(conn, wanted) or identity.organisation_named(conn, wanted)
    if found is None:
        hint = " Start the api once: it makes the first." if wanted == service.DEFAULT else ""
        raise refused(
            f"There is no organisation {wanted!r}.{hint}", "organisation_not_found", 404, field="org"
        )
    return found
