"""Structured logs: a sentence for people, an `action` key for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from runyard_common import tracing
from runyard_common.process import LOG_FORMAT, log_at_last
from runyard_common.values.addresses import masked


class TolerantStream:
    """A log's stream that never raises: a full disk or a closed pipe loses lines, not requests."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: Lines that could not be written.
        self.lost = 0

    def write(self, text: str) -> int:
        """Write, or count the loss."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self.lost += 1
            return len(text)

    def flush(self) -> None:
        """Flush, or count the loss."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def configure(level: str = "info", *, hosts_code: bool = False) -> None:
    """Send structlog and standard logging to standard error, as console lines or as JSON when not on a terminal.

    `hosts_code`, in a process that runs authors' code: the root logger stays as Python made it, so that their
    `basicConfig` counts. Until then warnings of others go to standard error, too.
    """
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    # sys.stderr itself, as libraries and Python's own last words write to it too.
    stream = sys.stderr if isinstance(sys.stderr, TolerantStream) else TolerantStream(sys.stderr)
    sys.stderr = cast("TextIO", stream)
    if hosts_code:
        if not isinstance(sys.stdout, TolerantStream):
            sys.stdout = cast("TextIO", TolerantStream(sys.stdout))  # a full disk ends no run that prints
        log_at_last(sys.stderr)
    else:
        logging.basicConfig(level=max(number, logging.WARNING), format=LOG_FORMAT)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_trace,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            _mask_passwords,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )


def _add_trace(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The ids of the span that the line was written in, where traces are recorded."""
    event.update(tracing.log_ids())
    return event


def _mask_passwords(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Drivers and libraries quote URLs in their errors; their passwords stay out of the log."""
    return {key: masked(value) if isinstance(value, str) else value for key, value in event.items()}
