"""What code sees of a span, and the one that is none."""

from __future__ import annotations

from typing import Any, Final, Protocol


class Span(Protocol):
    """A span while it is open; entered, it is the current one."""

    def __enter__(self) -> Span:
        """Begin it."""

    def __exit__(self, *ended: Any) -> None:
        """End it; an exception is its error, unless it is how the engine ends a run's code."""

    def set(self, **attributes: Any) -> None:
        """Attributes, with `__` for the dots of their names; None leaves one out."""

    def fail(self, error_type: str) -> None:
        """It has failed: a stable code, never a message, which may quote a secret."""

    def wait(self) -> None:
        """Its end is not its result: the run waits, and goes on in another attempt."""

    def abandon(self) -> None:
        """It is not this process that writes it."""

    def event(self, name: str, at: float | None = None, **attributes: Any) -> None:
        """Something has happened in it, now or at `at` (epoch seconds)."""


class _NoSpan:
    __slots__ = ()

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *ended: Any) -> None:
        return None

    def set(self, **attributes: Any) -> None:
        return None

    def fail(self, error_type: str) -> None:
        return None

    def wait(self) -> None:
        return None

    def abandon(self) -> None:
        return None

    def event(self, name: str, at: float | None = None, **attributes: Any) -> None:
        return None


NO_SPAN: Final[Span] = _NoSpan()
