"""`runyard up`: everything on this machine, from an empty home to a running system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from runyard_launch.problems import StartProblem
from runyard_launch.supervisor import home_server, models, preflight
from runyard_launch.supervisor.children import Spec
from runyard_launch.supervisor.home import locked, open_home
from runyard_launch.supervisor.home_server import sign_in_link
from runyard_launch.supervisor.parts import Plan, child_environment
from runyard_launch.supervisor.supervisor import GivenUp, Supervisor


def up(workers: int = 1, apis: int = 1, demo: bool = False, once: bool = False) -> int:
    """Bring everything up and stay until stopped; the exit code. See `runyard_launch.cli.up` for the options."""
    console, errors = Console(emoji=False), Console(stderr=True, emoji=False)
    try:
        return _up(console, workers, apis, demo, once)
    except StartProblem as problem:
        return report_problem(errors, problem)


def report_problem(errors: Console, problem: StartProblem) -> int:
    """Print why nothing runs; the exit code."""
    for line in problem.lines if isinstance(problem, GivenUp) else ():
        errors.print(f"  | {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
    errors.print(str(problem), style="red", markup=False, soft_wrap=True)
    return problem.exit_code


def _up(console: Console, workers: int, apis: int, demo: bool, once: bool) -> int:
    settings = preflight.read_settings()
    preflight.check_start(settings)
    home = open_home(settings.home)
    with locked(home):
        settings = preflight.with_port(settings)
        preflight.check_database(settings)
        model = models.choose(settings, os.environ)
        env = child_environment(settings, home, os.environ, model, demo)
        plan = Plan(settings, home, env, model, workers, apis)
        home_server.write_address(home.path, plan.local_url)
        console.print(f"Starting Runyard in {home.path}", soft_wrap=True, highlight=False, markup=False)
        try:
            last = _sample(plan) if once or (demo and not home.sample_marker.exists()) else None
            return Supervisor(console, quick=True).run(
                plan.stages(), last, until_done=once, up=lambda: print_welcome(console, plan, demo)
            )
        finally:
            plan.clean_up()


def _sample(plan: Plan) -> Spec:
    argv: list[str | Path] = [
        sys.executable,
        "-P",
        "-m",
        "runyard_launch.supervisor.sample",
        plan.local_url,
        plan.home.admin_key,
    ]
    return Spec("sample", argv, log=None, env=plan.env, stop_order=0, grace=2)


def print_welcome(console: Console, plan: Plan, demo: bool) -> None:
    """Addresses, a link that signs in, the place of the key, a curl line to paste, and the truth about the model."""
    url, key = plan.settings.base_url, plan.home.admin_key
    rows = {
        "console": f"{url}/console",
        "api": f"{url}/api/v1",
        "docs": f"{url}/docs",
        "admin key": str(key),
        "logs": str(plan.home.logs),
        "sign in": sign_in_link(plan.home.path, plan.local_url),
    }
    console.print()
    for label, text in rows.items():
        console.print(f"  [bold]{label:<10}[/] {escape(text)}", soft_wrap=True, highlight=False)
    console.print(" " * 13 + "(once, within ten minutes; `runyard console` makes another)", style="dim")
    model = plan.model.name + (f" ({plan.model.remark})" if plan.model.remark else "")
    console.print(f"  [bold]{'model':<10}[/] {escape(model)}", soft_wrap=True, highlight=False)
    if demo:
        console.print("\n  Try it:\n", style="dim")
        console.print(curl_line(url, str(key)), soft_wrap=True, highlight=False, markup=False)
    elif not plan.settings.agent_sources:
        console.print(
            "\n  No agents are named: set RUNYARD_AGENTS, or see the examples with --demo.", style="dim"
        )
    console.print("\n  Ctrl-C stops everything.", style="dim")


def curl_line(url: str, key_file: str) -> str:
    """A request that can be pasted as it is."""
    body = (
        '{"args": {"ticketId": "T-1", "priority": "high", "language": "en"}, "query": "I was charged twice."}'
    )
    return (
        f"curl -s '{url}/api/v1/agents/@demo/support_triage/run' "
        f"-H \"Authorization: Bearer $(cat '{key_file}')\" -H 'Content-Type: application/json' -d '{body}'"
    )
