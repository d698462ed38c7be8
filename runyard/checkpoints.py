"""The part of a run's journal in which an agent library keeps its own state, to go on from after a crash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NoReturn

from runyard.turns import ModelTurn


@dataclass(frozen=True)
class CheckpointEntry:
    """One entry of a log: its number, from 1, and what its writer noted about it. The value is read on demand."""

    number: int
    about: Mapping[str, Any]


class PastCheckpoints(ABC):
    """The log of an earlier run: it can be read."""

    @property
    @abstractmethod
    def entries(self) -> Sequence[CheckpointEntry]:
        """What is on record, in order of writing."""

    @abstractmethod
    async def read(self, number: int) -> Any:
        """The value of an entry, in JSON form. It is not kept in memory."""


class CheckpointLog(PastCheckpoints):
    """The log of this run. Each entry is committed by itself, under the run's fence.

    A later attempt finds every entry again. Unlike steps, entries are not asked for in order: a library reads those
    that it needs to go on.
    """

    @abstractmethod
    async def write(
        self,
        about: Mapping[str, Any],
        value: Any,
        *,
        events: Sequence[tuple[str, Mapping[str, Any]]] = (),
        turns: Sequence[ModelTurn] = (),
    ) -> int:
        """Commit an entry with the events and the model turns that belong to it; its number.

        Of the turns the usage, the cost and the text are kept, not the value.

        Raises `AgentError` for a value without a JSON form or one that is too large.
        """

    @abstractmethod
    async def previous(self) -> PastCheckpoints | None:
        """The log of the last completed run of this agent in the session; None without one."""

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Whether the worker is asked to stop: the library leaves at its next checkpoint and calls `hand_over`."""

    @abstractmethod
    def hand_over(self) -> NoReturn:
        """Leave this worker; another one goes on from the last entry."""

    @abstractmethod
    def code_of(self, library: str) -> AbstractContextManager[None]:
        """Inside, code runs that the library does not run again once it has ended.

        Calls of the context are refused there: their results are found by the order of the calls.
        """
