"""The commands of README and docs run as they are printed, in order, page by page, on a live installation."""

from __future__ import annotations

import base64
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from runyard_common.identity.queries import identity, members, second_factors
from tests.contract.live import Live
from tests.fakes.model_server import reply
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
#: It serves in a terminal of its own: tests/acceptance/test_ten_minutes.py follows it.
OWN = "docs/ten-minutes.md"
#: Lines that begin so do not run here.
NOT_HERE = {
    "make ": "it installs and starts an installation, or runs this suite; tests/acceptance/test_up.py starts one",
    ".venv/bin/celery ": "they serve until they are stopped; a test of their own starts them",
    "pip install ": "what it installs is in this virtualenv already, and no index has runyard itself",
    "uv pip install ": "the same with another installer",
    "kubectl ": "there is no cluster here; tests/unit/launch/test_kubernetes.py checks what is applied",
    "sudo ": "it changes the machine; tests/acceptance/test_systemd.py runs what the units start",
    "docker compose ": "there is no container engine here; tests/acceptance/test_compose.py starts what the file has",
}
#: A command costs a second of CPU, more where others use the machine: seconds for the commands of a page, and for a
#: test with the start of its installation.
WITHIN, WITH_START = 250, 300
pytestmark = pytest.mark.timeout(WITH_START)
#: What the pages ask models, and what these answer here.
ASKED = {
    "What is 6 × 7?": "42",
    "How do I reset my password?": "By the link in the mail.",
    "What is the total?": "55.00",
}
#: Pages that change the installation itself: its admin key, its webhooks, whose it is.
CHANGING = ("docs/operations.md", "docs/callbacks.md", "docs/privacy.md")
COMMAND = re.compile(
    r"^\s*(\$ )?(\.venv/bin/)?(runyard|curl|docker|make|sh|celery|python3?|pip|export) \S", re.MULTILINE
)
#: `curl` that fails for a refusal, `runyard` of this environment, and a checkout's activation that changes nothing.
PRELUDE = """set -eu -o pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
"""
TEN_MINUTES = 600.0


def scripts(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page: str) -> str:
    """The page's commands, without those that cannot run here."""
    lines = "\n".join(scripts(page, "sh")).splitlines()
    return "\n".join(line for line in lines if not line.startswith(tuple(NOT_HERE)))


@pytest.fixture(scope="module")
def demonstrated(live: Live) -> Iterator[Live]:
    """The live server, with a model that answers what the pages ask, as long as this file's tests run."""
    forget = [live.model.when(question, reply(answer), forever=True) for question, answer in ASKED.items()]
    yield live
    for one in forget:
        one()


@pytest.fixture
def newcomer(demonstrated: Live, tmp_path: Path) -> Path:
    """A checkout's folder as `make run` leaves it: its virtualenv and its home."""
    live = demonstrated
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    program = tmp_path / ".venv/bin/runyard"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m runyard_launch.cli "$@"\n')
    celery = tmp_path / ".venv/bin/celery"
    celery.write_text(f'#!/bin/sh\nexec {sys.executable} -m celery "$@"\n')
    for script in (program, celery):
        script.chmod(0o755)
    live.home.chmod(0o700)
    (tmp_path / ".runyard").symlink_to(live.home)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """An installation of its own, for pages that change it: Ann has a second factor, Bob has none, and there is an
    organisation beside the operator's."""
    with Live(tmp_path_factory.mktemp("other")) as running:
        with running.store.begin() as tx:
            ann = members.insert_person(tx, "ann@example.com", "Ann", "kept")
            second_factors.put(tx, ann, b"sealed")
            members.insert_person(tx, "bob@example.com", "Bob", "kept")
            identity.insert_organisation(tx, "acme")
        yield running
        running.store.db.close()


def environ_of(live: Live, folder: Path) -> dict[str, str]:
    """What a reader of the pages has in the environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
    return kept | {
        "PATH": f"{folder / '.venv/bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "RUNYARD_PORT": str(live.ports["api-1"]),
        "RUNYARD_BROKER_URL": live.env["RUNYARD_BROKER_URL"],
    }


def follow(live: Live, folder: Path, text: str, program: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a page's text as its reader would; the server is on another port than on the page."""
    port = str(live.ports["api-1"])
    environ = environ_of(live, folder)
    for address in ("localhost:8000", "127.0.0.1:8000"):
        text = text.replace(address, f"127.0.0.1:{port}")
    return subprocess.run(
        program, input=text, env=environ, cwd=folder, capture_output=True, text=True, timeout=WITHIN
    )


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page) and page not in (*CHANGING, OWN)])
def test_the_commands_of_a_page_run_as_printed(page: str, live: Live, newcomer: Path) -> None:
    done = follow(live, newcomer, PRELUDE + commands(page), ["bash"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", CHANGING)
def test_the_commands_of_a_page_that_change_the_installation_run_as_printed(
    page: str, other: Live, newcomer: Path
) -> None:
    (newcomer / ".runyard").unlink()
    (newcomer / ".runyard").symlink_to(other.home)
    other.home.chmod(0o700)
    done = follow(other, newcomer, PRELUDE + commands(page), ["bash"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_celerys_own_commands_work_as_printed(live: Live, newcomer: Path) -> None:
    lines = "\n".join(scripts("docs/operations.md", "sh")).splitlines()
    worker, beat, ping = (line.split() for line in lines if line.startswith(".venv/bin/celery "))
    environ = environ_of(live, newcomer) | {"RUNYARD_REMOTE_CONTROL": "true"}
    began = [subprocess.Popen(command, env=environ, cwd=newcomer) for command in (worker, beat)]
    try:

        def answered() -> bool:
            asked = subprocess.run(
                ping, env=environ, cwd=newcomer, capture_output=True, text=True, timeout=60
            )
            return asked.returncode == 0 and "pong" in asked.stdout

        wait_until(answered, seconds=60, every=1)
        assert [process.poll() for process in began] == [None, None]
    finally:
        for process in began:
            process.terminate()
        ended = [process.wait(40) for process in began]
    assert ended == [0, 0]


def test_every_command_of_a_page_is_in_a_block_that_runs() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text()
        rest = re.sub(r"^```sh\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        blocks = re.findall(r"^```\w*\n(.*?)^```$", rest, re.DOTALL | re.MULTILINE)
        indented = re.findall(
            r"(?:^    .*\n)+", re.sub(r"^```.*?^```$", "", rest, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
        )
        for block in (*blocks, *indented):
            assert not COMMAND.search(block), f"{page}: put it into a ```sh block:\n{block}"


def test_the_list_of_what_cannot_run_here_has_nothing_that_no_page_prints() -> None:
    lines = [line for page in PAGES for block in scripts(page, "sh") for line in block.splitlines()]
    assert all(any(line.startswith(beginning) for line in lines) for beginning in NOT_HERE)


def test_the_check_of_a_signature_runs_as_printed() -> None:
    (block,) = scripts("docs/callbacks.md", "python")
    secret = "whsec_" + base64.b64encode(b"a secret of the endpoint").decode()
    now, body = datetime.now(UTC), '{"type": "run.completed"}'
    signed = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp()))}
    signed["webhook-signature"] = Webhook(secret).sign("evt_1", now, body)
    names: dict[str, Any] = {"request_body": body, "request_headers": signed}
    exec(block.replace("whsec_…", secret), names)
    assert names["event"] == {"type": "run.completed"}


def test_the_client_page_runs_as_printed_from_top_to_bottom(live: Live, newcomer: Path) -> None:
    text = "\n".join(scripts("docs/client.md", "python"))
    done = follow(live, newcomer, text + "\nclient.close()\n", [sys.executable, "-"])
    assert done.returncode == 0, done.stderr


def processor_seconds() -> float:
    """What the processes that this one has waited for have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_first_ten_minutes_are_eleven_commands_and_take_far_less(live: Live, newcomer: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## The first ten minutes")[2].partition("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0]
    commands = [line for line in block.splitlines() if line.strip()]
    assert len(commands) == 11
    before = processor_seconds()
    done = follow(live, newcomer, PRELUDE + block, ["bash"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert processor_seconds() - before < TEN_MINUTES / 10  # a busy machine is not slow
    assert '"cost_centre": "CC-4200"' in done.stdout
    assert "/console#/enter/" in done.stdout
