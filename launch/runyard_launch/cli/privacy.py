"""`runyard orgs`, `runyard users`: what requests about privacy ask of this machine's installation."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runyard_launch.cli.terminal import AsJson, Row, done, examples, instant, print_rows
from runyard_launch.problems import CommandFailed, Outcome

if TYPE_CHECKING:
    from runyard_common.database.transaction import Store
    from runyard_common.identity.queries.identity import OrganisationRow
    from runyard_common.settings import Settings

orgs_app = typer.Typer(no_args_is_help=True, help="List, export and erase organisations.")
users_app = typer.Typer(no_args_is_help=True, help="Export and erase what there is of a person.")
OrgName = Annotated[str, typer.Argument(help="The organisation, by id or name.")]
Email = Annotated[str, typer.Argument(help="The person's e-mail address.")]
To = Annotated[
    Path, typer.Option("--to", help="The archive to make, a ZIP file; it must not be there.", dir_okay=False)
]
Yes = Annotated[
    str | None, typer.Option("--yes", help="What is to be erased, once more, in place of typing it.")
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
    from runyard_launch.cli.installation import opened

    with opened() as (store, _):
        rows: list[Row] = [
            {"id": row.id, "name": row.name, "active": row.active, "created_at": instant(row.created_at)}
            for row in _organisations(store)
        ]
    print_rows(rows, {"id": "id", "name": "name", "active": "active", "created_at": "since"}, as_json)


@orgs_app.command(epilog=examples("runyard orgs export acme --to acme.zip"))
def export(org: OrgName, to: To, as_json: AsJson = False) -> None:
    """Write all that is an organisation's to one archive.

    One file of JSON lines for each table, the contents of files, and a manifest, as it was at one instant, while the
    installation works on. What opens something (secrets, hashes of keys and passwords) is not in it.
    """
    from runyard_common.privacy.service import exports
    from runyard_launch.cli.installation import opened

    with opened() as (store, settings):
        found = _one(store, org)
        made = exports.of_organisation(store.db, settings, found, to, Progress(as_json))
    missing = (
        f" {len(made.missing_files)} contents are missing: see its manifest." if made.missing_files else ""
    )
    done(
        f"{to} has {made.rows} rows and {made.files} contents of files of {found.name} ({found.id}).{missing}",
        {"file": to, "organisation": found.id, **asdict(made)},
        as_json,
    )


@orgs_app.command(
    epilog=examples(
        "runyard orgs erase acme --dry-run", "runyard orgs erase acme", "runyard orgs erase acme --yes acme"
    )
)
def erase(
    org: OrgName,
    yes: Yes = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, by table; change nothing.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, max=3600, help="Seconds for stopped runs to undo what they did (compensations)."),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Delete an organisation and all that is its own. There is no way back.

    It is closed first: callers and new runs are refused (organisation_erased), schedules and callbacks end, runs are
    stopped. Then its rows and files go, in small batches beside which others work on, and the persons who are members
    of no other organisation. An ended command is given again: it goes on. The operator's audit log keeps one entry.
    """
    from runyard_common.identity.rules.actors import OPERATOR
    from runyard_common.privacy.service import erasures
    from runyard_launch.cli.installation import opened

    with opened() as (store, settings):
        if erasures.was_erased(store, org):  # the id of one whose erasure may have been killed at its end
            org_id = org
        else:
            found = _one(store, org)
            org_id = found.id
            if not dry_run:
                _confirm(f"the organisation {found.name} ({found.id})", found.name, yes)
        if dry_run:
            _show(erasures.plan(store, org_id), as_json)
            return
        with _notifying(store, settings) as notifying:
            gone = erasures.erase(notifying, settings, org_id, OPERATOR, Progress(as_json), wait)
    later = (
        f" {len(gone.fresh_files)} contents were stored within the last hour: the scheduler deletes them in a day."
        if gone.fresh_files
        else ""
    )
    fields = asdict(gone) | {"organisation": org_id, "fresh_files": sorted(gone.fresh_files)}
    done(
        f"{org_id} is erased: {sum(gone.counts.values())} rows, {gone.files} contents of files, {gone.persons} "
        f"persons. No transaction took more than {gone.longest_transaction_s * 1000:.0f} ms.{later}",
        fields,
        as_json,
    )


@users_app.command("export", epilog=examples("runyard users export ann@example.com --to ann.zip"))
def export_user(email: Email, to: To, as_json: AsJson = False) -> None:
    """Write what there is of a person to one archive.

    Their account, sign-ins and places, and every row that names them as who did it, in any organisation.
    """
    from runyard_common.privacy.service import persons
    from runyard_launch.cli.installation import opened

    with opened() as (store, settings):
        made = persons.export(store.db, settings, email, to, Progress(as_json))
    done(f"{to} has {made.rows} rows of {email}.", {"file": to, "counts": made.counts}, as_json)


@users_app.command(
    "erase",
    epilog=examples(
        "runyard users erase ann@example.com", "runyard users erase ann@example.com --yes ann@example.com"
    ),
)
def erase_user(email: Email, yes: Yes = None, as_json: AsJson = False) -> None:
    """Delete a person's account, in every organisation. There is no way back.

    Keys behind which they are end. Where they are named as who did something (audit log, runs, answers), the
    word `erased` is from then on. What others have written about them stays.
    """
    from runyard_common.identity.rules.actors import OPERATOR
    from runyard_common.privacy.service import persons
    from runyard_launch.cli.installation import opened

    with opened() as (store, _):
        with store.read() as conn:
            found = persons.named(conn, email)
            persons.check_may_go(conn, found.id)
        _confirm(f"the account of {found.email}", found.email, yes)
        gone = persons.erase(store, found.email, OPERATOR, Progress(as_json))
    done(f"The account is erased; {gone.marked} rows named it.", {"erased": True, **asdict(gone)}, as_json)


def _organisations(store: Store) -> Iterator[OrganisationRow]:
    from runyard_common.identity.queries import identity

    before: str | None = None
    with store.read() as conn:
        while found := identity.organisations(conn, _PAGE, before):
            before = found[-1].id
            yield from found


def _one(store: Store, wanted: str) -> OrganisationRow:
    """The organisation of this id, or the only one of this name."""
    from runyard_launch.cli.installation import organisation

    found = organisation(store, wanted)
    named = [row.id for row in _organisations(store) if row.name == wanted]
    if found.id != wanted and len(named) > 1:
        raise CommandFailed(
            f"{len(named)} organisations have the name {wanted!r}: give the id, one of {', '.join(named)}.",
            "organisation_ambiguous",
            Outcome.REFUSED,
            field="org",
        )
    return found


def _confirm(subject: str, name: str, yes: str | None) -> None:
    """`CommandFailed` not_confirmed unless the name was given again."""
    if yes is None and sys.stdin.isatty():
        yes = typer.prompt(
            f"This deletes {subject}, and nothing brings it back. Type {name} to go on",
            err=True,
            default="",
            show_default=False,
        )
    if yes != name:
        raise CommandFailed(
            f"Nothing is erased: that would take {subject}. Give its name again: --yes {name!r}.",
            "not_confirmed",
            Outcome.REFUSED,
            field="yes",
        )


def _show(plan: object, as_json: bool) -> None:
    from runyard_common.privacy.service.erasures import Plan

    assert isinstance(plan, Plan)
    if as_json:
        done("", asdict(plan), as_json)
        return
    rows = [{"table": name, "rows": count} for name, count in plan.counts.items()]
    rows += [{"table": "persons of no other organisation", "rows": plan.persons}]
    print_rows(rows, {"table": "table", "rows": "rows"}, as_json)
    typer.echo(f"{plan.unfinished} runs would be stopped. Nothing is changed.", err=True)


@contextmanager
def _notifying(store: Store, settings: Settings) -> Iterator[Store]:
    """A store whose commits notify workers of stopped runs, where there is a Redis; else they learn by a heartbeat."""
    from runyard_common.database.transaction import Store as Opened
    from runyard_common.database.transaction import Tx
    from runyard_common.runtime import redis_url
    from runyard_common.stream.live import Live

    live = Live(redis_url(settings))

    def notify(tx: Tx) -> None:
        live.publish(tx.events)
        for worker_id, task_id in tx.cancelled:
            live.cancel(worker_id, task_id)

    try:
        yield Opened(store.db, notify, store.caps)
    finally:
        live.close()
