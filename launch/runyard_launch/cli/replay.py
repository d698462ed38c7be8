"""`runyard replay` and `runyard tasks journal`: recorded journals of runs, and changed code on them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runyard_launch.cli.remote import KeyFile, Url, ask, connected, is_remote
from runyard_launch.cli.runs import Task, app
from runyard_launch.cli.terminal import AsJson, done, examples, need_server
from runyard_launch.problems import CommandFailed, Outcome

if TYPE_CHECKING:
    from runyard import Client

replay_app = typer.Typer()
#: Failures of the way to this machine's own server: its database may be there all the same.
_NO_SERVER = ("unreachable", "no_api_key")
_NO_DATABASE = ("database_unavailable", "missing_extra")
#: What importing agents and starting Python may take besides, in seconds.
_START_SECONDS = 120.0


@app.command()
def journal(task: Task, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Write a task's journal, to keep and to replay.

    With all that its code was given: input, answers, conversation. It is one JSON document. Credentials of the request
    are not in it; what steps have returned is, as it is.
    """
    typer.echo(json.dumps(_recorded(task, url, key_file), ensure_ascii=False))


@replay_app.command(
    epilog=examples(
        "runyard replay TASK --agents my_agents.py",
        "runyard replay TASK --save tests/journals/order.json",
        "runyard replay tests/journals/order.json --agents my_agents.py --json",
    )
)
def replay(
    task: Annotated[str, typer.Argument(help="The task's id, or a file that holds its journal.")],
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agents", help="A Python file, a folder or a module with the changed code; else RUNYARD_AGENTS."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the journal to this file.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="What the code may take, in seconds.")] = 60.0,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Run changed code on the journal of an old task.

    What is on record is given to the code as it was; at the first call that is not on record the replay ends. The
    exit code is 0 where the code fits, 1 where it does not, 2 where it cannot be tried. With --save alone the
    journal is written, and nothing replayed.
    """
    file = Path(task)
    with tempfile.TemporaryDirectory(prefix="runyard-replay-") as folder:
        if not file.is_file():
            file = save or Path(folder) / "journal.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(_recorded(task, url, key_file), ensure_ascii=False), encoding="utf-8")
        elif save is not None:
            save.parent.mkdir(parents=True, exist_ok=True)
            save.write_bytes(file.read_bytes())
        if save is not None and not agents:
            done(f"The journal is in {save}.", {"file": str(save)}, as_json)
            return
        found = _program({"file": str(file), "agents": agents, "timeout": timeout})
    done(found["text"], found["replay"], as_json)
    raise typer.Exit(Outcome.COMPLETED if found["replay"]["fits"] else Outcome.FAILED)


def _recorded(task: str, url: str, key_file: Path | None) -> dict[str, Any]:
    """The recording of a task, from the server, or from this installation's database while no server runs."""
    try:
        with connected(url, key_file) as client:
            return _pages(client, task)
    except CommandFailed as failed:
        if is_remote(url, key_file) or failed.code not in _NO_SERVER:
            raise
        try:
            return _from_database(task)
        except CommandFailed as here:
            raise failed if here.code in _NO_DATABASE else here from None


def _pages(client: Client, task: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(client, "GET", f"/tasks/{task}/journal")
    following = found["next"]
    while following is not None:
        page = ask(client, "GET", f"/tasks/{task}/journal", after=following)
        found["entries"] += page["entries"]
        following = page["next"]
    return found | {"next": None}


def _from_database(task: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="runyard-replay-") as folder:
        file = Path(folder) / "journal.json"
        _program({"task": task, "save": str(file)})
        found: dict[str, Any] = json.loads(file.read_text())
    return found


def _program(order: dict[str, Any]) -> dict[str, Any]:
    """What the workers' part answers, which runs agents' code in a process of its own."""
    need_server()
    command = [sys.executable, "-P", "-m", "runyard_workers.replaying", json.dumps(order)]
    limit = _START_SECONDS + order.get("timeout", 0.0)
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"Replaying did not end within {limit:g} s. Look for code that blocks where it is imported.",
            "not_replayable",
            Outcome.REFUSED,
        ) from None
    lines = ran.stdout.splitlines()
    if ran.returncode or not lines:
        raise CommandFailed(
            f"Replaying ended with exit code {ran.returncode}.", "not_replayable", Outcome.REFUSED
        )
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise CommandFailed(answer["error"]["message"], answer["error"]["code"], Outcome.REFUSED)
    return answer
