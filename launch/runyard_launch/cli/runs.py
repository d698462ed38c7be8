"""`runyard run` and `runyard tasks`: submit runs, list, read and steer them."""

from __future__ import annotations

import uuid
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from runyard_launch.cli.following import again, follow_run
from runyard_launch.cli.remote import KeyFile, Url, ask, connected, outcome, read_json, show
from runyard_launch.cli.terminal import AsJson, done, examples, print_rows

if TYPE_CHECKING:
    from runyard import Client

run_app = typer.Typer()
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Show its events until it ends or waits for a person.")
]


@run_app.command(
    epilog=examples(
        'runyard run echo "hello" --follow',
        """runyard run @demo/invoice_check --args '{"lines": [{"amount": 12.5}]}'""",
        """runyard run echo --args @order.json --file invoice.pdf -o 'metadata={"order": 7}' --json""",
    )
)
def run(
    context: typer.Context,
    agent: Annotated[
        str, typer.Argument(help="Which agent: @scope/name, name or id (`runyard agents list`).")
    ],
    message: Annotated[str | None, typer.Argument(help="What to do, for agents that talk.")] = None,
    args: Annotated[
        str | None, typer.Option("--args", help="Arguments: JSON, @file, or - for standard input.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            exists=True,
            dir_okay=False,
            readable=True,
            help="A file to attach; repeat the option for more.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            help="A further field of the request (docs/api.md), as NAME=JSON; repeat the option for more.",
        ),
    ] = None,
    follow: Follow = False,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Run an agent. The task's id goes to standard output, with --follow the run's output.

    The exit code is the outcome of a followed run: 0 completed, 1 failed, 3 stopped, 4 waiting for a person. 2 means
    that the run was refused, 5 that the server does not answer: a run that is followed goes on without it.
    """
    given = read_json(args, "--args") if args is not None else None
    options = dict(_option(text) for text in option or ())
    with connected(url, key_file) as client:
        files = {f"files[{n}]": path for n, path in enumerate(file or ())}
        submitted = client.run(agent, given, message=message, wait=False, files=files or None, **options)
        if follow:
            raise typer.Exit(
                follow_run(client, submitted, as_json, again(context, submitted.id, url, key_file))
            )
        if as_json:
            show(dict(submitted.raw), as_json)
        else:
            typer.echo(submitted.id)


def _option(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=JSON", param_hint="--option")
    return name, read_json(value, "--option")


app = typer.Typer(no_args_is_help=True, help="List, read and steer tasks.")
Task = Annotated[str, typer.Argument(help="The task's id (`runyard tasks list`).")]


@app.command("list")
def list_tasks(
    status: Annotated[
        str | None, typer.Option(help="Only of these statuses, comma-separated, such as running,queued.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's: id, @scope/name or name.")] = None,
    q: Annotated[str | None, typer.Option("--title", help="Only with this in their title.")] = None,
    error_code: Annotated[
        str | None, typer.Option(help="Only those that failed, or were stopped, with this code.")
    ] = None,
    retried: Annotated[
        bool | None, typer.Option(help="Only those that another task repeats, or that none does.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, newest first."""
    with connected(url, key_file) as client:
        wanted = agent_id(client, agent) if agent is not None else None
        again = None if retried is None else str(retried).lower()
        every = client.list(status=status, agent_id=wanted, q=q, error_code=error_code, retried=again)
        found = list(islice(every, limit))
    columns = {
        "task_id": "task",
        "agent": "agent",
        "status": "status",
        "error_code": "error",
        "created_at": "created",
        "title": "title",
    }
    print_rows([run.raw for run in found], columns, as_json)


def agent_id(client: Client, agent: str) -> str:
    """The id of an agent; the server refuses a name it does not know."""
    try:
        return str(uuid.UUID(agent))
    except ValueError:
        found = ask(client, "GET", f"/agents/{quote(agent, safe='@/')}")
    return str(found["agent_group_id"])


@app.command("show")
def show_task(task: Task, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False) -> None:
    """Read a task whole.

    The exit code is its outcome, as that of `runyard run --follow`; 0 also for one under way.
    """
    with connected(url, key_file) as client:
        found = client.get(task)
    show(dict(found.raw), as_json)
    raise typer.Exit(outcome(found))


@app.command()
def follow(
    context: typer.Context, task: Task, url: Url = "", key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Show a task's events until it ends or waits for a person.

    From its beginning, with the exit codes of `runyard run --follow`. Ctrl-C, or a server that goes away, ends this
    command alone: the run goes on, and can be followed again.
    """
    with connected(url, key_file) as client:
        raise typer.Exit(follow_run(client, client.get(task), as_json, again(context, task, url, key_file)))


@app.command(
    epilog=examples(
        "runyard tasks answer TASK CC-4200", """runyard tasks answer TASK '{"centre": 4200}' --data"""
    )
)
def answer(
    task: Task,
    message: Annotated[str, typer.Argument(help="The answer: a text, or JSON with --data.")],
    data: Annotated[
        bool, typer.Option("--data", help="The answer is JSON, @file, or - for standard input.")
    ] = False,
    question: Annotated[
        str | None, typer.Option(help="The question's id, where several are open; else the first.")
    ] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Answer what a task asks, or send a message to a running one."""
    answer = read_json(message, "message") if data else message
    with connected(url, key_file) as client:
        client.answer(task, answer, question)
    done(f"Task {task} has the answer.", {"task_id": task, "answered": True}, as_json)


@app.command(
    epilog=examples(
        "runyard tasks review TASK approve",
        "runyard tasks review TASK reject --reason 'Too much.'",
        """runyard tasks review TASK edit --arguments '{"total": 12.5}'""",
    )
)
def review(
    task: Task,
    action: Annotated[str, typer.Argument(help="What to do: approve, reject, edit, redo, skip or fail.")],
    reason: Annotated[str | None, typer.Option(help="Why; it is kept with the decision.")] = None,
    arguments: Annotated[
        str | None,
        typer.Option(help="For edit: the arguments to use instead, as JSON, @file, or - for standard input."),
    ] = None,
    result: Annotated[
        str | None, typer.Option(help="For skip: the step's result, as JSON, @file, or - for standard input.")
    ] = None,
    which: Annotated[
        str | None, typer.Option("--review", help="The review's id; needed where several are open.")
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
    reason: Annotated[str | None, typer.Option(help="Why; the log has it.")] = None,
    url: Url = "",
    key_file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel a task."""
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
    print_rows([question.raw for question in waiting], columns, as_json)
