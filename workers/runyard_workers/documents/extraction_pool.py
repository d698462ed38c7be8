"""Child processes that read files, so that a hostile one costs a child, and never the worker.

Children are started when first needed and reused; one that was killed, died, holds on to much memory or
has served its turn is replaced. They inherit no secret of the worker's environment.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from runyard_common.spawning import started
from runyard_workers.documents import extraction_wire as wire
from runyard_workers.documents.extract import DEFAULT_LIMITS, check_size
from runyard_workers.documents.extraction import MIB, Extracted, ExtractionError, ExtractLimits

MEMORY_BYTES = 1024 * MIB
FILES_PER_CHILD = 200
_KILL_AFTER_SECONDS = 3.0  # beyond the limit: the child's own clock rings before
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


class ExtractionPool:
    """Reads files in at most `processes` children at once; callable from any thread, blocking."""

    def __init__(self, processes: int = 2, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        self._processes = processes
        for _ in range(processes):
            self._slots.put(None)

    def extract(
        self, data: bytes, name: str, limits: ExtractLimits = DEFAULT_LIMITS, *, claimed_type: str = ""
    ) -> Extracted:
        """As `runyard_workers.documents.extract.extract`; its time counts from when a child is free.

        Beyond its errors: ``extraction_timeout`` when the child had to be killed, ``extraction_crashed`` when
        it died of the file.
        """
        check_size(data, name, limits)
        child = self._slots.get()
        try:
            if child and not child.alive:
                child.close()
                child = None
            child = child or _Child(self._memory_bytes)
            return child.extract(data, name, limits, claimed_type)
        finally:
            if child and (child.last_served or child.served >= FILES_PER_CHILD):
                child.close()
                child = None
            self._slots.put(child)

    def close(self) -> None:
        """End the children, once each has finished the file it is at."""
        for _ in range(self._processes):
            if child := self._slots.get():
                child.close()
        for _ in range(self._processes):
            self._slots.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Child:
    """One child process; used by one thread at a time."""

    def __init__(self, memory_bytes: int) -> None:
        self.served = 0
        self.last_served = False
        self._expired = False
        self._process = started(
            [sys.executable, "-P", "-m", "runyard_workers.documents.extraction_child", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def extract(self, data: bytes, name: str, limits: ExtractLimits, claimed_type: str) -> Extracted:
        self.served += 1
        watchdog = threading.Timer(limits.seconds + _KILL_AFTER_SECONDS, self._expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            header, body = self._ask(wire.request(data, name, limits, claimed_type))
        except (EOFError, OSError, ValueError):
            raise self._death(name, limits) from None
        finally:
            watchdog.cancel()
        self.last_served = header.get("last", False)
        return wire.answer(header, body)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass
        self._process.stdout.close()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _expire(self) -> None:
        self._expired = True
        self._process.kill()

    def _ask(self, message: wire.Message) -> wire.Message:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wire.write(self._process.stdin, *message)  # type: ignore[arg-type]
        return wire.read(self._process.stdout)  # type: ignore[arg-type]

    def _death(self, name: str, limits: ExtractLimits) -> ExtractionError:
        """What the end of the child means for the file; a child that sends nonsense is ended."""
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._expired or status == -signal.SIGALRM:
            problem = f"reading it took longer than {limits.seconds:g} s"
            return ExtractionError("extraction_timeout", name, problem)
        return ExtractionError("extraction_crashed", name, "the program that reads such files broke on it")


def _environment() -> dict[str, str]:
    """What a child needs to run, and none of the keys and passwords a worker is configured with."""
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return environment
