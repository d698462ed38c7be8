"""Migrations: `python -m common.store.migrate [up|down|check|new MESSAGE]`.

Any number of processes may start it at once: on PostgreSQL an advisory lock lets one work and the others wait;
on SQLite the first write transaction does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from common.domain.errors import ConfigurationError
from common.store.database import Database
from common.store.tables import metadata

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x52756E79  # "Runy"


def upgrade(db: Database, revision: str = "head") -> None:
    """Bring the tables to `revision`."""
    with db.begin() as connection:
        _lock(db, connection)
        command.upgrade(_config(connection), revision)


def downgrade(db: Database, revision: str = "base") -> None:
    """Take the tables back to `revision`."""
    with db.begin() as connection:
        _lock(db, connection)
        command.downgrade(_config(connection), revision)


def revisions(db: Database) -> tuple[str | None, str | None]:
    """The version that the tables have, and the one that this code needs."""
    with db.read() as connection:
        has = MigrationContext.configure(connection).get_current_revision()
        needs = ScriptDirectory.from_config(_config(connection)).get_current_head()
    return has, needs


def differences(db: Database) -> list[object]:
    """What the migrations have left different from the table classes; empty when they are in step."""
    with db.read() as connection:
        options = {"compare_type": True, "include_name": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def is_ours(name: str | None, kind: str, _parent: object) -> bool:
    """Whether a table or index is one the table classes describe: full-text search has its own beside them."""
    return not (name or "").startswith(("passages_fts", "ix_passages_search"))


def _lock(db: Database, connection: Connection) -> None:
    if db.is_postgres:
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


def _write(db: Database, message: str) -> None:
    """Write the next numbered migration from what the table classes have changed."""
    number = f"{len(list((_FOLDER / 'versions').glob('[0-9]*.py'))) + 1:04d}"
    with db.begin() as connection:
        command.revision(_config(connection), message, autogenerate=True, rev_id=number)


def main(arguments: list[str]) -> int:
    """Run one migration command with this process's settings."""
    from common.settings import load

    try:
        settings = load()
        settings.home.mkdir(parents=True, exist_ok=True)
        db = Database(settings.database)
        match arguments or ["up"]:
            case ["up"]:
                upgrade(db)
            case ["down", *rest]:
                downgrade(db, rest[0] if rest else "base")
            case ["new", *message]:
                upgrade(db)
                _write(db, " ".join(message))
            case ["check"]:
                left = differences(db)
                for difference in left:
                    print(difference)
                return 1 if left else 0
            case _:
                print((__doc__ or "").splitlines()[0])
                return 2
    except ConfigurationError as error:
        print(f"runyard migrate: {error.message}", file=sys.stderr)
        return 2
    except OperationalError as error:
        print(f"runyard migrate: the database cannot be reached: {error.orig}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
