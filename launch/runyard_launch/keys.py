"""`runyard keys`: API keys, from the installation's own machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from runyard_common.domain.actors import OPERATOR
from runyard_common.domain.roles import Role
from runyard_common.services import identity as service
from runyard_common.services.identity import DEFAULT, KeyRequest
from runyard_common.store import identity
from runyard_launch.installation import opened, organisation
from runyard_launch.listing import AsJson, tell

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
Org = Annotated[str, typer.Option("--org", help="The organisation, by id or name.")]


def instant(at: float | None) -> str | None:
    """A time as lists show it: RFC 3339 in UTC, to the second."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[Role, typer.Option(help="What it may do at most.")] = Role.MEMBER,
    scope: Annotated[list[str] | None, typer.Option(help="Cut it down, such as runs:create; repeat.")] = None,
    days: Annotated[
        float | None, typer.Option(min=0.01, help="How long it is valid; else until revoked.")
    ] = None,
    org: Org = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its text goes to standard output, once."""
    with opened() as (store, _):
        org_id = organisation(store, org)["id"]
        with store.begin() as tx:
            expires = tx.now + days * 86_400 if days is not None else None
            wanted = KeyRequest(name, role, scope, expires)
            made = service.create_key(tx, org_id, wanted, OPERATOR, Role.OWNER)
    typer.echo(f"Key {made.id} ({role.value}) made; its text is told only now:", err=True)
    typer.echo(json.dumps({"id": made.id, "role": role.value, "key": made.key}) if as_json else made.key)


@app.command("list")
def list_keys(
    org: Org = DEFAULT,
    revoked: Annotated[bool, typer.Option(help="Show revoked ones, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the keys of an organisation."""
    with opened() as (store, _):
        org_id = organisation(store, org)["id"]
        rows: list[dict[str, Any]] = []
        with store.read() as conn:
            while page := identity.keys(
                conn, org_id, 200, rows[-1]["id"] if rows else None, with_revoked=revoked
            ):
                rows.extend(page)
    tell([_told(row) for row in rows], _COLUMNS, as_json)


_COLUMNS = {
    "id": "id", "name": "name", "prefix": "begins", "role": "role", "scopes": "scopes", "created_by": "made by",
    "last_used_at": "last used", "expires_at": "expires", "revoked_at": "revoked",
}  # fmt: skip


def _told(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: row[name] for name in _COLUMNS}
    times = {name: instant(row[name]) for name in ("last_used_at", "expires_at", "revoked_at")}
    return told | times | {"scopes": "all" if row["scopes"] is None else row["scopes"]}


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its id, as list shows it.")], org: Org = DEFAULT
) -> None:
    """Revoke a key: new requests with it are refused within two seconds, runs under way finish."""
    with opened() as (store, _):
        org_id = organisation(store, org)["id"]
        with store.begin() as tx:
            service.revoke_key(tx, org_id, key_id, OPERATOR)
    typer.echo(f"Key {key_id} is revoked.")


@app.command()
def renew_admin(
    keep_old: Annotated[
        bool, typer.Option(help="Leave earlier admin keys of the first start valid.")
    ] = False,
) -> None:
    """Make a new admin key, in admin.key of the home; the earlier ones made like it are revoked."""
    with opened() as (store, settings):
        org_id = organisation(store, DEFAULT)["id"]
        with store.begin() as tx:
            old = [] if keep_old else _admin_keys(tx.conn, org_id)
            service.renew_admin_key(tx, org_id, settings.home)
            for key_id in old:
                service.revoke_key(tx, org_id, key_id, OPERATOR)
        typer.echo(f"A new admin key is in {settings.home / service.ADMIN_KEY}; {len(old)} revoked.")


def _admin_keys(conn: Connection, org_id: str) -> list[str]:
    """Keys that the installation made for its operator, by the first start or by this command."""
    rows = identity.keys(conn, org_id, 10_000)
    return [row["id"] for row in rows if row["created_by"] == "system" and row["name"] == "admin"]
