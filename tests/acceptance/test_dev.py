"""`runyard dev` as an author uses it: saves while a run is under way, code that cannot be imported, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard import Client
from tests.launching import Launched, alive, children
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
WITHIN = 120.0  # seconds, on a machine that is busy with other things
CODE = """import logging
import time
from pathlib import Path

from runyard import BlockingContext, agent


def gate():
    print("waits in {version}")
    while not Path("open").exists():
        time.sleep(0.05)
    return "{version}"


@agent("waits")
def waits(ctx: BlockingContext, args: dict) -> dict:
    return {{"first": ctx.step("first", gate), "last": ctx.step("last", lambda: "{version}")}}


@agent("answers")
async def answers(ctx, args: dict) -> str:
    print("printed by {version}")
    logging.getLogger("shop").warning("logged by {version}")
    if args.get("fail"):
        raise LookupError("no such price")
    return "{version}"
"""

ASKS = """

@agent("asks")
async def asks(ctx, args: {}) -> str:
    return await ctx.ask("Which?")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An author's folder with one file."""
    folder = tmp_path / "shop"
    folder.mkdir()
    write(folder, "one", ASKS.format("dict"))
    return folder


def write(project: Path, version: str, more: str = "") -> None:
    """Put the whole file in its place at once: half of it would be one more save."""
    whole = project.parent / "bots.py.new"
    whole.write_text(CODE.format(version=version) + more)
    whole.replace(project / "bots.py")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNYARD_", "PYTHON"))}
    return kept | {
        "RUNYARD_MODEL": "none",
        "RUNYARD_MODEL_BASE_URL": "http://127.0.0.1:9/v1",
        "RUNYARD_PORT": "0",
    }


@pytest.fixture
def dev(project: Path, tmp_path: Path) -> Iterator[Launched]:
    """`runyard dev bots.py` in the project, once it serves."""
    command = [sys.executable, "-m", "runyard_launch.cli", "dev", "bots.py"]
    dev = Launched(command, tmp_path / "dev.log", environment(), cwd=project)
    try:
        dev.until("Ctrl-C stops everything", WITHIN)
        yield dev
    finally:
        dev.stop()


@pytest.fixture
def client(dev: Launched, project: Path) -> Iterator[Client]:
    """A client of the project's server."""
    home = project / ".runyard"
    client = Client(json.loads((home / "api.url").read_text())["url"], api_key_file=home / "admin.key")
    yield client
    client.close()


def submit(client: Client, agent: str, **args: object) -> str:
    return client.run(agent, args, wait=False).id


def output_of(client: Client, task_id: str) -> object:
    """What a run gave, once it has ended."""
    return client.wait(task_id, WITHIN).output


def test_saves_replace_the_code_and_a_run_under_way_ends_with_the_code_it_began_with(
    project: Path, dev: Launched, client: Client
) -> None:
    assert "#/enter/" in dev.output
    processes = set(children(dev.process.pid))
    under_way, asking = submit(client, "waits"), submit(client, "asks")
    dev.until(f"runyard tasks answer {asking}", WITHIN)
    dev.until(f"{under_way} │ waits in one", WITHIN)

    write(project, "two")
    dev.until("1 run goes on with the code that it began with", WITHIN)
    dev.until("✓ reloaded", WITHIN)
    dev.until(f"{asking} waits for @default/asks 1.0.0, which no code here declares", WITHIN)
    second = submit(client, "answers", fail=True)
    dev.until("LookupError: no such price", WITHIN)
    dev.until(f"{second} │ printed by two", WITHIN)
    dev.until(f"{second} │ shop: logged by two", WITHIN)
    dev.until('        raise LookupError("no such price")', WITHIN)
    assert "runyard_workers" not in dev.output, "frames of Runyard's are left out"

    write(project, "three", "import not_installed_anywhere\n")
    dev.until("the code from before goes on", WITHIN)
    line = len((project / "bots.py").read_text().splitlines())
    assert f'File "{project / "bots.py"}", line {line}, in <module>' in dev.output
    assert output_of(client, submit(client, "answers")) == "two"

    write(project, "dies", "import os\nos._exit(0)\n")
    dev.until("bots.py ended the process at import (exit code 0)", WITHIN)
    write(
        project,
        "four",
        ASKS.format("dict[str, str]")
        + '\n@agent("added")\nasync def added(ctx, args: dict) -> str:\n    return "four"\n',
    )
    dev.until("✓ reloaded: @default/added 1.0.0, @default/answers 1.0.0, @default/asks 1.0.0+", WITHIN)
    assert output_of(client, submit(client, "added")) == "four"

    (project / "open").touch()
    assert output_of(client, under_way) == {"first": "one", "last": "one"}
    kept = processes & set(children(dev.process.pid))
    assert len(processes - kept) <= 2, "a reload starts a worker, and nothing else"
    everything = children(dev.process.pid)
    code, _ = dev.end(signal.SIGINT)
    assert code == 0
    wait_until(lambda: not [pid for pid in everything if alive(pid)])
