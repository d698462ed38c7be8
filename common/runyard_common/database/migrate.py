"""Migrations: `python -m runyard_common.database.migrate [up|down REVISION [--yes]|check|new MESSAGE]`.

Any number of processes may start it at once: on PostgreSQL an advisory lock lets one work and the others wait;
on SQLite the first write transaction does. On PostgreSQL each migration is a transaction of its own, so that one
that makes indexes concurrently can leave it, and the installation works on meanwhile: a statement may take as
long as it needs, but none waits long for a lock, because every other statement on its table queues behind it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, event, inspect, literal, select, table
from sqlalchemy.exc import OperationalError

from runyard_common.credentials.queries import key_files
from runyard_common.credentials.rules.sealing import SealBroken
from runyard_common.database import start_checks
from runyard_common.database.engine import Database
from runyard_common.database.outages import sqlstate
from runyard_common.process import keep_files_private
from runyard_common.tables import metadata
from runyard_common.values.errors import ConfigurationError

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x52756E79  # "Runy"

#: Server-side limits of a migration, in milliseconds.
_LIMITS = {"statement_timeout": 0, "lock_timeout": 5_000, "idle_in_transaction_session_timeout": 0}
#: How long locked tables are tried for, and the pause between two attempts, in seconds.
_LOCK_PATIENCE, _LOCK_PAUSE = 600.0, 0.5
_LOCK_NOT_AVAILABLE = "55P03"
#: Tables that have rows once an installation was used.
_HOLD_WORK = ("tasks", "sessions", "schedules", "datastores", "endpoints", "agents")

_USAGE = "runyard migrate [up | down REVISION [--yes] | check]"

#: Gives the key that seals stored secrets; it is called only where rows have some to seal.
SecretKey = Callable[[], str]


def upgrade(db: Database, revision: str = "head", secret_key: SecretKey | None = None) -> None:
    """Bring the tables to `revision`. `ConfigurationError` when rows have secrets to seal and there is no key."""
    _run(db, lambda connection: command.upgrade(_config(connection, secret_key), revision))


def downgrade(db: Database, revision: str, secret_key: SecretKey | None = None) -> None:
    """Take the tables back to `revision`; "base" drops all of them. Errors as `upgrade`, and `SealBroken`."""
    _run(db, lambda connection: command.downgrade(_config(connection, secret_key), revision))


def is_empty(db: Database) -> bool:
    """Whether nothing was ever done with this installation: what a first start makes does not count."""
    with db.read() as connection:
        tables = set(inspect(connection).get_table_names())
        return not any(
            connection.execute(select(literal(1)).select_from(table(name)).limit(1)).first()
            for name in _HOLD_WORK
            if name in tables
        )


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


def _run(db: Database, work: Callable[[Connection], None]) -> None:
    """Migrate, one process at a time."""
    if not db.is_postgres:
        with db.begin() as connection:
            work(connection)
        return
    own = Database(db.url, pool_size=2, limits=_LIMITS)
    try:
        with own.engine.connect() as lock:
            while not _run_exclusively(own, lock, work):
                time.sleep(_LOCK_PAUSE)
    finally:
        own.close()


def _run_exclusively(own: Database, lock: Connection, work: Callable[[Connection], None]) -> bool:
    """Migrate, unless another process does.

    A concurrent index waits for the end of every transaction that had an older snapshot when it looked. A statement has
    one, and so has a transaction whose last statement had parameters, or came in a pipeline: so the lock is asked for
    plainly, each time in a transaction of its own.
    """
    with lock.begin():
        own.set_limits(lock)
        if not lock.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({_LOCK})").scalar_one():
            return False
        event.listen(own.engine, "begin", own.set_limits)
        _run_patiently(own, work)
    return True


def _run_patiently(db: Database, work: Callable[[Connection], None]) -> None:
    """A migration that finds a lock held is rolled back and tried again, so that nothing queues behind it."""
    until = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            with db.engine.connect() as connection:
                work(connection)
            return
        except OperationalError as error:
            if sqlstate(error) != _LOCK_NOT_AVAILABLE or time.monotonic() > until:
                raise
            print("runyard migrate: a table is in use; trying again", file=sys.stderr)
            time.sleep(_LOCK_PAUSE)


def _config(connection: Connection, secret_key: SecretKey | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    config.attributes["secret_key"] = secret_key
    return config


def _write(db: Database, message: str) -> None:
    """Write the next numbered migration from what the table classes have changed."""
    number = f"{len(list((_FOLDER / 'versions').glob('[0-9]*.py'))) + 1:04d}"
    with db.begin() as connection:
        command.revision(_config(connection), message, autogenerate=True, rev_id=number)


def main(arguments: list[str]) -> int:
    """Run one migration command with this process's settings."""
    from runyard_common.environment import load

    usage = (__doc__ or "").splitlines()[0].removesuffix(".")
    if {"--help", "-h"} & set(arguments):
        print(usage)
        return 0
    if unknown := [word for word in arguments if word.startswith("-") and word != "--yes"]:
        print(f"runyard migrate: no such option: {unknown[0]}. Usage: {_USAGE}", file=sys.stderr)
        return 2
    try:
        settings = load()
        start_checks.run(start_checks.CHECKS, settings, start_checks.Process.MIGRATE)
        settings.home.mkdir(parents=True, exist_ok=True)
        db = Database(settings.database)
        try:
            return _dispatch(db, arguments or ["up"], lambda: key_files.secret_key(settings))
        finally:
            db.close()
    except (ConfigurationError, SealBroken) as error:
        print(f"runyard migrate: {error.message}", file=sys.stderr)
        return 2
    except OperationalError as error:
        print(f"runyard migrate: the database cannot be reached: {error.orig}", file=sys.stderr)
        return 1


def _dispatch(db: Database, arguments: list[str], secret_key: SecretKey) -> int:
    match arguments:
        case ["up"]:
            upgrade(db, secret_key=secret_key)
        case ["down", *rest]:
            return _down(db, rest, secret_key)
        case ["new", *message]:
            upgrade(db, secret_key=secret_key)
            _write(db, " ".join(message))
        case ["check"]:
            left = differences(db)
            for difference in left:
                print(difference)
            return 1 if left else 0
        case _:
            print(
                f"runyard migrate: {' '.join(arguments)}: no such command. Usage: {_USAGE}", file=sys.stderr
            )
            return 2
    return 0


def _down(db: Database, arguments: list[str], secret_key: SecretKey) -> int:
    """Take the tables back; dropping those of an installation in use needs `--yes`."""
    wanted = [argument for argument in arguments if argument != "--yes"]
    if len(wanted) != 1:
        has, _ = revisions(db)
        print(
            f"runyard migrate: down needs a revision: `runyard migrate down {_before(has)}` takes the newest "
            "migration back, `down base` drops every table.",
            file=sys.stderr,
        )
        return 2
    if wanted == ["base"] and "--yes" not in arguments and not is_empty(db):
        print(
            "runyard migrate: `down base` drops every table, with all runs, sessions and files' records in them. "
            "Nothing was changed. Make a backup, then say `runyard migrate down base --yes`.",
            file=sys.stderr,
        )
        return 2
    try:
        downgrade(db, wanted[0], secret_key)
    except CommandError as error:
        print(f"runyard migrate: {error}", file=sys.stderr)
        return 2
    return 0


def _before(revision: str | None) -> str:
    """The revision before this one; revisions are numbered."""
    number = int(revision) - 1 if revision and revision.isdigit() else 0
    return f"{number:04d}" if number > 0 else "base"


if __name__ == "__main__":
    keep_files_private()
    sys.exit(main(sys.argv[1:]))
