"""The running program of a subject of `bench_peers`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.environments import python
from tests.benchmarks.figures import Broken, parse
from tests.benchmarks.subjects import Subject
from tests.stack import PYTHONPATH, ROOT

#: Seconds until a report must be there; the program itself gives up earlier.
PATIENCE = 300


@dataclass(frozen=True)
class Place:
    """Where a subject finds its servers, and its size."""

    folder: Path
    redis: str
    #: Its own database, and the same for what the load looks at.
    database: str = ""
    database_of_load: str = ""
    slots: int = 100
    workers: int = 1
    apis: int = 1


class Program:
    """The running program of a subject; leaving the context ends it with its processes."""

    def __init__(self, command: list[str], folder: Path, **env: str) -> None:
        folder.mkdir(parents=True)
        self._log = folder / "log"
        given = {"BENCH_FOLDER": str(folder), "BENCH_MARKS": str(folder / "marks"), "PYTHONPATH": PYTHONPATH}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNYARD_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=kept | given | env,
                cwd=ROOT,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its processes are its descendants."""
        return self._process.pid

    def report(self, do: str, **options: object) -> dict[str, Any]:
        """Have a command carried out."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **options}).encode() + b"\n")
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            return parse(self._process.stdout.readline() if ready else b"")
        except (Broken, BrokenPipeError) as error:
            log = self._log.read_text(errors="replace")[-3000:]
            raise Broken(f"{do}: {str(error) or 'its program ended'}\nIts log ends with:\n{log}") from None


def started(subject: Subject, place: Place) -> Program:
    """The program of a subject, which has started nothing yet."""
    command = [str(python(subject.environment)), "-m", f"tests.benchmarks.peers.{subject.program}"]
    return Program(
        command,
        place.folder,
        **dict(subject.options),
        BENCH_DATABASE=place.database,
        BENCH_DATABASE_OF_LOAD=place.database_of_load or place.database,
        BENCH_REDIS=place.redis,
        BENCH_SLOTS=str(min(place.slots, subject.slots or place.slots)),
        BENCH_WORKERS=str(place.workers),
        BENCH_APIS=str(place.apis),
    )
