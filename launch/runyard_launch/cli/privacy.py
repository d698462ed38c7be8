"""`runyard orgs`: organisations of this machine's installation, and what requests about privacy ask for."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from runyard_launch.cli.terminal import AsJson, Row, done, examples, instant, print_rows

orgs_app = typer.Typer(no_args_is_help=True, help="List and export organisations of this machine.")
OrgName = Annotated[str, typer.Argument(help="The organisation, by id or name.")]
To = Annotated[
    Path, typer.Option("--to", help="The archive to make, a ZIP file; it must not be there.", dir_okay=False)
]
_PAGE = 500


class Progress:
    """Writes to standard error how far it has got, a line a second at most."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._at = time.monotonic()

    def __call__(self, what: str, count: int) -> None:
        if not self._silent and time.monotonic() > self._at + 1:
            self._at = time.monotonic()
            typer.echo(f"{what}: {count}", err=True)


@orgs_app.command("list")
def list_organisations(as_json: AsJson = False) -> None:
    """List every organisation of this installation."""
    from runyard_common.identity.queries import identity
    from runyard_launch.cli.installation import opened

    rows: list[Row] = []
    before: str | None = None
    with opened() as (store, _), store.read() as conn:
        while found := identity.organisations(conn, _PAGE, before):
            before = found[-1].id
            rows += [
                {"id": row.id, "name": row.name, "active": row.active, "created_at": instant(row.created_at)}
                for row in found
            ]
    print_rows(rows, {"id": "id", "name": "name", "active": "active", "created_at": "since"}, as_json)


@orgs_app.command(epilog=examples("runyard orgs export acme --to acme.zip"))
def export(org: OrgName, to: To, as_json: AsJson = False) -> None:
    """Write all that is an organisation's to one archive.

    One file of JSON lines for each table, the contents of files, and a manifest, as it was at one instant, while the
    installation works on. What opens something (secrets, hashes of keys and passwords) is not in it.
    """
    from runyard_common.privacy.service import exports
    from runyard_launch.cli.installation import opened, organisation

    with opened() as (store, settings):
        found = organisation(store, org)
        made = exports.of_organisation(store.db, settings, found, to, Progress(as_json))
    missing = (
        f" {len(made.missing_files)} contents are missing: see its manifest." if made.missing_files else ""
    )
    done(
        f"{to} has {made.rows} rows and {made.files} contents of files of {found.name} ({found.id}).{missing}",
        {"file": to, "organisation": found.id, **asdict(made)},
        as_json,
    )
