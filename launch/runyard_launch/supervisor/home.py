"""The home folder: what the launcher keeps there, and the lock that lets one launcher use it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runyard_launch.problems import StartProblem


@dataclass(frozen=True)
class Home:
    """An existing, writable home folder (absolute)."""

    path: Path

    @property
    def logs(self) -> Path:
        """One log file per child process."""
        return self.path / "logs"

    @property
    def admin_key(self) -> Path:
        """File of the first admin API key, written by the migrations."""
        return self.path / "admin.key"

    @property
    def sample_marker(self) -> Path:
        """File that is there once a sample run has completed: later starts show none."""
        return self.path / "sample.done"

    def log(self, name: str) -> Path:
        """Log file of the child `name`."""
        return self.logs / f"{name}.log"


def open_home(path: Path) -> Home:
    """Create the home if need be; `StartProblem` if it cannot be written."""
    home = Home(path.resolve())
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.logs.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=home.path):
            pass
    except OSError as error:
        raise StartProblem(
            f"The home folder {home.path} cannot be written ({error.strerror}). "
            "Set RUNYARD_HOME to a folder that can."
        ) from None
    return home


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the home for this process; `StartProblem` if another launcher holds it. Ends with the process."""
    with (home.path / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StartProblem(
                f"Another `runyard up` (process {lock.read().strip() or 'unknown'}) uses {home.path}. "
                "Stop it, or set RUNYARD_HOME and RUNYARD_PORT to start a second one."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
