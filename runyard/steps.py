"""The step that is running: what its code may ask about it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["StepInfo", "current_step"]


@dataclass(frozen=True)
class StepInfo:
    """The step whose code runs.

    `idempotency_key` is the same each time this step of this task runs, in every attempt, and no other step has it:
    69 characters, hexadecimal digits and hyphens.
    """

    name: str
    idempotency_key: str


_current: ContextVar[StepInfo] = ContextVar("runyard_current_step")


def current_step() -> StepInfo:
    """The step whose function calls this, in any of its tasks, and in threads that have its context variables.

    Raises `LookupError` outside of a step.
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError(
            "No step is running here. Call it in a function that ctx.step runs; a thread that the function starts by "
            "itself needs its context variables (contextvars.copy_context)."
        ) from None


def _known() -> StepInfo | None:
    return _current.get(None)


@contextmanager
def _running(step: StepInfo | None) -> Generator[None]:
    """Inside, the code of this step runs."""
    if step is None:
        yield
        return
    token = _current.set(step)
    try:
        yield
    finally:
        _current.reset(token)
