"""What an agent prints and logs reaches its run: as events `log`, besides where its author's configuration sends it.

`install` once in a process makes `sys.stdout` and `sys.stderr` streams, and the loggers, look whose code writes. The
lines are stored in batches, before what the run stores next.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from typing import Any, Final, TextIO, cast

from runyard import json_form
from runyard_workers.agent_code.values import Bounds

Entry = tuple[str, dict[str, Any]]
#: Longest line, in characters; the rest is in the worker's log.
LONGEST_LINE: Final = 8_000
#: Lines stored in one write, and how long the first of them waits for others, in seconds.
_BATCH: Final = 200
_PAUSE: Final = 0.1
#: The size of a line without its text, in bytes of JSON.
_FRAME: Final = 512
_LEFT_OUT: Final = "Further lines are only in the worker's log: a run keeps {most} of them."

_OUTPUT: ContextVar[Lines | None] = ContextVar("runyard_output", default=None)
_passing: ContextVar[bool] = ContextVar("runyard_output_passing", default=False)


class Lines(ABC):
    """Where a run's lines go."""

    __slots__ = ("_closed",)

    def __init__(self) -> None:
        self._closed = False

    @abstractmethod
    def line(self, source: str, level: str, text: str, name: str | None = None) -> None:
        """Note one line; more than the run may have are left out. Called from any thread."""

    def attach(self) -> Token[Lines | None]:
        """What the caller does from here on, the asyncio tasks and threads it starts included, writes to this run."""
        return _OUTPUT.set(self)

    def end(self, token: Token[Lines | None]) -> None:
        """The run's code is over: what it has written without a line's end is a line, too. `token` is `attach`'s."""
        _OUTPUT.reset(token)
        self.finish()
        self.close()

    def finish(self) -> None:
        """What the code has written without a line's end is a line, too."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, RunStream):
                stream.finish(self)

    def close(self) -> None:
        """Accept no more lines."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether it accepts no more lines."""
        return self._closed


class RunOutput(Lines):
    """The lines of one attempt. `line` may be called from any thread, the rest belongs to the loop's."""

    __slots__ = (
        "_count", "_lines", "_lock", "_longest", "_loop", "_most", "_store", "_task", "_timer", "_writing",
    )  # fmt: skip

    def __init__(
        self, store: Callable[[tuple[Entry, ...]], Awaitable[Any]], bounds: Bounds, before: int = 0
    ) -> None:
        """`store` writes events; `before` is how many lines earlier attempts have left."""
        super().__init__()
        self._store = store
        self._longest = max(1, min(LONGEST_LINE, (bounds.event - _FRAME) // 6))  # \\u0000 takes six bytes
        self._most = bounds.events
        self._count = before
        self._lines: list[Entry] = []
        self._lock = threading.Lock()
        self._writing: asyncio.Lock | None = None  # made for the first line: most runs print nothing
        self._loop = asyncio.get_running_loop()
        self._timer = False

    @property
    def count(self) -> int:
        """Lines of this run so far, those of earlier attempts included."""
        return self._count

    @property
    def pending(self) -> bool:
        """Whether lines wait to be stored."""
        return bool(self._lines)

    def line(self, source: str, level: str, text: str, name: str | None = None) -> None:
        """See `Lines`."""
        if not text.strip() or self._closed:
            return
        with self._lock:
            if self._count > self._most:
                return
            self._count += 1
            if self._count > self._most:
                level, text, name = "warn", _LEFT_OUT.format(most=f"{self._most:,}"), None
            cut = text if len(text) <= self._longest else text[: self._longest - 1] + "…"
            data = {"source": source, "level": level, "message": json_form.name(cut)}
            self._lines.append(("log", data | ({"logger": name[:200]} if name else {})))
            begins, self._timer = not self._timer, True
        if begins:
            try:
                self._loop.call_soon_threadsafe(self._later, context=Context())
            except RuntimeError:
                pass  # the loop is closed: its process ends

    async def flush(self) -> None:
        """Store what waits, in order."""
        self._writing = self._writing or asyncio.Lock()
        async with self._writing:
            while self._lines:
                with self._lock:
                    batch = tuple(self._lines[:_BATCH])
                    del self._lines[:_BATCH]
                await self._store(batch)

    def _later(self) -> None:
        self._loop.call_later(_PAUSE, self._begin, context=Context())

    def _begin(self) -> None:
        self._timer = False
        if self._lines:
            self._task = self._loop.create_task(self._flush_quietly(), context=Context())

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except Exception as error:  # noqa: BLE001 - the run is another's, or over; its lines are in the worker's log
            import structlog  # where an agent's code runs in a process of its own, nothing else needs it

            structlog.get_logger("runyard.output").debug(
                "Lines of a run were not stored", action="output", error=str(error)[:200]
            )


class RunStream:
    """A standard stream that passes everything on, and notes the lines that a run's code writes."""

    def __init__(self, stream: TextIO, source: str, level: str) -> None:
        self._stream = stream
        self._source = source
        self._level = level
        self._begun: dict[tuple[int, int], str] = {}  # lines without their end, by run and thread

    def write(self, text: str) -> int:
        """Write, and note each line that ends."""
        output = None if _passing.get() else _current()
        if output is None or not isinstance(text, str):
            return self._stream.write(text)
        key = (id(output), threading.get_ident())
        *lines, rest = (self._begun.pop(key, "") + text).split("\n")
        for line in lines:
            output.line(self._source, self._level, line)
        if len(rest) > LONGEST_LINE:
            output.line(self._source, self._level, rest)
        elif rest and not output.closed:
            self._begun[key] = rest
        with passing():
            return self._stream.write(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream behind it."""
        self._stream.flush()

    def finish(self, output: Lines) -> None:
        """Note the lines that a run has begun and not ended."""
        if not self._begun:
            return
        for key in [key for key in list(self._begun) if key[0] == id(output)]:
            output.line(self._source, self._level, self._begun.pop(key, ""))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def passing() -> Generator[None]:
    """Inside, what is written or logged is no line of a run: it is the process's own."""
    token = _passing.set(True)
    try:
        yield
    finally:
        _passing.reset(token)


def _current() -> Lines | None:
    """The output of the run whose code is executed: its context has it, or the thread that it started."""
    found = _OUTPUT.get()
    return found if found is not None else getattr(threading.current_thread(), "_runyard_output", None)


def install() -> None:
    """Make this process's streams, loggers and threads look for runs. Calling it again does no harm."""
    if not isinstance(sys.stdout, RunStream):
        sys.stdout = cast("TextIO", RunStream(sys.stdout, "stdout", "info"))
    if not isinstance(sys.stderr, RunStream):
        sys.stderr = cast("TextIO", RunStream(sys.stderr, "stderr", "warn"))
    if logging.Logger.callHandlers is not _call_handlers:
        logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign]
        logging.Logger.isEnabledFor = _is_enabled_for  # type: ignore[method-assign]
        threading.Thread.start = _start  # type: ignore[method-assign]


# A handler on the root logger would be less than this: `basicConfig` and `dictConfig` of an author's do nothing next to
# one, or remove it, and a logger that does not propagate never reaches it.
_handlers: Final = logging.Logger.callHandlers
_enabled: Final = logging.Logger.isEnabledFor
_thread_start: Final = threading.Thread.start
_root_level: Final = logging.root.level


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    output = None if _passing.get() else _current()
    if output is None:
        _handlers(self, record)
        return
    output.line("logging", _level(record.levelno), _text(record), record.name)
    with passing():
        _handlers(self, record)


def _is_enabled_for(self: logging.Logger, level: int) -> bool:
    """A run's code logs from INFO on, unless its author has set a level."""
    if _enabled(self, level):
        return True
    if level < logging.INFO or self.disabled or self.manager.disable >= level or _current() is None:
        return False
    at: logging.Logger | None = self
    while at is not None and at is not logging.root:
        if at.level:
            return False
        at = at.parent
    return logging.root.level in (_root_level, logging.WARNING)


def _start(self: threading.Thread) -> None:
    """A thread that a run's code starts writes to that run. Those of executors serve many runs, and get contexts."""
    output = _OUTPUT.get()
    if output is not None and not _serves_many(self):
        self._runyard_output = output  # type: ignore[attr-defined]
    _thread_start(self)


def _serves_many(thread: threading.Thread) -> bool:
    module = str(getattr(getattr(thread, "_target", None), "__module__", ""))
    return module.startswith(("concurrent.", "runyard_", "celery.", "kombu.", "anyio."))


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
    except Exception:  # noqa: BLE001 - arguments that do not fit: the handlers report that
        text = str(record.msg)
    return text
