"""The previous release from the history of git: the last commit whose tables are one migration older."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from runyard_common.database import schema_version
from tests.stack import FOLDERS, ROOT

VERSIONS: Final = "common/runyard_common/database/migrations/versions"


class NoHistory(Exception):
    """The history here does not reach back to the previous release."""


def previous() -> str:
    """The commit. Raises `NoHistory`, whose text has what to do."""
    newest = schema_version.newest()
    assert newest is not None
    wanted = f"{int(newest) - 1:04d}"
    try:
        later = ""
        for commit in _git("log", "--format=%H", "--", VERSIONS).split():
            numbers = [
                Path(name).name[:4] for name in _git("ls-tree", "--name-only", commit, f"{VERSIONS}/").split()
            ]
            found = sorted(number for number in numbers if number.isdecimal())
            if found and found[-1] == wanted and len(found) == len(set(found)):
                return _git("rev-parse", f"{later}^").strip() if later else commit
            later = commit
    except (OSError, subprocess.CalledProcessError):
        pass
    raise NoHistory(
        f"No commit here has the tables of {wanted}: the release before cannot be built. Fetch the history "
        "(git fetch --unshallow), or name a commit (--previous)."
    )


def extract(commit: str, folder: Path) -> Path:
    """The files of a commit in a folder."""
    made = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def python_path(root: Path) -> str:
    """PYTHONPATH of processes that are to find a release's packages, in front of those that are installed."""
    return ":".join(str(root / folder) for folder in FOLDERS)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
