"""`runyard agents`: what is published, and publishing, on this machine's installation or on a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.cli.remote import KeyFile, Url, ask, connected, is_remote
from runyard_launch.cli.terminal import AsJson, done, examples, need_server, print_rows
from runyard_launch.problems import CommandFailed, Outcome, refused

if TYPE_CHECKING:
    from runyard import Client

app = typer.Typer(no_args_is_help=True, help="List and publish agents.")
_COLUMNS = {"agent": "agent", "version": "version", "kind": "kind", "whose": "whose", "id": "id"}
_PAGE = 100
_YAML = (".yaml", ".yml")


@app.command("list")
def list_agents(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the agents that an organisation can run.

    Those that are published for everybody, and its own.
    """
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            rows = [_row(agent) for agent in _agents(client)]
    else:
        rows = _listed_here()
    print_rows(rows, _COLUMNS, as_json)


@app.command(
    epilog=examples(
        "runyard agents publish greeter.yaml",
        "runyard agents publish agents/ --url https://runs.example.com --key-file key",
    )
)
def publish(
    source: Annotated[
        str, typer.Argument(help="A manifest, a Python file, a folder of either, or a module.")
    ],
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Publish agents from manifests or code.

    On this machine for every organisation; on a server manifests alone, for the organisation of the key. A declared
    agent runs at once. The code of a Python agent must be where the workers are: name the same source in their
    RUNYARD_AGENTS.
    """
    if is_remote(url, key_file):
        with connected(url, key_file) as client:
            found: dict[str, Any] = {"python": []} | _publish_there(client, Path(source))
    else:
        need_server()
        found = _publish_here(source)
    if not found["count"]:
        from runyard_common.start_checks import without_agents

        raise CommandFailed(without_agents(source), "no_agents", Outcome.REFUSED, field="source")
    done(f"{found['count']} published: {', '.join(found['names'])}.", found, as_json)
    if found["python"] and not as_json:
        where = str(Path(source).resolve()) if Path(source).exists() else source
        typer.echo(f"Workers run the Python agents among them when RUNYARD_AGENTS names {where}.", err=True)


def _listed_here() -> list[dict[str, str]]:
    """The agents of the operator's organisation: what is published for everybody, and its own."""
    from runyard_common.agents.queries import agents
    from runyard_common.database.rows import OrgScope
    from runyard_launch.cli.administration import DEFAULT
    from runyard_launch.cli.installation import opened, organisation

    with opened() as (store, _):
        org_id = organisation(store, DEFAULT).id
        with store.read() as conn:
            return [
                {
                    "agent": row.name,
                    "version": str((row.manifest or {}).get("version") or "—"),
                    "kind": row.kind,
                    "whose": _whose(row.shared),
                    "id": row.id,
                }
                for row in agents.with_manifests(OrgScope(conn, org_id))
            ]


def _publish_here(source: str) -> dict[str, Any]:
    """Publish by the workers' part, which reads agents' code: a process of its own."""
    from runyard_launch.supervisor.preflight import read_settings

    read_settings()  # a setting that cannot work is reported as by every command
    command = [sys.executable, "-P", "-m", "runyard_workers.publish", source]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise CommandFailed(
            f"Publishing ended with exit code {ran.returncode}.", "publish_failed", field="source"
        )
    answer: dict[str, Any] = json.loads(ran.stdout)
    if (error := answer.get("error")) is None:
        return answer
    message, code, status, field = (error[name] for name in ("message", "code", "status", "field"))
    if status is None:
        raise CommandFailed(message, code, Outcome.REFUSED, field=field)
    raise refused(message, code, status, field=field)


def _agents(client: Client) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = ask(client, "GET", "/agents", limit=_PAGE, cursor=cursor)
        yield from page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _row(agent: dict[str, Any]) -> dict[str, str]:
    return {
        "agent": agent["full_name"],
        "version": agent["version"] or "—",
        "kind": agent["kind"],
        "whose": _whose(agent["shared"]),
        "id": agent["agent_group_id"],
    }


def _whose(shared: bool) -> str:
    return "everybody's" if shared else "its own"


def _publish_there(client: Client, source: Path) -> dict[str, Any]:
    """Send every manifest to the server."""
    names = []
    for file in _manifests(source):
        kind = "application/yaml" if file.suffix in _YAML else "application/json"
        names.append(ask(client, "POST", "/agents/manifests", file.read_bytes(), kind=kind)["full_name"])
    return {"count": len(names), "names": sorted(names)}


def _manifests(source: Path) -> list[Path]:
    suffixes = (*_YAML, ".json")
    if source.is_dir():
        return sorted(file for file in source.iterdir() if file.suffix in suffixes)
    if source.is_file() and source.suffix in suffixes:
        return [source]
    raise CommandFailed(
        f"{source} is no manifest (.yaml, .json) and no folder of them. Agents that are code are published by the "
        "workers that have them: name the source in their RUNYARD_AGENTS.",
        "not_a_manifest",
        Outcome.REFUSED,
        field="source",
    )
