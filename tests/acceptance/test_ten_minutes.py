"""docs/ten-minutes.md, as a reader follows it: its commands in order, from an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.launching import ROOT, Launched
from tests.stack import PYTHONPATH
from tests.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
PAGE = (ROOT / "docs/ten-minutes.md").read_text()
WITHIN = 120.0  # seconds, on a machine that is busy with other things
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


class Reader:
    """Follows the page in `folder`, with this environment's programs in place of a virtualenv's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dev: Launched | None = None
        programs = folder / ".bin"
        programs.mkdir()
        for name, module in (("runyard", "runyard_launch.cli"), ("pytest", "pytest")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -P -m {module} "$@"\n')
            (programs / name).chmod(0o755)
        kept = {key: text for key, text in os.environ.items() if not key.startswith(("RUNYARD_", "PYTEST_"))}
        self.env = kept | {
            "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": PYTHONPATH, "RUNYARD_PORT": "0",
            "RUNYARD_MODEL": "none", "RUNYARD_MODEL_BASE_URL": "http://127.0.0.1:9/v1",
        }  # fmt: skip

    def follow(self, line: str) -> str:
        """Do what a line is for; its output."""
        first, *words = shlex.split(line, comments=True)
        if line.startswith(("python -m venv ", ". .venv/")):
            return ""  # the programs are those of the tests' own
        if line.startswith("pip install "):
            self.check_requirements(words[1:])
            return ""
        if first == "docker":
            self.check_image()
            return ""
        if first == "cd":
            self.folder /= words[0]
            return ""
        if line == "runyard dev":
            self.dev = Launched(["runyard", "dev"], self.folder.parent / "dev.log", self.env, cwd=self.folder)
            return self.dev.until("Ctrl-C stops everything", WITHIN)
        before = self.reloads()
        done = self.shell(line)
        if first == "sed":
            wait_until(lambda: self.reloads() > before, seconds=WITHIN)
        return done

    def reloads(self) -> int:
        return self.dev.output.count("✓ reloaded") if self.dev is not None else 0

    def shell(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-eu", "-c", line],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def check_requirements(self, names: list[str]) -> None:
        """Runyard's extras are those that there are."""
        for requirement in map(Requirement, names):
            assert requirement.name in ("runyard", "pytest")
            assert requirement.extras <= EXTRAS.keys(), requirement

    def check_image(self) -> None:
        """There is no container engine here: what the Dockerfile copies is there, and what it installs can be built."""
        base = (ROOT / "deploy/Dockerfile").read_text()
        lines = [
            line.split(maxsplit=1) for line in (self.folder / "Dockerfile").read_text().splitlines()
            if line and not line.startswith("#")
        ]  # fmt: skip
        by_word = dict(lines)
        assert by_word["FROM"] == "runyard"
        assert f"image: {by_word['FROM']}\n" in (ROOT / "compose.yaml").read_text()
        assert [rest for word, rest in lines if word == "USER"] == ["root", "runyard"]
        assert "useradd" in base
        assert "USER runyard" in base
        assert 'ENTRYPOINT ["runyard"]' in base, "CMD is a command of it"
        assert by_word["CMD"] == '["worker"]'
        copied = {source for word, rest in lines if word == "COPY" for source in rest.split()[:-1]}
        assert all((self.folder / source).is_file() for source in copied)
        assert by_word["RUN"] == "pip install --no-cache-dir ."
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())
        modules = {f"{name}.py" for name in project["tool"]["setuptools"]["py-modules"]}
        assert copied == {"pyproject.toml"} | modules
        assert by_word["ENV"] == f"RUNYARD_AGENTS={Path(*modules).stem}"
        extra = project["project"]["optional-dependencies"]["dev"]
        self.check_requirements(extra)

    def end(self) -> None:
        if self.dev is not None:
            self.dev.stop()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.end()


def test_its_commands_lead_to_a_project_that_is_tested_served_and_in_an_image(reader: Reader) -> None:
    printed = {line: reader.follow(line) for line in commands()}
    assert "3 passed" in printed["pytest"]
    runs = [text for line, text in printed.items() if line.startswith("runyard run ")]
    assert '"text": "Thank you! 2.00 euros."' in runs[0]
    assert "accept a large order" in runs[1]
    assert "accept a large order" in printed["runyard tasks inbox"]
    assert reader.dev is not None
    assert "2 items" not in reader.dev.output
    assert "1 items, 2.00 in all" in reader.dev.output
    code, _ = reader.dev.end(signal.SIGINT)
    assert code == 0
    assert (reader.folder / ".env").read_text().startswith("# Settings")


def test_a_project_is_not_made_over_files_that_are_there(reader: Reader) -> None:
    (reader.folder / "shop").mkdir()
    (reader.folder / "shop/Dockerfile").write_text("mine")
    done = subprocess.run(
        ["runyard", "init", "shop"],
        env=reader.env,
        cwd=reader.folder,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.returncode == 2
    assert "shop has Dockerfile already" in done.stderr
    assert [path.name for path in (reader.folder / "shop").iterdir()] == ["Dockerfile"]
