"""`runyard secrets`: an organisation's secrets for its agents, of this machine's installation or of a server."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from runyard_launch.cli.administration import DEFAULT, HttpAdministration, Org
from runyard_launch.cli.keys import secrets_app
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, is_remote
from runyard_launch.cli.terminal import AsJson, done, examples, instant, print_rows, read_secret

app = secrets_app
_COLUMNS = {"name": "name", "updated_at": "set", "updated_by": "by", "created_at": "since"}
Name = Annotated[str, typer.Argument(help="Its name, as agents give it to ctx.secret.")]


@app.command("list")
def list_secrets(
    org: Org = DEFAULT, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """List the secrets, without their values."""
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            HttpAdministration(client, org)
            rows = ask(client, "GET", "/secrets")["data"]
    else:
        from runyard_common.database.rows import OrgScope
        from runyard_common.identity.queries import secrets
        from runyard_launch.cli.installation import opened, organisation

        with opened() as (store, _):
            org_id = organisation(store, org).id
            with store.read() as conn:
                found = secrets.page(OrgScope(conn, org_id), 10_000)
        rows = [_row(row) for row in found]
    print_rows(rows, _COLUMNS, as_json)


@app.command(
    "set", epilog=examples("runyard secrets set STRIPE_KEY", "pass stripe | runyard secrets set STRIPE_KEY")
)
def set_secret(
    name: Name, org: Org = DEFAULT, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Set a secret, or give it a new value.

    The value is asked for without showing it; without a terminal it is standard input, without the end of its
    last line.
    """
    value = read_secret("Value", "value", f"echo VALUE | runyard secrets set {name}", lines=True)
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            HttpAdministration(client, org)
            row = ask(client, "PUT", f"/secrets/{quote(name, safe='')}", {"value": value})
    else:
        from runyard_common.identity.rules.actors import OPERATOR
        from runyard_common.identity.service import secrets
        from runyard_common.identity.service.identity import sealer
        from runyard_launch.cli.installation import opened, organisation

        with opened() as (store, settings):
            secrets.check(name, value)
            sealed = sealer(settings).seal(value)
            org_id = organisation(store, org).id
            with store.begin() as tx:
                row = _row(secrets.put(tx, org_id, name, sealed, OPERATOR))
    done(f"{name} is set.", row, as_json)


@app.command("delete")
def delete_secret(
    name: Name, org: Org = DEFAULT, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Delete a secret; agents that read it fail from now on."""
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            HttpAdministration(client, org)
            ask(client, "DELETE", f"/secrets/{quote(name, safe='')}")
    else:
        from runyard_common.identity.rules.actors import OPERATOR
        from runyard_common.identity.service import secrets
        from runyard_launch.cli.installation import opened, organisation

        with opened() as (store, _):
            org_id = organisation(store, org).id
            with store.begin() as tx:
                secrets.remove(tx, org_id, name, OPERATOR)
    done(f"{name} is deleted.", {"name": name, "deleted": True}, as_json)


def _row(row: Any) -> dict[str, Any]:
    times = {"created_at": instant(row.created_at), "updated_at": instant(row.updated_at)}
    return {"name": row.name, **times, "updated_by": row.updated_by}
