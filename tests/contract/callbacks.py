"""A receiver of callbacks, and what it got."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.receiver import Received, read_log
from tests.ports import free_port
from tests.stack import ROOT


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """A receiver process; it writes what it gets to `posts` in the folder."""
    port = free_port()
    command = [sys.executable, "-m", "tests.fakes.receiver", str(port), str(folder / "posts")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield f"http://127.0.0.1:{port}/ok"
    finally:
        process.kill()
        process.communicate()


def complete(log: Path) -> list[Received]:
    """The posts, once the completion has come."""
    posts = read_log(log)
    return posts if posts and posts[-1].json["type"].startswith("run.") else []
