"""The `runyard` command. Other rooms add commands through the entry point group `runyard.commands`.

An entry point there names a `typer.Typer`; it is loaded only when its command is called or listed, so that
`runyard up` imports nothing it does not need:

    [project.entry-points."runyard.commands"]
    reports = "our_package.reports:app"
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from runyard_launch.listing import AsJson

GROUP = "runyard.commands"
#: Commands of this package, loaded like those of others: only when they are called or listed.
OWN = {
    "run": "runyard_launch.runs:app",
    "tasks": "runyard_launch.tasks:app",
    "keys": "runyard_launch.keys:app",
    "members": "runyard_launch.members:app",
    "secrets": "runyard_launch.secrets:app",
    "agents": "runyard_workers.cli:app",
}
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class Commands(TyperGroup):
    """The launcher's own commands, then those of the entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, ours first."""
        own = super().list_commands(ctx)
        return [*own, *sorted(_plugins().keys() - set(own))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, or None."""
        if own := super().get_command(ctx, cmd_name):
            return own
        if plugin := _plugins().get(cmd_name):
            command = typer.main.get_command(plugin.load())
            command.name = cmd_name
            return command
        return None


def _plugins() -> dict[str, EntryPoint]:
    own = (EntryPoint(name, value, GROUP) for name, value in OWN.items())
    return {point.name: point for point in (*own, *entry_points(group=GROUP))}


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run agents as durable background tasks.",
)


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    demo: Annotated[bool, typer.Option(help="Publish the examples and follow one sample run.")] = False,
    once: Annotated[
        bool, typer.Option(help="Stop after the sample run; its outcome is the exit code.")
    ] = False,
) -> None:
    """Start everything on this machine: broker, local model, migrations, api, worker, scheduler."""
    from runyard_common.umask import keep_files_private
    from runyard_launch.up import up as bring_up

    keep_files_private()
    raise typer.Exit(bring_up(workers, demo or once, once))


@app.command(context_settings=_PASSED_ON)
def api(context: typer.Context) -> None:
    """Run one api process."""
    _become("runyard_api", context.args)


@app.command(context_settings=_PASSED_ON)
def worker(context: typer.Context) -> None:
    """Run one worker process (a Celery worker, which takes Celery's options)."""
    _become("runyard_workers", context.args)


@app.command(context_settings=_PASSED_ON)
def scheduler(context: typer.Context) -> None:
    """Run one scheduler process."""
    _become("runyard_scheduler", context.args)


@app.command(context_settings=_PASSED_ON)
def migrate(context: typer.Context) -> None:
    """Bring the database to the newest version."""
    _become("runyard_common.store.migrate", context.args)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check settings, home, database, broker, Redis, files and model; not 0 when something fails."""
    from runyard_launch.doctor import doctor as examine

    raise typer.Exit(examine(as_json))


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Replace this process, so that signals and exit codes are the program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - no shell wanted


def main() -> None:
    """Console script `runyard`."""
    app()


if __name__ == "__main__":
    main()
