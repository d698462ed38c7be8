"""`runyard tasks`: what runs, what waits, and the commands of people: answer, review, cancel, retry."""

from __future__ import annotations

import uuid
from itertools import islice
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from runyard_launch.following import again, follow_run
from runyard_launch.listing import AsJson, done, tell
from runyard_launch.remote import KeyFile, Url, ask, connected, outcome, read_json, show

if TYPE_CHECKING:
    from runyard import Client

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="List, read and steer tasks."
)
Task = Annotated[str, typer.Argument(help="The task's id.")]


@app.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Statuses, comma-separated.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's: id, @scope/name or name.")] = None,
    q: Annotated[str | None, typer.Option("--title", help="Part of the title.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    with connected(url, key_file) as client:
        agent_id = _agent_id(client, agent) if agent is not None else None
        found = list(islice(client.list(status=status, agent_id=agent_id, q=q), limit))
    columns = {
        "task_id": "task",
        "agent": "agent",
        "status": "status",
        "created_at": "created",
        "title": "title",
    }
    tell([run.raw for run in found], columns, as_json)


def _agent_id(client: Client, agent: str) -> str:
    """The id of an agent; the server refuses a name it does not know."""
    try:
        return str(uuid.UUID(agent))
    except ValueError:
        found = ask(client, "GET", f"/agents/{quote(agent, safe='@/')}")
    return str(found["agent_group_id"])


@app.command("show")
def show_task(task: Task, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Read a task whole. The exit code tells its outcome, as `runyard run --follow` does."""
    with connected(url, key_file) as client:
        found = client.get(task)
    show(dict(found.raw), as_json)
    raise typer.Exit(outcome(found))


@app.command()
def follow(
    context: typer.Context, task: Task, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Tell a task's life, from its beginning, until it ends or waits for a person."""
    with connected(url, key_file) as client:
        raise typer.Exit(follow_run(client, client.get(task), as_json, again(context, task, url, key_file)))


@app.command()
def answer(
    task: Task,
    message: Annotated[str, typer.Argument(help="The answer; with --data, JSON.")],
    data: Annotated[
        bool, typer.Option("--data", help="The answer is JSON, @file, or - for standard input.")
    ] = False,
    question: Annotated[str | None, typer.Option(help="Which question, where several are open.")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Answer what a task asks, or send a running one a message."""
    said = read_json(message, "message") if data else message
    with connected(url, key_file) as client:
        client.answer(task, said, question)
    done(f"Task {task} has the answer.", {"task_id": task, "answered": True}, as_json)


@app.command()
def review(
    task: Task,
    action: Annotated[str, typer.Argument(help="approve, reject, edit, redo, skip or fail.")],
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    arguments: Annotated[
        str | None, typer.Option(help="For edit: the arguments instead, JSON or @file.")
    ] = None,
    result: Annotated[str | None, typer.Option(help="For skip: the step's result, JSON or @file.")] = None,
    which: Annotated[
        str | None, typer.Option("--review", help="Which review, where several are open.")
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide a step that waits for a person."""
    changed = read_json(arguments, "--arguments") if arguments is not None else None
    given = read_json(result, "--result") if result is not None else None
    with connected(url, key_file) as client:
        client.review(task, action, reason=reason, arguments=changed, result=given, review_id=which)
    done(f"Task {task}: {action}.", {"task_id": task, "action": action}, as_json)


@app.command()
def cancel(
    task: Task,
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Stop a task."""
    with connected(url, key_file) as client:
        stopped = client.cancel(task, reason)
    if as_json:
        show(dict(stopped.raw), as_json)
    else:
        typer.echo(f"Task {task} is {stopped.status}.")


@app.command()
def inbox(url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """List what waits for people, oldest first."""
    with connected(url, key_file) as client:
        waiting = client.inbox()
    columns = {"task_id": "task", "kind": "waits for", "text": "what", "deadline": "until"}
    tell([question.raw for question in waiting], columns, as_json)
