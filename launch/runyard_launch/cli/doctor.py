"""`runyard doctor`: whether everything an installation needs is there, one line each."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import httpx2
import redis
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from runyard_common.agents.service.model_choice import LOCAL, check_library, check_name
from runyard_common.agents.service.model_choice import check as check_model
from runyard_common.broker.application import application, write
from runyard_common.credentials import service as credentials
from runyard_common.credentials.queries import key_files
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.files import open_files
from runyard_common.runs.queries import workers
from runyard_common.runs.service import queues
from runyard_common.settings import Settings
from runyard_common.start_checks import problems
from runyard_common.stream.clients import connect, examine
from runyard_common.values.addresses import masked
from runyard_common.values.errors import InvalidRequest, RunyardError
from runyard_common.values.outages import diagnose
from runyard_launch.cli.terminal import print_rows
from runyard_launch.problems import StartProblem
from runyard_launch.supervisor import exposure, models, preflight

_SECONDS = 3.0
_MOST_NAMED = 5
_POOLER = (
    "PostgreSQL answers through a connection pooler. If that pools transactions (PgBouncer, most hosted ones), set "
    "RUNYARD_DATABASE_POOLER=transaction, or statements fail at random; one that pools sessions is fine"
)


class Verdict(StrEnum):
    """What a check found. Only `BAD` makes the command fail."""

    GOOD = "ok"
    ODD = "warning"
    BAD = "failed"


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    part: str
    verdict: Verdict
    text: str
    figures: Mapping[str, int | float | None] = field(default_factory=dict)


def findings(home: Path | None = None) -> Iterator[Finding]:
    """Check everything; what later checks need and is not there ends the list."""
    try:
        settings = preflight.read_settings()
    except StartProblem as problem:
        yield Finding("settings", Verdict.BAD, str(problem))
        return
    if home is not None:
        settings = settings.model_copy(update={"home": home})
    refused = [Finding("settings", Verdict.BAD, problem.message) for problem in problems(settings)]
    yield from refused or [Finding("settings", Verdict.GOOD, f"RUNYARD_HOME is {settings.home.resolve()}")]
    parts: dict[str, Callable[[Settings], tuple[Verdict, str]]] = {
        "home": _home, "database": _database, "secrets": _secrets, "broker": _broker, "redis": _redis, "files": _files,
        "datastores": _datastores, "model": _model,
    }  # fmt: skip
    for part, check in parts.items():
        try:
            verdict, text = check(settings)
        except (StartProblem, RunyardError, OSError) as problem:
            verdict, text = Verdict.BAD, str(problem)
        except Exception as problem:  # noqa: BLE001 - a doctor reports what it cannot examine
            verdict, text = Verdict.BAD, f"{type(problem).__name__}: {masked(str(problem))}"
        yield Finding(part, verdict, text)
    yield from _workers(settings)
    yield from _exposures(settings)


def _home(settings: Settings) -> tuple[Verdict, str]:
    home = settings.home
    if not home.is_dir():
        there = next(parent for parent in home.absolute().parents if parent.exists())
        if home.exists() or not _makes_folders(there):
            return Verdict.BAD, f"{home} is not there and cannot be made in {there}: change RUNYARD_HOME"
        return Verdict.ODD, f"{home} is not there yet; the first start makes it"
    if not os.access(home, os.W_OK | os.X_OK):
        given = "RUNYARD_SECRET_KEY, RUNYARD_JWT_SECRET, RUNYARD_FILES_URL and RUNYARD_DATABASE_URL"
        return Verdict.ODD, f"{home} cannot be written by this user: give {given}, or make it writable"
    if (open_ := exposure.of_home(home)) is not None:
        return Verdict.BAD, open_
    return Verdict.GOOD, "writable, and this user's alone"


def _makes_folders(place: Path) -> bool:
    """Whether this user can make a folder there; by trying, as access() allows root everything."""
    try:
        Path(tempfile.mkdtemp(dir=place)).rmdir()
    except OSError:
        return False
    return True


def _exposures(settings: Settings) -> Iterator[Finding]:
    found = list(exposure.of_settings(settings))
    for one in found:
        yield Finding("open", Verdict.GOOD if one.intended else Verdict.ODD, one.text)
    if not found:
        yield Finding("open", Verdict.GOOD, "nothing is opened beyond the defaults")


def _database(settings: Settings) -> tuple[Verdict, str]:
    if not settings.database_url and not settings.home.is_dir():
        return Verdict.ODD, "SQLite in the home, which is not there yet"
    preflight.check_database(settings)
    kind = "PostgreSQL" if settings.database.startswith("postgresql") else "SQLite"
    if kind == "SQLite" and not Path(settings.database.partition("///")[2]).exists():
        return Verdict.ODD, "SQLite; its file is not there yet, `runyard migrate` makes it"
    db = Database(settings.database)
    try:
        has, needs = migrate.revisions(db)
        shared = db.shares_sessions()
    finally:
        db.close()
    if shared and not db.is_pooled:
        return Verdict.ODD, _POOLER
    if has != needs:
        return (
            Verdict.BAD,
            f"{kind} answers; its tables are of version {has or 'none'}, not {needs}: runyard migrate",
        )
    return Verdict.GOOD, f"{kind} answers, its tables are of version {has}"


def _secrets(settings: Settings) -> tuple[Verdict, str]:
    """Whether the keys that are there open what is stored, and how much of it needs an old one."""
    if not settings.secret_key and key_files.existing(settings.home / key_files.SECRET_KEY) is None:
        return Verdict.ODD, "no key that seals secrets is there yet; the first start makes it"
    if not settings.database_url and not Path(settings.database.partition("///")[2]).exists():
        return Verdict.GOOD, "nothing is stored yet"
    sealer = key_files.sealer(settings)
    try:
        with closing(Database(settings.database)) as db:
            found = credentials.pending(Store(db), sealer)
    except SQLAlchemyError:
        return Verdict.ODD, "not looked at: see database"
    broken = [row for column in found for row in column.broken]
    old = {column.column: column.sealed for column in found if column.sealed}
    if broken:
        shown = ", ".join(broken[:_MOST_NAMED]) + (", …" if len(broken) > _MOST_NAMED else "")
        return (
            Verdict.BAD,
            f"no key that is there opens {len(broken)} of them: {shown}. Add their key, or replace them",
        )
    if old:
        where = ", ".join(f"{column} {count}" for column, count in old.items())
        return Verdict.ODD, f"{sum(old.values())} need an old key ({where}): runyard keys rotate-secret"
    if len(sealer.keys) > 1:
        return Verdict.GOOD, "several keys are there, and no stored secret needs the old ones"
    return Verdict.GOOD, "the key opens what is stored"


def _workers(settings: Settings) -> Iterator[Finding]:
    """The agents that runs wait for and no worker has; a line only where there are some."""
    if not settings.database_url and not Path(settings.database.partition("///")[2]).exists():
        return
    try:
        db = Database(settings.database)
        with closing(db), db.engine.connect() as conn:
            now = db.now(conn)
            waiting, fleet = queues.waiting_for_workers(conn, now), workers.fleet(conn, now)
    except (SQLAlchemyError, RunyardError, OSError, ImportError):
        return  # the line of the database has the reason
    if not waiting:
        return
    named = ", ".join(_waited_for(*one, fleet) for one in sorted(waiting.items())[:_MOST_NAMED])
    more = ", …" if len(waiting) > _MOST_NAMED else ""
    yield Finding(
        "workers",
        Verdict.ODD,
        f"{sum(waiting.values())} runs wait, no worker has this agent: {named}{more}. Start a worker whose "
        "RUNYARD_AGENTS brings that version, or cancel the runs and submit them again: they take the current version",
    )


def _waited_for(agent: str, count: int, fleet: workers.Fleet) -> str:
    """A version that runs wait for, how many do, and which versions workers have."""
    others = fleet.versions(agent.rpartition("@")[0])
    return f"{agent} ({count}; workers have {', '.join(others)})" if others else f"{agent} ({count})"


def _datastores(settings: Settings) -> tuple[Verdict, str]:
    folder = settings.home / "datastores"
    left = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if left:
        shown = ", ".join(left[:_MOST_NAMED]) + (", …" if len(left) > _MOST_NAMED else "")
        return (
            Verdict.ODD,
            f"{shown} in datastores/ itself can no longer be used: move each to datastores/<organisation id>/",
        )
    return Verdict.GOOD, "SQLite files lie in a folder for each organisation"


def _broker(settings: Settings) -> tuple[Verdict, str]:
    if settings.embedded_broker and not (settings.home / "valkey.url").exists():
        return Verdict.ODD, "none is set; `runyard up` brings its own"
    try:
        write(application(settings))
    except RunyardError:
        raise
    except Exception as error:  # noqa: BLE001 - each transport has errors of its own
        hint = "`runyard up` starts it" if settings.embedded_broker else "check RUNYARD_BROKER_URL"
        found = diagnose(error) if settings.broker.startswith("amqp") else examine(settings.broker, error)
        return Verdict.BAD, f"{found.reason}; {hint}"
    return Verdict.GOOD, f"{settings.broker.partition(':')[0]} answers and takes writes"


def _redis(settings: Settings) -> tuple[Verdict, str]:
    if settings.embedded_broker and not settings.redis_url and not (settings.home / "valkey.url").exists():
        return Verdict.ODD, "none is set; `runyard up` brings its own"
    if not settings.redis:
        return (
            Verdict.ODD,
            "none: streams read the database, rate limits count in each process (RUNYARD_REDIS_URL)",
        )
    options = {"socket_connect_timeout": _SECONDS, "socket_timeout": _SECONDS}
    client = connect(settings.redis, **options)
    try:
        client.publish("runyard:probe", b"")
        client.set("runyard:probe", b"", ex=1)
    except redis.RedisError as error:
        name = "RUNYARD_REDIS_URL" if settings.redis_url else "RUNYARD_BROKER_URL"
        return Verdict.BAD, f"{examine(settings.redis, error).reason}; check {name}"
    finally:
        client.close()
    return Verdict.GOOD, "answers and takes writes"


def _files(settings: Settings) -> tuple[Verdict, str]:
    if not settings.files_url and not settings.home.is_dir():
        return Verdict.ODD, "a folder in the home, which is not there yet"
    open_files(settings.files).check()
    return Verdict.GOOD, "the bucket answers" if "://" in settings.files else "the folder can be written"


def _model(settings: Settings) -> tuple[Verdict, str]:
    name = settings.model
    if name and name != LOCAL:
        check_name(settings, name)
        check_library(name)
        try:
            check_model(settings, name)
        except InvalidRequest as refusal:  # processes start all the same: it is their runs that are refused
            return Verdict.ODD, f"{refusal.message} Until then runs that need it are refused."
    if settings.model_base_url:
        return _endpoint(settings)
    if name in ("", LOCAL):
        return Verdict.GOOD, "the one `runyard up` chooses: by the provider key it finds, else the local one"
    return Verdict.GOOD, f"{name}; its provider's key is set"


def _endpoint(settings: Settings) -> tuple[Verdict, str]:
    url = f"{settings.model_base_url.rstrip('/')}/models"
    try:
        answer = models.list_models(settings.model_base_url, settings.model_api_key)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Verdict.BAD, f"{url} does not answer ({type(error).__name__}): check RUNYARD_MODEL_BASE_URL"
    if answer.status in (401, 403):
        return Verdict.BAD, f"{url} refuses the key ({answer.status}): check RUNYARD_MODEL_API_KEY"
    if answer.status != 200:
        return Verdict.ODD, f"{url} answers {answer.status}; it may serve models all the same"
    return Verdict.GOOD, f"{settings.model_base_url} answers"


_COLOURS = {Verdict.GOOD: "green", Verdict.ODD: "yellow", Verdict.BAD: "red"}


def doctor(as_json: bool = False, with_selftest: bool = False) -> int:
    """Print the table, or JSON; 0 unless something failed."""
    found = list(findings())
    if not as_json:
        _print(found)
    if with_selftest:
        tried = list(_tried(found))
        if not as_json:
            _print(tried)
        found += tried
    if as_json:
        print_rows([_row(one) for one in found], {}, as_json)
    return int(any(one.verdict is Verdict.BAD for one in found))


#: What the selftest cannot do without.
_NEEDED: Final = ("settings", "database")


def _tried(found: list[Finding]) -> Iterator[Finding]:
    """The lines of the selftest; its progress goes to standard error."""
    if missing := [one.part for one in found if one.part in _NEEDED and one.verdict is Verdict.BAD]:
        text = f"not tried: first put right what failed above ({', '.join(missing)})"
        yield Finding("selftest", Verdict.BAD, text)
        return
    from runyard_launch.selftest.selftest import selftest, usual_seconds

    settings = preflight.read_settings()

    def progress(doing: str) -> None:
        print(f"selftest: {doing}", file=sys.stderr, flush=True)

    progress(f"about {usual_seconds(settings)} s on a deployment that is well; Ctrl-C ends it in order")
    with closing(selftest(settings, progress)) as lines:
        for line in lines:
            yield Finding(line.part, Verdict(line.outcome), line.text, line.figures)


def _row(finding: Finding) -> dict[str, object]:
    row = {"part": finding.part, "verdict": finding.verdict.value, "text": finding.text}
    return row | ({"figures": dict(finding.figures)} if finding.figures else {})


def _print(found: list[Finding]) -> None:
    console = Console(soft_wrap=True, emoji=False)
    table = Table("part", "", "", box=None, show_header=False)
    for finding in found:
        table.add_row(
            finding.part, Text(finding.verdict.value, _COLOURS[finding.verdict]), Text(finding.text)
        )
    console.print(table)
