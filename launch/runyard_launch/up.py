"""`runyard up`: everything on this machine, from an empty home to a running system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.console import Console

from runyard_launch import home_server, models, preflight
from runyard_launch.children import Spec
from runyard_launch.home import locked, open_home
from runyard_launch.parts import Plan, child_environment
from runyard_launch.problems import StartProblem
from runyard_launch.supervisor import GivenUp, Supervisor
from runyard_launch.welcome import print_welcome


def up(workers: int = 1, demo: bool = False, once: bool = False) -> int:
    """Bring everything up and stay until stopped; the exit code. See `runyard_launch.cli.up` for the options."""
    console, errors = Console(), Console(stderr=True)
    try:
        return _up(console, workers, demo, once)
    except GivenUp as problem:
        for line in problem.lines:
            errors.print(f"  | {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
        errors.print(str(problem), style="red", markup=False, soft_wrap=True)
        return problem.exit_code
    except StartProblem as problem:
        errors.print(str(problem), style="red", markup=False, soft_wrap=True)
        return problem.exit_code


def _up(console: Console, workers: int, demo: bool, once: bool) -> int:
    settings = preflight.read_settings()
    preflight.check_start(settings)
    home = open_home(settings.home)
    with locked(home):
        settings = preflight.with_port(settings)
        preflight.check_database(settings)
        model = models.choose(settings, os.environ)
        env = child_environment(settings, home, os.environ, model, demo)
        plan = Plan(settings, home, env, model, workers)
        home_server.write_address(home.path, plan.local_url)
        console.print(f"Starting Runyard in {home.path}", soft_wrap=True, highlight=False)
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
        "runyard_launch.sample",
        plan.local_url,
        plan.home.admin_key,
    ]
    return Spec("sample", argv, log=None, env=plan.env, stop_order=0, grace=2)
