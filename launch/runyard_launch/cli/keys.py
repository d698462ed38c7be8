"""`runyard keys`: API keys, of this machine's installation or of a server. `runyard secrets`: the key that seals."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from runyard_common.identity.rules.roles import Role
from runyard_launch.cli.administration import DEFAULT, Org, administered
from runyard_launch.cli.remote import KeyFile, Url
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows
from runyard_launch.problems import CommandFailed

if TYPE_CHECKING:
    from runyard_common.credentials.queries.sealed import Renewed

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
secrets_app = typer.Typer(
    no_args_is_help=True, help="Set and list secrets for agents; change the key that seals."
)
_COLUMNS = {
    "id": "id", "name": "name", "prefix": "begins", "role": "role", "scopes": "scopes", "created_by": "made by",
    "last_used_at": "last used", "expires_at": "expires", "revoked_at": "revoked",
}  # fmt: skip
_SEALED = {"column": "column", "sealed": "resealed", "kept": "left", "broken": "cannot be opened"}

_LONGEST_NAME = 200  # as the API has it
_MOST_DAYS = 36_500


def _name(value: str) -> str:
    """A key's name, refused for the same reasons on this machine as by a server."""
    if not 1 <= len(value) <= _LONGEST_NAME or not value.isprintable():
        raise typer.BadParameter(f"it has 1 to {_LONGEST_NAME} printable characters")
    return value


def _id(value: str) -> str:
    if not value.strip():
        raise typer.BadParameter("it is empty; `runyard keys list` shows the ids")
    return value


def _days(value: float | None) -> float | None:
    if value is not None and math.isnan(value):
        raise typer.BadParameter("it is no number")
    return value


@app.command(
    epilog=examples(
        "runyard keys create ci --role member --scope runs:create --scope runs:read --days 90",
        "runyard keys create dashboard --role viewer --json",
    )
)
def create(
    name: Annotated[str, typer.Argument(callback=_name, help="What the key is for, such as ci.")],
    role: Annotated[Role, typer.Option(help="What it may do at most.")] = Role.MEMBER,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="Let it do this alone: a permission such as runs:create, or all of a resource, as runs:*; repeat the "
            "option for more."
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=_MOST_DAYS, callback=_days, help="Days that it is valid; else until revoked."
        ),
    ] = None,
    org: Org = DEFAULT,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its text goes to standard output, once."""
    with administered(url, key_file, org) as admin:
        made = admin.create_key(name, role, scope or None, days)
    if not as_json:
        typer.echo(
            f"Key {made['id']} ({made['role']}) is made. Copy it now, it is not shown again:", err=True
        )
    typer.echo(json.dumps(made) if as_json else made["key"])


@app.command("list")
def list_keys(
    org: Org = DEFAULT,
    revoked: Annotated[
        bool, typer.Option(help="Show those that were revoked, too; not of a server.")
    ] = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the keys of an organisation."""
    with administered(url, key_file, org) as admin:
        rows = admin.keys(revoked)
    print_rows([{name: row[name] for name in _COLUMNS} for row in rows], _COLUMNS, as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(callback=_id, help="Its id, as `runyard keys list` shows it.")],
    org: Org = DEFAULT,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key.

    New requests with it are refused within two seconds, runs under way finish.
    """
    with administered(url, key_file, org) as admin:
        admin.revoke_key(key_id)
    done(f"Key {key_id} is revoked.", {"id": key_id, "revoked": True}, as_json)


@app.command()
def renew_admin(
    keep_old: Annotated[
        bool, typer.Option(help="Leave earlier admin keys of the first start valid.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new admin key for this machine's installation.

    It is written to admin.key of the home; the earlier ones made like it are revoked.
    """
    from runyard_common.identity.service.identity import ADMIN_KEY
    from runyard_launch.cli.installation import DatabaseAdministration, opened, organisation

    with opened() as (store, settings):
        admin = DatabaseAdministration(store, settings, organisation(store, DEFAULT).id)
        revoked = admin.renew_admin_key(keep_old)
        file = settings.home / ADMIN_KEY
    done(f"A new admin key is in {file}; {revoked} revoked.", {"file": file, "revoked": revoked}, as_json)


@app.command(epilog=examples("runyard keys rotate-secret", "runyard keys rotate-secret --json"))
def rotate_secret(
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            help="Seconds from the change of the key until the old one goes: what processes store by then is sealed "
            "with the new one.",
        ),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Replace the key that seals secrets, while all runs.

    The key in the home gets a successor, which all processes of this machine use from then on; every stored secret is
    sealed again; then the old key goes to secret.key.old, which backups from before need. A killed command is
    given again: it goes on. With RUNYARD_SECRET_KEY=new,old it seals the stored secrets again and checks that the old
    key can go. The exit code is 1, and the old key stays, when there is a secret that no key opens.
    """
    from runyard_common.credentials.service import rotate
    from runyard_common.identity.queries import identity
    from runyard_common.identity.rules.actors import OPERATOR
    from runyard_launch.cli.installation import opened, organisation

    with opened() as (store, settings):
        org_id = organisation(store, DEFAULT).id
        rotated = rotate(store, settings, wait, None if as_json else _Progress())
        fields = {"resealed": rotated.sealed, "checked": rotated.kept, "old_keys": rotated.old_keys}
        with store.begin() as tx:
            identity.audit(tx, org_id, OPERATOR, "secret_key.rotate", "", {"resealed": rotated.sealed})
    where = f"is in {rotated.old_keys}" if rotated.old_keys else "can be taken out of RUNYARD_SECRET_KEY"
    done(f"{rotated.sealed} secrets are resealed; no row needs the old key, which {where}.", fields, as_json)


class _Progress:
    """Writes to standard error what was resealed, a line a second at most."""

    def __init__(self) -> None:
        self._at = 0.0

    def __call__(self, column: Renewed) -> None:
        if column.sealed and time.monotonic() > self._at + 1:
            self._at = time.monotonic()
            typer.echo(f"{column.column}: {column.sealed} resealed", err=True)


@secrets_app.command()
def reseal(as_json: AsJson = False) -> None:
    """Seal every stored secret with the newest key.

    That is the first of RUNYARD_SECRET_KEY; after that the others may go. The installation works on meanwhile, if
    all its processes know both keys. The exit code is 1 when there is a secret that no key opens.
    """
    from runyard_common.credentials.service import reseal as reseal_columns
    from runyard_common.identity.service.identity import sealer
    from runyard_launch.cli.installation import opened

    with opened() as (store, settings):
        done = list(reseal_columns(store, sealer(settings)))
    print_rows(map(asdict, done), _SEALED, as_json)
    broken = sum(len(column.broken) for column in done)
    if broken:
        raise CommandFailed(
            f"{broken} secrets were sealed with a key that is not named: add it, or replace them.",
            "secrets_not_opened",
        )
