"""What the clients return and raise: runs, events, questions as small frozen objects, refusals as exceptions.

ClientError
├── Refused        the server answered no: status, code, field, what to do
├── Unreachable    no answer for as long as the client's patience lasted
├── NotFinished    a run did not come to rest within the given time
└── RunFailed      the run ended without success (raised by Run.result() only)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

T = TypeVar("T")

_ENDED = frozenset({"completed", "failed", "stopped"})
_RUN = frozenset({"task_id", "agent", "version", "status", "created_at"})
_WAITING = frozenset({"waiting_for_input", "awaiting_review"})


class ClientError(Exception):
    """Something a client could not do."""


class Refused(ClientError):
    """The server refused. `code` is stable; `field` names the offending input; `retry_after` is in seconds."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = dict(problem)
        self.code = str(problem.get("code") or f"http_{status}")
        self.field: str | None = problem.get("field")
        self.retry_after: float | None = problem.get("retry_after")
        self.request_id: str | None = problem.get("request_id")
        super().__init__(str(problem.get("detail") or f"The server answered {status}."))


class Unreachable(ClientError):
    """The server did not answer; `__cause__` is the last transport error."""


class NotFinished(ClientError):
    """The run has not come to rest in time; it goes on. `run` is how it was seen last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__(f"Run {run.id} is still {run.status}; it goes on. Wait again with wait({run.id!r}).")


class RunFailed(ClientError):
    """The run failed or was stopped. `code` and `cause` are the server's."""

    def __init__(self, run: Run) -> None:
        error = run.error or {}
        self.run = run
        self.code: str = error.get("code") or run.status
        self.cause: str | None = error.get("cause")
        super().__init__(error.get("message") or f"Run {run.id} is {run.status}.")


@dataclass(frozen=True, slots=True)
class Question:
    """Something a run waits for: `kind` is question or review, `raw` all that the server has on it."""

    id: str
    kind: str
    run_id: str
    text: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Question:
        """From the native API's JSON."""
        return cls(raw["id"], raw["kind"], raw["task_id"], str(raw.get("text") or ""), raw)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the server sent it at some moment; `raw` is the whole answer. Times are RFC 3339 texts.

    A run of a list has no `output` or `error`: get it by its id for those.
    """

    id: str
    agent: str
    version: str
    status: str
    title: str | None
    session_id: str | None
    output: Any
    error: Mapping[str, Any] | None
    questions: tuple[Question, ...]
    created_at: str
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Run:
        """From the native API's JSON; `ClientError` where it is another's."""
        if not raw.keys() >= _RUN:
            raise ClientError(
                "What answers there is no Runyard server: the answer is no run. Check the server's URL."
            )
        asked = [*raw.get("questions", ()), *raw.get("reviews", ())]
        return cls(
            id=raw["task_id"],
            agent=raw["agent"],
            version=raw["version"],
            status=raw["status"],
            title=raw.get("title"),
            session_id=raw.get("session_id"),
            output=raw.get("output"),
            error=raw.get("error"),
            questions=tuple(Question.of(one) for one in asked),
            created_at=raw["created_at"],
            raw=raw,
        )

    @property
    def ended(self) -> bool:
        """Whether it is over, for ever."""
        return self.status in _ENDED

    @property
    def waits_for_people(self) -> bool:
        """Whether it waits for an answer or a decision."""
        return self.status in _WAITING

    @overload
    def result(self) -> Any: ...
    @overload
    def result(self, returns: type[T]) -> T: ...
    def result(self, returns: Any = ...) -> Any:
        """The output of a completed run; `RunFailed` for a failed or stopped one, `NotFinished` before the end.

        With `returns`, a type, as a value of it: a `ValueError` (`json_types.DoesNotFit`) where it is none, a
        `TypeError` for a type of which no value can be made from JSON. It needs the extra `typed`.
        """
        if self.status != "completed":
            raise RunFailed(self) if self.ended else NotFinished(self)
        if returns is ...:
            return self.output
        from runyard import json_types  # which imports pydantic

        return json_types.required(returns).restore(self.output)


@dataclass(frozen=True, slots=True)
class Event:
    """A fact in a run's log; `seq` numbers it from 1. A token delta has type token and no number (0)."""

    run_id: str
    seq: int
    type: str
    attempt: int
    data: Mapping[str, Any]
    at: str | None = None

    @property
    def text(self) -> str:
        """The text of a token delta or a message; otherwise empty."""
        return str(self.data.get("text") or "")

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Event:
        """From the native API's JSON: a numbered event, or the token deltas of a stream."""
        data = raw.get("data") or {}
        return cls(
            raw["task_id"], raw.get("seq", 0), raw.get("type", "token"), raw["attempt"], data, raw.get("at")
        )
