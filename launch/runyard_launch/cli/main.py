"""The `runyard` command: one function a command here, and the groups of commands of the other modules."""

from __future__ import annotations

import os
import shlex
import sys
from copy import copy
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.main import get_command_name
from typer.models import CommandInfo, TyperInfo

import runyard
from runyard import extras
from runyard_launch.cli import (
    agents,
    backups,
    events,
    keys,
    limits,
    login,
    members,
    operations,
    privacy,
    replay,
    runs,
    schedules,
    secrets,
    watching,
    webhooks,
)
from runyard_launch.cli.terminal import COMPLETE, AsJson, Commands, done, examples, need_server
from runyard_launch.problems import CommandFailed, Outcome

_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
# What these take is the program's own; `--help` is ours, so that asking for help starts nothing.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,  # our own options: they know the shell where the usual detection does not
    rich_markup_mode=None,  # plain help takes half the time, and completion asks for it at every TAB
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    typer.echo(f"runyard {runyard.__version__}")
    raise typer.Exit


def _install_completion(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from typer import _completion_shared as completion

        shell, path = completion.install(_shell(), "runyard", COMPLETE)
        typer.echo(f"Completion for {shell} is in {path}. It works in every shell you open from now on.")
        raise typer.Exit


def _show_completion(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from typer import _completion_shared as completion

        names = {"prog_name": "runyard", "complete_var": COMPLETE, "shell": _shell()}
        typer.echo(completion.get_completion_script(**names))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="Talk to this server of `runyard profiles list`; else to that of RUNYARD_PROFILE, or the one in use.",
        ),
    ] = None,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=_install_completion,
            is_eager=True,
            help="Install completion for this shell (bash, zsh, fish or PowerShell).",
        ),
    ] = False,
    show_completion: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=_show_completion,
            is_eager=True,
            help="Write the completion script for this shell.",
        ),
    ] = False,
) -> None:
    """Run agents as durable background tasks."""
    if profile is not None:
        os.environ["RUNYARD_PROFILE"] = profile


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, help="How many worker processes.")] = 1,
    apis: Annotated[int, typer.Option(min=1, help="How many api processes, behind one port.")] = 1,
    demo: Annotated[
        bool, typer.Option(help="Publish the agents of examples/; the first start follows one sample run.")
    ] = False,
    once: Annotated[
        bool, typer.Option(help="Run the sample, and stop after it; its outcome is the exit code.")
    ] = False,
) -> None:
    """Start everything on this machine.

    Broker, local model, migrations, api, worker and scheduler; Ctrl-C ends them.
    """
    need_server()
    from runyard_common.process import keep_files_private
    from runyard_launch.supervisor.up import up as bring_up

    keep_files_private()
    raise typer.Exit(bring_up(workers, apis, demo or once, once))


@app.command(epilog=examples("runyard dev my_agents.py", "runyard dev agents/ shop.quotes --no-open"))
def dev(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders or modules of agents; else those of RUNYARD_AGENTS."),
    ] = None,
    opens: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the console in a browser; else where there is a display."
        ),
    ] = None,
) -> None:
    """Serve agents while they are written: each save reloads them.

    Everything on this machine, as with `up`, and one worker. Runs under way finish with the code that they began
    with. Failures, and what runs print, appear here.
    """
    need_server()
    from runyard_common.process import keep_files_private
    from runyard_launch.development.dev import dev as develop

    keep_files_private()
    raise typer.Exit(develop(sources or [], opens))


@app.command(epilog=examples("runyard init shop", "cd shop && runyard dev"))
def init(
    folder: Annotated[Path, typer.Argument(help="Where to make it; a new folder, or this one.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Make a project: an agent, its test, settings, and an image.

    Files that are there are left alone: then nothing is written.
    """
    from runyard_launch.development.new_project import NewProject

    project = NewProject.of(folder)
    made = [str(path) for path in project.make()]
    inside = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    done(
        f"{project.name} is in {folder}: {project.module}.py has its agent. Next: {inside}runyard dev",
        {"name": project.name, "module": project.module, "files": made},
        as_json,
    )


@app.command()
def console(as_json: AsJson = False) -> None:
    """Write a link that signs in to the console.

    Of this machine's server: it works once, within ten minutes, in a browser on this machine.
    """
    from runyard_launch.supervisor import home_server

    server = home_server.of_settings()
    server.check()
    link = home_server.sign_in_link(server.home, server.local_url)
    done(link, {"url": link, "expires_in": 600}, as_json)


@app.command()
def api() -> None:
    """Run one api process. Its options are the RUNYARD_* settings: see docs/operations.md."""
    _become("runyard_api", [])


@app.command(context_settings=_PASSED_ON)
def worker(context: typer.Context) -> None:
    """Run one worker process. Its options are those of `celery worker`, such as --hostname or --loglevel."""
    _become("runyard_workers", context.args)


@app.command()
def scheduler() -> None:
    """Run one scheduler process. Its options are the RUNYARD_* settings: see docs/operations.md."""
    _become("runyard_scheduler", [])


@app.command(context_settings=_PASSED_ON)
def migrate(context: typer.Context) -> None:
    """Bring the database to the newest version.

    Or another: up (the default), down REVISION [--yes], check. `down` takes migrations back to a revision; `down
    base --yes` drops every table. `check` compares the tables with the code.
    """
    _become("runyard_common.database.migrate", context.args)


@app.command(epilog=examples("runyard doctor", "runyard doctor --selftest --json"))
def doctor(
    selftest: Annotated[
        bool,
        typer.Option(
            "--selftest",
            help="Try what the running deployment promises, too, with runs and processes of its own, in a minute.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that this installation is in order.

    Settings, home, database, broker, Redis, files and model. The exit code is 1 when something fails.
    """
    from runyard_launch.cli.doctor import doctor as examine

    raise typer.Exit(examine(as_json, selftest))


@app.command(context_settings=_PASSED_ON)
def test(context: typer.Context) -> None:
    """Run this project's tests with pytest, from its folder. Its options are those of pytest, such as -k or -x."""
    if not extras.installed("pytest"):
        raise CommandFailed("pytest is not installed: pip install pytest.", "missing_extra", Outcome.REFUSED)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *context.args])  # noqa: S606 - no shell wanted


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Replace this process, so that signals and exit codes are the program's own."""
    need_server()
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - no shell wanted


def _shell() -> str:
    """The shell this command was called from; where none can be found (a script, a container), that of SHELL."""
    from typer import _completion_shared as completion

    named = Path(os.environ.get("SHELL", "")).name
    found = completion._get_shell_name() or named
    for shell in (found, named):
        if shell in _SHELLS:
            return shell
    raise CommandFailed(
        "Which shell this is cannot be found out. Name it: SHELL=/bin/bash runyard --show-completion",
        "unknown_shell",
        2,
    )


for group, name in (
    (runs.run_app, None), (replay.replay_app, None), (watching.app, "tasks"),
    (agents.app, "agents"), (schedules.app, "schedules"), (events.app, "events"), (webhooks.app, "webhooks"),
    (limits.app, "limits"), (operations.workers_app, "workers"), (operations.usage_app, None),
    (keys.app, "keys"), (members.app, "members"), (privacy.orgs_app, "orgs"), (privacy.users_app, "users"),
    (backups.app, None), (login.app, None), (login.profiles_app, "profiles"), (secrets.app, "secrets"),
):  # fmt: skip
    app.add_typer(group, name=name)


def main() -> None:
    """Console script `runyard`."""
    words = sys.argv[1:]
    named = words[0] if words and COMPLETE not in os.environ else ""
    (_only(app, named) or app)()


def _only(group: typer.Typer, name: str) -> typer.Typer | None:
    """The group with nothing but this command; None where it has none of this name.

    Typer builds every command at each start, which takes longer than most commands.
    """
    commands = [one for one in group.registered_commands if _name(one) == name]
    groups = []
    for one in group.registered_groups:
        if one.name == name:
            groups.append(one)
        elif (
            not isinstance(one.name, str) and one.typer_instance is not None
        ):  # its commands are the group's own
            inner = _only(one.typer_instance, name)
            groups += [TyperInfo(inner)] if inner is not None else []
    if not commands and not groups:
        return None
    part = copy(group)
    part.registered_commands, part.registered_groups = commands, groups
    return part


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")
