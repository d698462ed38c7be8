"""One quarantine child process as its worker sees it: lines of JSON both ways, and a page of memory it marks."""

from __future__ import annotations

import asyncio
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog

from runyard_common.spawning import started
from runyard_workers.isolation.deaths import out_of_memory_kills

logger = structlog.get_logger("runyard.quarantine")

#: The page in which the child notes whose code it is in: a task id of up to `WIDTH` bytes for the loop, then one for
#: each of the threads in which agent code may run.
WIDTH: Final = 40
PLACES: Final = 64


class QuarantineProcess:
    """Started by its constructor, on the loop's thread. `send`, `kill` and `finish` may be called from any."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lease_seconds: float,
        on_message: Callable[[dict[str, Any]], None],
        on_death: Callable[[], None],
    ) -> None:
        """`on_message` and `on_death` are called on the loop."""
        self._loop = loop
        self._on_message = on_message
        self._on_death = on_death
        self._oom_before = out_of_memory_kills()
        self.out_of_memory = False
        self.status = 0  # the exit code once it is dead; a signal's number as a negative one
        page = os.memfd_create("runyard-quarantine") if hasattr(os, "memfd_create") else _file()
        os.ftruncate(page, WIDTH * PLACES)
        self._page = mmap.mmap(page, WIDTH * PLACES)
        read_end, write_end = os.pipe()
        # What agents print goes where the worker's output goes; the messages have a pipe of their own.
        argv = [
            sys.executable, "-P", "-m", "runyard_workers.quarantine.child",
            str(write_end), str(page), str(lease_seconds), str(os.getpid()),
        ]  # fmt: skip
        self._process = started(argv, bufsize=0, stdin=subprocess.PIPE, pass_fds=(write_end, page))
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)  # a child that does not read must not hold us up
        os.close(write_end)
        os.close(page)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, args=(read_end,), name="quarantine", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; a child that is gone, or does not read, gets none."""
        with self._lock:
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(orjson.dumps(message) + b"\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                pass

    def finish(self) -> None:
        """Let it end after what it is at."""
        self.send({"finish": True})

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def close(self) -> None:
        """Give up what it took, once it is dead."""
        with self._lock:
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._page.close()

    def executing(self) -> set[str]:
        """The runs whose code it was in when it ended."""
        places = (self._page[at : at + WIDTH] for at in range(0, WIDTH * PLACES, WIDTH))
        return {place.rstrip(b"\0").decode(errors="replace") for place in places} - {""}

    def _read(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as messages:
            for line in messages:
                try:
                    message = orjson.loads(line)
                except ValueError:
                    logger.warning(
                        "A quarantine process sent something that is not a message", action="quarantine"
                    )
                    continue
                self._call(self._on_message, message)
        self.status = self._process.wait()
        self.out_of_memory = self.status == -9 and out_of_memory_kills() > self._oom_before
        self._call(self._on_death)

    def _call(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            pass  # the loop is closed: the worker is at its end


def _file() -> int:
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
