"""Where an agent's code failed, as text for its author: frames of that code, then of what it calls. Never raises."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import importlib
import os
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import runyard
import runyard_common
import runyard_workers
from runyard_workers.agent_code.exceptions import one_line

#: Most characters of a traceback.
LONGEST: Final = 16_000
_LONGEST_LINE: Final = 300
_MOST_FRAMES: Final = 20  # at each end of a stack
_MOST_CAUSES: Final = 5
_MOST_INNER: Final = 5  # errors of a group
#: What lies between an agent's function and its steps, and means nothing to its author.
_OURS: Final = tuple(
    f"{Path(str(file)).resolve().parent}{os.sep}"
    for file in (
        runyard_workers.__file__, runyard.__file__, runyard_common.__file__,
        asyncio.__file__, concurrent.futures.__file__, importlib.__file__,
    )
)  # fmt: skip
_OUR_FILES: Final = tuple(str(Path(str(m.__file__)).resolve()) for m in (threading, contextvars))


def rendered(error: BaseException) -> str:
    """The traceback of `error` and of what it was raised from, the error itself first; empty without a frame of code
    that is not Runyard's. `LONGEST` characters at most."""
    try:
        text = "\n".join(_chain(error))
    except BaseException:  # noqa: BLE001 - attributes of an exception are its author's code
        return ""
    if "  File " not in text:
        return ""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}\n… (cut)"


def of_import(problem: BaseException) -> str:
    """Why a source of agents could not be imported, by the error that `problem` was raised from: for a line that Python
    cannot read its file, number and text. Empty where there is no more than the problem's own sentence."""
    error = problem.__cause__
    if error is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename:
        return "\n".join(_syntax(error))
    return rendered(error) or one_line(error)


def _syntax(error: SyntaxError) -> Iterator[str]:
    """As other tracebacks here: the error first. With frames, where another module of the author imports that file."""
    yield f"{type(error).__name__}: {error.msg}"
    libraries = False  # an import hook of one shows its frames, too
    for line in _frames(error.__traceback__):
        libraries = "site-packages" in line if line.startswith("  File ") else libraries
        if not libraries:
            yield line
    yield f'  File "{error.filename}", line {error.lineno}'
    if error.text:
        text = error.text.rstrip()
        yield f"    {text.lstrip()[:_LONGEST_LINE]}"
        at = (error.offset or 0) - 1 - (len(text) - len(text.lstrip()))
        if 0 <= at < _LONGEST_LINE:
            yield f"    {' ' * at}^"


def _chain(error: BaseException) -> Iterator[str]:
    seen: set[int] = set()
    label = ""
    for _ in range(_MOST_CAUSES + 1):
        seen.add(id(error))
        yield label + one_line(error)
        yield from _frames(error.__traceback__)
        if isinstance(error, BaseExceptionGroup):
            yield from _inner(error)
        before, label = _before(error)
        if before is None or id(before) in seen:
            return
        error = before


def _inner(group: BaseExceptionGroup[Any]) -> Iterator[str]:
    for number, error in enumerate(group.exceptions[:_MOST_INNER], 1):
        yield f"  {number}. {one_line(error)}"
        yield from (f"  {line}" for line in _frames(error.__traceback__))


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    if error.__cause__ is not None:
        return error.__cause__, "caused by "
    return (None if error.__suppress_context__ else error.__context__), "while handling "


def _frames(trace: TracebackType | None) -> Iterator[str]:
    kept = [
        (frame, line) for frame, line in traceback.walk_tb(trace) if not is_ours(frame.f_code.co_filename)
    ]
    left_out = len(kept) - 2 * _MOST_FRAMES
    if left_out > 0:
        kept = kept[:_MOST_FRAMES] + kept[-_MOST_FRAMES:]
    for number, one in enumerate(traceback.StackSummary.extract(iter(kept))):
        if left_out > 0 and number == _MOST_FRAMES:
            yield f"  … {left_out} more"
        yield f'  File "{one.filename}", line {one.lineno}, in {one.name}'
        if one.line:
            yield f"    {one.line[:_LONGEST_LINE]}"


def is_ours(file: str) -> bool:
    """Whether a file of a frame is Runyard's, or what runs code for it."""
    path = str(Path(file).resolve())
    return path.startswith(_OURS) or path in _OUR_FILES or file.startswith("<frozen ")
