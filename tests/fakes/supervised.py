"""A real supervisor over shell commands: `python -m tests.fakes.supervised FOLDER JSON [quick]`.

JSON is a list of {"name", "command", "order"?, "grace"?, "once"?, "wait_for"?, "runs_agents"?, "holds_up"?,
"stage"?}; a child with `wait_for` is ready when that file is in FOLDER, where all of them run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from runyard_launch.problems import StartProblem
from runyard_launch.supervisor.children import Spec
from runyard_launch.supervisor.supervisor import GivenUp, Supervisor


def spec(child: dict[str, Any], folder: Path) -> Spec:
    wait_for = child.get("wait_for")
    return Spec(
        name=child["name"],
        argv=["sh", "-c", child["command"]],
        log=folder / f"{child['name']}.log",
        ready=(folder / wait_for).exists if wait_for else None,
        once=child.get("once", False),
        stop_order=child.get("order", 1),
        grace=child.get("grace", 10.0),
        holds_up=child.get("holds_up"),
        runs_agents=child.get("runs_agents", False),
    )


def main() -> None:
    folder = Path(sys.argv[1])
    os.chdir(folder)
    children = json.loads(sys.argv[2])
    numbers = sorted({child.get("stage", 0) for child in children})
    stages = [[spec(c, folder) for c in children if c.get("stage", 0) == number] for number in numbers]
    try:
        supervisor = Supervisor(Console(width=200), quick="quick" in sys.argv[3:])
        sys.exit(supervisor.run(stages, up=lambda: print("UP", flush=True)))
    except StartProblem as problem:
        print("\n".join(problem.lines) if isinstance(problem, GivenUp) else "")
        print(problem)
        sys.exit(problem.exit_code)


if __name__ == "__main__":
    main()
