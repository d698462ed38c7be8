"""The subjects of `bench_peers`: what each is, its virtualenv with pinned packages, and its running program."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Broken, parse
from tests.stack import PYTHONPATH, ROOT

VIRTUALENVS = ROOT / ".test" / "peers"
REQUIREMENTS = Path(__file__).parent / "peers" / "requirements"
#: Seconds until a report must be there; the program itself gives up earlier.
PATIENCE = 300


@dataclass(frozen=True)
class Subject:
    """A program of `tests/benchmarks/peers`; with `database` it gets one of its own on PostgreSQL."""

    name: str
    label: str
    program: str
    #: What is on disk before a submit returns.
    stores: str
    database: bool = False


SUBJECTS = (
    Subject("runyard-postgres", "Runyard, PostgreSQL", "runyard", "run, events, result", database=True),
    Subject("runyard-sqlite", "Runyard, SQLite", "runyard", "run, events, result"),
    Subject("celery", "Celery, threads, results", "celery_threads", "nothing"),
    Subject("plain", "Starlette + Celery", "handrolled_plain", "nothing"),
    Subject("durable", "Starlette + row + Celery", "handrolled_durable", "row", database=True),
    Subject("procrastinate", "procrastinate", "procrastinate", "job", database=True),
    Subject("saq", "saq", "saq", "nothing"),
    Subject("arq", "arq", "arq", "nothing"),
    Subject("dbos", "DBOS", "dbos", "workflow", database=True),
    Subject("taskiq", "taskiq, Redis streams", "taskiq", "nothing"),
    Subject("dramatiq", "dramatiq, threads", "dramatiq", "nothing"),
)


def python(program: str) -> Path:
    """The interpreter of a subject's program; makes its virtualenv where that is missing or out of step."""
    wanted = REQUIREMENTS / f"{program}.txt"
    if not wanted.exists():
        return Path(sys.executable)
    folder = VIRTUALENVS / program
    made, stamp = folder / "bin" / "python", folder / ".requirements"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"• Installing {program} into {folder.relative_to(ROOT)}", file=sys.stderr)
        uv = str(Path(sys.executable).with_name("uv"))
        env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1"}
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(made), "-r", str(wanted)],
        ):
            if subprocess.run(command, env=env).returncode:
                raise Broken(f"{program} could not be installed (see the lines above)")
        stamp.write_text(digest)
    return made


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


def started(subject: Subject, folder: Path, database_url: str, redis_url: str, slots: int) -> Program:
    """The program of a subject, which has started nothing yet."""
    command = [str(python(subject.program)), "-m", f"tests.benchmarks.peers.{subject.program}"]
    env = {"BENCH_DATABASE": database_url, "BENCH_REDIS": redis_url, "BENCH_SLOTS": str(slots)}
    return Program(command, folder, **env)
