"""A launcher in a process of its own, its output, and the processes below it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_until

ROOT = Path(__file__).parents[1]
#: The last line of `runyard up`, once everything is up.
UP_LINE = "Ctrl-C stops everything"


class Launched:
    """A running supervisor: `command` started with its output in `log`."""

    def __init__(
        self, command: list[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self._log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(command, env=env, cwd=cwd, stdout=out, stderr=out)

    @property
    def output(self) -> str:
        """Everything it output so far."""
        return self._log.read_text()

    def until(self, wanted: str, seconds: float = 60.0) -> str:
        """Its output once `wanted` is in it; fails, with the output, if it ends first."""
        try:
            wait_until(
                lambda: wanted in self.output or self.process.poll() is not None, seconds=seconds, every=0.1
            )
        except AssertionError:
            pass
        assert wanted in self.output, f"no {wanted!r}:\n{self.output}"
        return self.output

    def end(self, number: signal.Signals | None = None, seconds: float = 120.0) -> tuple[int, str]:
        """Its exit code and all that it output, after the signal if there is one."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(seconds), self.output

    def stop(self) -> None:
        """End it in order, if it still runs."""
        if self.process.poll() is None:
            self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def up(log: Path, env: Mapping[str, str], *options: str) -> Iterator[Launched]:
    """`runyard up`, stopped at the end."""
    launched = Launched([sys.executable, "-m", "runyard_launch.cli", "up", *options], log, env)
    try:
        yield launched
    finally:
        launched.stop()


def refused(env: Mapping[str, str]) -> str:
    """The one sentence of a `runyard up` that cannot start."""
    command = [sys.executable, "-m", "runyard_launch.cli", "up"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    return done.stderr


def children(pid: int) -> list[int]:
    """Its child processes; a supervisor's have none of their own."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    """Its command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
