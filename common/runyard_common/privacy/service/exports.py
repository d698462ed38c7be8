"""What there is of an organisation, in one archive, as it was at one instant, while the installation works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

import runyard
from runyard_common.database import schema_version
from runyard_common.database.engine import Database
from runyard_common.datastores.service import datastores
from runyard_common.files import open_files
from runyard_common.identity.queries.identity import OrganisationRow
from runyard_common.privacy.queries import owned
from runyard_common.privacy.rules.ownership import RULES
from runyard_common.privacy.service import archives
from runyard_common.privacy.service.archives import Archive
from runyard_common.settings import Settings
from runyard_common.values.json_text import JsonObject

FORMAT: Final = 1

#: Called with the name of a table and how many rows of it are written.
Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Exported:
    """What an archive has: rows by table, contents of files, and those that are missing, with why."""

    counts: dict[str, int] = field(default_factory=dict)
    files: int = 0
    datastore_files: list[str] = field(default_factory=list)
    missing_files: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.counts.values())


def of_organisation(
    db: Database, settings: Settings, organisation: OrganisationRow, target: Path, progress: Progress
) -> Exported:
    """Write all that is an organisation's, without what opens anything, to a new archive.

    Errors: those of `archives.made`, and of the file store.
    """
    org_id = organisation.id
    done = Exported()
    with archives.made(target) as archive, db.snapshot() as conn:
        at = db.now(conn)
        for name, rule in RULES.items():
            if not rule.left_out:
                found = owned.rows(conn, name, org_id)
                done.counts[name] = archive.lines(name, found, _counting(progress, name))
        _files(archive, conn, settings, org_id, done, progress)
        subject: JsonObject = {"organisation": {"id": org_id, "name": organisation.name}}
        archive.end(manifest(settings, subject, at, done))
    return done


def _files(
    archive: Archive,
    conn: Connection,
    settings: Settings,
    org_id: str,
    done: Exported,
    progress: Progress,
) -> None:
    store = open_files(settings.files)
    for sha256 in owned.contents(conn, org_id):
        if archive.has(sha256) or sha256 in done.missing_files:
            continue
        problem = archive.content(store, sha256)
        if problem is not None:
            done.missing_files[sha256] = problem
            continue
        done.files += 1
        progress("contents of files", done.files)
    for path in datastores.files(settings.home, org_id):
        name = path.relative_to(datastores.folder(settings.home, org_id)).as_posix()
        archive.file(f"datastores/{name}", path)
        done.datastore_files.append(name)


def manifest(settings: Settings, subject: JsonObject, at: float, done: Exported) -> dict[str, Any]:
    """What an archive has, and what it leaves out and why."""
    return {
        "format": FORMAT,
        **subject,
        "exported_at": datetime.fromtimestamp(at, UTC).isoformat(),
        "times": "seconds since 1970-01-01T00:00:00Z, on the database's clock",
        "version": runyard.__version__,
        "release": settings.release or None,
        "schema": schema_version.newest(),
        "counts": done.counts,
        "files": done.files,
        "missing_files": done.missing_files,
        "datastore_files": done.datastore_files,
        "left_out_tables": {name: RULES[name].left_out for name in RULES if name not in done.counts},
        "left_out_columns": {name: hidden for name in done.counts if (hidden := owned.hidden(name))},
    }


def _counting(progress: Progress, name: str) -> Callable[[int], None]:
    return lambda count: progress(name, count)
