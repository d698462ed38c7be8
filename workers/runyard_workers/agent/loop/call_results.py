"""Results of a turn's calls on their way to the journal.

The next turn follows the last result at once and begins with a transaction: the results are in it. A result that
other calls of its turn outlast does not wait for them: it is written by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from runyard_common.runs.rules.journal import Step
from runyard_common.runs.service import steps
from runyard_workers.agent.events import Event
from runyard_workers.attempts.attempt import Attempt


class CallResults:
    """What calls have given that is not on record yet. Leaving its block waits until it is."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._under_way = 0
        self._unwritten: list[steps.End] = []
        self._writes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        if isinstance(error, asyncio.CancelledError):
            await asyncio.sleep(0)  # the writes are under way before that of how the attempt ends
        else:
            await self._written()

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call is under way inside: it may take long, and what others have given is written now."""
        self._write()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def add(self, step: Step, value: Any, events: Sequence[Event]) -> None:
        """Keep a result, of a call that has ended or is about to end."""
        end = self._attempt.ending(step, value, events=events)
        self._attempt.replay.remember(end.step, end.state, value)
        self._unwritten.append(end)
        if self._under_way > 1:
            self._write()

    async def pop(self) -> tuple[steps.End, ...]:
        """The results for the caller to write, once all others are written."""
        await self._written()
        unwritten, self._unwritten = tuple(self._unwritten), []
        return unwritten

    def _write(self) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for end in unwritten:
            self._writes.add(asyncio.create_task(self._attempt.write(steps.end, end)))

    async def _written(self) -> None:
        writes, self._writes = self._writes, set()
        await asyncio.gather(*writes)
