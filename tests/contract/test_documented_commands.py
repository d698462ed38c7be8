"""The commands of README and docs run as they are printed, in order, page by page, on a live installation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.contract.live import Live

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md", "docs/agents.md", "docs/api.md", "docs/client.md", "docs/schedules.md", "docs/fronts/appstrate.md",
]  # fmt: skip
#: Blocks that are not for a running installation: they start or build one.
STARTS = ("make ", "docker compose", "sh deploy/")
#: `curl` that fails for a refusal, `runyard` of this environment, and a checkout's activation that changes nothing.
PRELUDE = """set -eu -o pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
"""
TEN_MINUTES = 600.0


def scripts(page: str, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if not block.startswith(STARTS)]


@pytest.fixture
def newcomer(live: Live, tmp_path: Path) -> Path:
    """A checkout's folder as `make run` leaves it: its virtualenv and its home."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    program = tmp_path / ".venv/bin/runyard"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m runyard_launch.cli "$@"\n')
    program.chmod(0o755)
    live.home.chmod(0o700)
    (tmp_path / ".runyard").symlink_to(live.home)
    return tmp_path


def follow(live: Live, folder: Path, text: str, program: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a page's text as its reader would; the server is on another port than the page says."""
    port = str(live.ports["api-1"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    environ = kept | {
        "PATH": f"{folder / '.venv/bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "RUNYARD_PORT": port,
        "RUNYARD_BROKER_URL": live.env["RUNYARD_BROKER_URL"],
    }
    for address in ("localhost:8000", "127.0.0.1:8000"):
        text = text.replace(address, f"127.0.0.1:{port}")
    return subprocess.run(
        program, input=text, env=environ, cwd=folder, capture_output=True, text=True, timeout=50
    )


@pytest.mark.parametrize("page", [page for page in PAGES if scripts(page, "sh")])
def test_the_commands_of_a_page_run_as_printed(page: str, live: Live, newcomer: Path) -> None:
    for text in (ROOT / page).read_text(), *scripts(page, "sh"):
        assert not re.search(r"^    (curl|runyard) ", text, re.MULTILINE), "put it into a ```sh block"
    done = follow(live, newcomer, PRELUDE + "\n".join(scripts(page, "sh")), ["bash"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_page_runs_as_printed_from_top_to_bottom(live: Live, newcomer: Path) -> None:
    text = "\n".join(scripts("docs/client.md", "python"))
    done = follow(live, newcomer, text + "\nclient.close()\n", [sys.executable, "-"])
    assert done.returncode == 0, done.stderr


def test_the_first_ten_minutes_are_eleven_commands_and_take_far_less(live: Live, newcomer: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## The first ten minutes")[2].partition("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0]
    commands = [line for line in block.splitlines() if line.strip()]
    assert len(commands) == 11
    began = time.monotonic()
    done = follow(live, newcomer, PRELUDE + block, ["bash"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < TEN_MINUTES / 10
    assert '"cost_centre": "CC-4200"' in done.stdout
    assert "/console#/enter/" in done.stdout
