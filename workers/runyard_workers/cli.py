"""`runyard agents`: what is published, and publishing from a file, folder or module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from runyard_common.domain.errors import RunyardError
from runyard_common.domain.sealing import Sealer
from runyard_common.services.identity import secret_key
from runyard_common.services.manifests import PublishRules
from runyard_common.settings import load
from runyard_common.store import agents, identity
from runyard_common.store.database import Database
from runyard_common.store.transaction import Store
from runyard_workers import catalogue

app = typer.Typer(no_args_is_help=True, help="List and publish agents.")


def _store() -> tuple[Store, str]:
    """The store, and the operator's organisation."""
    store = Store(Database(load().database))
    with store.read() as conn:
        found = identity.organisation_named(conn, "default")
    if found is None:
        raise _Refused("There is no organisation yet: start the api once, it makes the first.")
    return store, str(found["id"])


class _Refused(RunyardError):
    """The command cannot be carried out."""


def _told(error: Exception) -> typer.Exit:
    known = error.message if isinstance(error, RunyardError) else None
    reason = known or f"The database does not answer, or has no tables: {type(error).__name__}."
    typer.echo(f"runyard agents: {reason}", err=True)
    refused = isinstance(error, RunyardError) and error.code == "version_exists"
    return typer.Exit(2 if refused else 1)


@app.command("list")
def list_agents(
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False,
) -> None:
    """List the agents of the operator's organisation: what is published for everybody, and its own."""
    found: list[dict[str, str]] = []
    try:
        store, org_id = _store()
        with store.read() as conn:
            for row in agents.with_manifests(conn, org_id):
                version = str((row["manifest"] or {}).get("version") or "—")
                state = "everybody's" if row["shared"] else "its own"
                told = {"agent": row["name"], "version": version, "kind": row["kind"], "whose": state}
                found.append(told | {"id": row["id"]})
        store.db.close()
    except (RunyardError, SQLAlchemyError) as error:
        raise _told(error) from None
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("agent", "version", "kind", "whose", "id", box=None)
    for told in found:
        table.add_row(*told.values())
    Console(width=None if Console().is_terminal else 200).print(table)


@app.command()
def publish(
    source: Annotated[
        str, typer.Argument(help="A manifest, a Python file, a folder of either, or a module.")
    ],
) -> None:
    """Publish agents for every organisation.

    A declared agent runs at once. The code of a Python agent must be where the workers are: name the same
    source in their RUNYARD_AGENTS.
    """
    try:
        definitions, manifests = catalogue.load([source])
        store, org_id = _store()
        _, unknown = catalogue.split_known(store, org_id, definitions.values(), manifests)
        if unknown:
            raise _Refused("; ".join(unknown))
        settings = load()
        rules = PublishRules.of(settings, Sealer(secret_key(settings)))
        count = catalogue.publish(store, org_id, definitions.values(), manifests, rules)
        store.db.close()
    except (RunyardError, SQLAlchemyError) as error:
        raise _told(error) from None
    names = [*definitions, *(manifest.name for manifest in manifests)]
    typer.echo(f"{count} published: {', '.join(sorted(names))}." if count else "There are no agents in it.")
    if definitions:
        where = str(Path(source).resolve()) if Path(source).exists() else source
        typer.echo(f"Workers run the Python agents among them when RUNYARD_AGENTS names {where}.", err=True)
    if not count:
        raise typer.Exit(1)
