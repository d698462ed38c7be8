"""`runyard agents`: what is published, and publishing, on this machine's installation or on a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.listing import AsJson, done, examples, tell
from runyard_launch.problems import CommandFailed, Outcome
from runyard_launch.remote import KeyFile, Url, ask, connected

if TYPE_CHECKING:
    from runyard import Client

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="List and publish agents."
)
_COLUMNS = {"agent": "agent", "version": "version", "kind": "kind", "whose": "whose", "id": "id"}
_PAGE = 100
_YAML = (".yaml", ".yml")


@app.command("list")
def list_agents(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List the agents that an organisation can run.

    Those that are published for everybody, and its own.
    """
    if _of_server(url, key_file):
        with connected(url, key_file) as client:
            rows = [_row(agent) for agent in _agents(client)]
    else:
        with _local() as workers:
            rows = workers.listed()
    tell(rows, _COLUMNS, as_json)


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
    if _of_server(url, key_file):
        with connected(url, key_file) as client:
            found: dict[str, Any] = {"python": []} | _publish_there(client, Path(source))
    else:
        with _local() as workers:
            found = asdict(workers.publish(source))
    if not found["count"]:
        raise CommandFailed("There are no agents in it.", "no_agents", Outcome.REFUSED, field="source")
    done(f"{found['count']} published: {', '.join(found['names'])}.", found, as_json)
    if found["python"] and not as_json:
        where = str(Path(source).resolve()) if Path(source).exists() else source
        typer.echo(f"Workers run the Python agents among them when RUNYARD_AGENTS names {where}.", err=True)


def _of_server(url: str, key_file: Path | None) -> bool:
    from runyard_launch import target

    return bool(url or key_file) or target.remote() is not None


@contextmanager
def _local() -> Iterator[Any]:
    """The functions that read agents' code, which is the workers' part: by name, as the launcher imports none of it."""
    from runyard_common.values.errors import RunyardError

    try:
        yield import_module("runyard_workers.cli")
    except RunyardError as refusal:
        from runyard_launch.installation import failure

        raise failure(refusal) from None


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
        "whose": "everybody's" if agent["shared"] else "its own",
        "id": agent["agent_group_id"],
    }


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
