"""`runyard dev`: everything on this machine for an author, whose agents are loaded again at each save."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from rich.console import Console
from rich.markup import escape

from runyard import extras
from runyard_common.settings import Settings
from runyard_launch.development.changes import Project, Watcher
from runyard_launch.development.terminal import Terminal
from runyard_launch.development.workers import Workers
from runyard_launch.problems import SettingsProblem, StartProblem
from runyard_launch.supervisor import home_server, models, preflight
from runyard_launch.supervisor.children import Spec
from runyard_launch.supervisor.home import locked, open_home
from runyard_launch.supervisor.parts import Plan, child_environment
from runyard_launch.supervisor.supervisor import Supervisor
from runyard_launch.supervisor.up import report_problem

_NO_SOURCE: Final = (
    "Name the agents: `runyard dev my_agents.py` (a file, a folder or a module), or set RUNYARD_AGENTS. "
    "`runyard init` makes a project with one."
)


def dev(sources: Sequence[str], opens: bool | None = None) -> int:
    """Serve these agents until stopped; the exit code. `opens`: see `_open`."""
    console, errors = Console(emoji=False), Console(stderr=True, emoji=False)
    try:
        return _dev(console, sources, opens)
    except StartProblem as problem:
        return report_problem(errors, problem)


def _dev(console: Console, sources: Sequence[str], opens: bool | None) -> int:
    if sources:
        os.environ["RUNYARD_AGENTS"] = ",".join(sources)
    if not extras.installed("watchfiles"):
        raise SettingsProblem(extras.advice("`runyard dev`", "server,local"))
    settings = preflight.read_settings()
    if not settings.agent_sources:
        raise SettingsProblem(_NO_SOURCE)
    preflight.check_start(settings)
    home = open_home(settings.home)
    with locked(home):
        settings = _with_port(settings)
        preflight.check_database(settings)
        model = models.choose(settings, os.environ)
        plan = Plan(settings, home, child_environment(settings, home, os.environ, model, demo=False), model)
        home_server.write_address(home.path, plan.local_url)
        names = ", ".join(settings.agent_sources)
        console.print(
            f"Starting Runyard for {names}, in {home.path}", soft_wrap=True, highlight=False, markup=False
        )
        try:
            return _serve(console, plan, opens)
        finally:
            plan.clean_up()


def _serve(console: Console, plan: Plan, opens: bool | None) -> int:
    folder = Path.cwd().resolve()
    supervisor = Supervisor(console, quick=True)
    terminal = Terminal(console, folder)
    workers = Workers(supervisor, plan.worker(), terminal)
    watcher = Watcher(Project(folder, tuple(plan.settings.agent_sources)), workers.change)

    def up() -> None:
        watcher.start()
        _welcome(console, plan, opens, workers.agents)

    try:
        return supervisor.run(_stages(plan, workers), up=up, until=lambda: workers.settled)
    finally:
        watcher.end()


def _stages(plan: Plan, workers: Workers) -> Iterator[Sequence[Spec]]:
    """The stages without their workers, which begin as soon as there is a broker. The local model keeps nothing up."""
    grounds, serving, *working = plan.stages_without_workers()
    if grounds:
        yield grounds
    workers.begin()
    yield [replace(spec, holds_up=spec.holds_up or 0.0) for spec in serving]
    yield from working


def _with_port(settings: Settings) -> Settings:
    """A free port where the usual one is in use and no setting asks for it: another project may be served."""
    try:
        return preflight.with_port(settings)
    except SettingsProblem:
        if "port" in settings.model_fields_set:
            raise
        return preflight.with_port(settings.model_copy(update={"port": 0}))


def _welcome(console: Console, plan: Plan, opens: bool | None, agents: list[list[str]]) -> None:
    page = f"agents/{quote(agents[0][0], safe='')}" if len(agents) == 1 else "agents" if agents else ""
    link = home_server.sign_in_link(plan.home.path, plan.local_url, page)
    console.print()
    rows = {"console": link, "api": f"{plan.settings.base_url}/api/v1", "logs": str(plan.home.logs)}
    for label, text in rows.items():
        console.print(f"  [bold]{label:<8}[/] {escape(text)}", soft_wrap=True, highlight=False)
    console.print(f"  [bold]{'model':<8}[/] {escape(plan.model.name)}", soft_wrap=True, highlight=False)
    console.print(
        "  [dim]The link signs in once; `runyard console` makes another. Each save loads the agents again. "
        "Ctrl-C stops everything.[/]\n",
        soft_wrap=True,
    )
    _open(link, opens)


def _open(link: str, opens: bool | None) -> None:
    """Open the console in a browser: if asked, or, where that is left open, for a person with a display."""
    if opens is None:
        opens = sys.stdout.isatty() and has_display()
    if opens:
        webbrowser.open(link)


def has_display() -> bool:
    """Whether a browser of this machine has a screen to appear on, and the terminal is not a distant one's."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
