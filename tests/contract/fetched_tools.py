"""Tools that are no dependency of the tests: fetched at fixed versions on first use, and kept in .test/."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

_KEPT = Path(__file__).parents[2] / ".test"
_ENVIRONMENT = {
    "NO_COLOR": "1",
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
}


def from_npm(name: str, packages: Mapping[str, str]) -> Path:
    """The folder with these packages, by their versions, in node_modules."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail("Node.js with npm is needed: install nodejs and npm.", pytrace=False)
    folder, wanted = _KEPT / name, sorted(f"{package}@{version}" for package, version in packages.items())
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--fetch-retries=1"]
    with _fetching(folder, wanted) as missing:
        if missing:
            shutil.rmtree(folder / "node_modules", ignore_errors=True)
            _fetch(["npm", "install", "--prefix", str(folder), *options, *wanted])
    return folder


def from_pypi(name: str, package: str, version: str) -> Path:
    """The folder of a virtualenv with this package."""
    folder, wanted = _KEPT / name, f"{package}=={version}"
    with _fetching(folder, [wanted]) as missing:
        if missing:
            _fetch([sys.executable, "-m", "venv", "--clear", str(folder / "venv")])
            _fetch([str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", wanted])
    return folder / "venv"


def run(command: list[str], folder: Path) -> str:
    """What the command writes; a failure of the test with all of it, unless it ends with 0."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | _ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@contextmanager
def _fetching(folder: Path, wanted: list[str]) -> Iterator[bool]:
    """Whether these are yet to be fetched; one process at a time, and done once it leaves without an error."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp, text = folder / ".fetched", "\n".join(wanted)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = not stamp.exists() or stamp.read_text() != text
        yield missing
        if missing:
            stamp.write_text(text)


def _fetch(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        error = (done.stderr or done.stdout)[-500:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        error = "no answer within 240 s"
    if error:
        pytest.fail(
            f"A tool of the tests could not be fetched: `{' '.join(command)}`: {error}", pytrace=False
        )
