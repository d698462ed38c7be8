"""The wheels of a release, built of a copy of the checkout, and virtualenvs that they are installed in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.stack import ROOT

_PIP: Final = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_UNWANTED: Final = (".*", "build", "dist", "docs", "tests", "*.egg-info", "__pycache__", "node_modules")


class Wheels(NamedTuple):
    """What `pip install runyard` brings of ours, and what an extra adds."""

    runyard: Path
    server: Path


def build(folder: Path) -> Wheels:
    """Build both, as `make wheels` does."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*_UNWANTED))
    # What an older checkout has built is in neither.
    old = source / "build" / "lib" / "runyard_api" / "old.py"
    old.parent.mkdir(parents=True)
    old.touch()
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*_PIP, "wheel", *options, source, source / "server"], check=True, timeout=300)
    (runyard,) = folder.glob("runyard-*.whl")
    (server,) = folder.glob("runyard_server-*.whl")
    return Wheels(runyard, server)


def virtualenv(folder: Path) -> Path:
    """A virtualenv with nothing in it, not even pip; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    """Where the packages of a virtualenv are."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return site


def install(python: Path, *arguments: str | Path) -> None:
    """Install exactly these wheels."""
    pip(python, "install", "--no-deps", "--no-index", *arguments)


def pip(python: Path, *arguments: str | Path) -> None:
    """This environment's pip, on a virtualenv."""
    subprocess.run([*_PIP, "--python", python, *arguments], check=True, timeout=300)
