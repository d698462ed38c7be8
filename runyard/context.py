"""What a running agent holds: its task, its files, and the calls that make its work durable."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from runyard.awaited_calls import AwaitedCalls, Effect, OnNoAnswer, OnNoDecision
from runyard.blocking_calls import BlockingCalls
from runyard.checkpoints import CheckpointLog
from runyard.errors import AgentError
from runyard.gathered_calls import AwaitedGather, BlockingGather
from runyard.shields import BlockingShield, Shield
from runyard.state import BlockingState, State
from runyard.steps import current_step
from runyard.turns import ModelTurn

__all__ = [
    "BlockingContext",
    "Context",
    "Effect",
    "File",
    "OnNoAnswer",
    "OnNoDecision",
    "SessionInfo",
    "TaskInfo",
]


@dataclass(frozen=True)
class TaskInfo:
    """The task that is running. `attempt` counts claims from 1.

    `due_at` is the time of a schedule that it runs for, in epoch seconds: what it works on, where it runs late or was
    made up for. None without a schedule.
    """

    id: str
    agent: str
    version: str
    attempt: int
    message: str | None
    org_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    due_at: float | None = None


@dataclass(frozen=True)
class SessionInfo:
    """The conversation the task belongs to; `history` is earlier lines [{role, type, content}], oldest first."""

    id: str
    history: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class File:
    """An attached file. `size` is in bytes; `read()` returns its content."""

    id: str
    name: str
    media_type: str
    size: int
    read: Callable[[], bytes] = field(repr=False)


class _RunInfo(ABC):
    """What both kinds of context know."""

    def client(self, vendor: Literal["openai", "anthropic"], **options: Any) -> Any:
        """A client of the provider's own library whose calls of models are turns of this run.

        ``openai`` gives an `AsyncOpenAI` (in a plain `def` agent an `OpenAI`), ``anthropic`` an `AsyncAnthropic` (an
        `Anthropic`). `options` are those of that class. Base URL and key are the installation's where there are none.
        Each call is journaled, whole or streamed; the client raises the errors of its library, and one that the code
        does not handle is tried again by the run where that may help. Raises `ValueError` for another vendor.
        """
        clients = import_module("runyard.adapters.clients")
        return clients.client(self, vendor, options)

    def _provider(self, vendor: str) -> Mapping[str, str]:
        """The installation's `base_url` and `api_key` for a provider, where it has them."""
        return {}

    task: TaskInfo
    session: SessionInfo | None
    files: Sequence[File]

    if not TYPE_CHECKING:  # a type checker would take any name

        def __getattr__(self, name: str) -> Any:
            """Refuse a name that there is not, with one that is like it: Python itself has that in tracebacks only."""
            kind = Context if isinstance(self, Context) else BlockingContext
            known = {one for one in {*dir(kind), *_RunInfo.__annotations__} if not one.startswith("_")}
            near = difflib.get_close_matches(name, known, n=1)
            hint = f". Did you mean: {near[0]!r}?" if near else ""
            message = f"{kind.__name__!r} object has no attribute {name!r}{hint}"
            raise AttributeError(
                message, name=name, obj=None
            )  # no object: a traceback would have the hint again

    @property
    @abstractmethod
    def deadline(self) -> float | None:
        """When this attempt must have ended, in epoch seconds."""

    @property
    def idempotency_key(self) -> str:
        """That of the running step, `StepInfo.idempotency_key`. Raises `LookupError` outside of a step."""
        return current_step().idempotency_key

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """Whether the task was stopped, ran out of time, or is no longer this worker's."""

    @abstractmethod
    def heartbeat(self, within: float | None = None) -> None:
        """Raise `Cancelled` where the run was stopped, is out of time or no longer this worker's: for long blocking
        code, which nothing else can end. It is no coroutine, and may be called in a step's function, in any thread.

        With `within` the code names the seconds in which it calls again, or ends: else the attempt fails with
        ``heartbeat_missed``, and is tried again where the agent's `retries` leave an attempt. Without it none is
        awaited.
        """

    @property
    @abstractmethod
    def stopped(self) -> bool:
        """Whether the task was stopped or this attempt ran out of time: no other worker goes on with the attempt."""


class Context(_RunInfo, AwaitedCalls, AwaitedGather):
    """The context of an ``async def`` agent.

    A resumed function runs again from the top; journaled calls (`step`, `ask`, `review`, `run`) return their
    stored results. Keep everything that must not happen twice inside a `step`.
    """

    @abstractmethod
    async def model_turn(
        self,
        name: str,
        call: Callable[[], ModelTurn | Awaitable[ModelTurn]],
        *,
        agent: str | None = None,
        asked: str | None = None,
    ) -> Any:
        """Ask a model once across crashes: `call()` asks it, and the `value` of the turn it returns is the result.

        For loops of your own or of another library. The turn's journal entry, events, usage and cost are written in
        one transaction; a replay returns the value and asks no model. Before a turn that is not on record the run's
        budget, its organisation's balance and its limit of turns are checked. `agent` is whose turn the log shows,
        where that is not the run's agent. `asked` is a text of what is asked, such as the request: turns of one name
        that run side by side are found again by it, in whichever order they come. Without it they are found by their
        order.

        Raises `ProviderError` for a provider's failure that may pass, another `AgentError` for one that will not.
        """

    @abstractmethod
    async def tool_call(
        self,
        tool: str,
        arguments: Any,
        fn: Callable[[Any], Any],
        *,
        call_id: str,
        effect: Effect = "idempotent",
        review: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry out a call of a model once across crashes: `fn(arguments)`; its result in JSON form.

        `fn` may return a `ToolResult` to name the outcome. What it raises is journaled and raised again, as by `step`.
        `call_id` is the id that the model gave the call. With `review` a person approves, edits or rejects the
        arguments first (`schema` is theirs): edited ones are what `fn` gets, and a rejection raises `Rejected`. Steps
        and turns inside `fn` belong to the call: they are not asked for again once it has ended.
        """

    def checkpoint_log(self, name: str) -> CheckpointLog:
        """A log in this run's journal in which a library keeps its own state: for adapters of agent libraries.

        The second log of a name, in order of the calls, is another one. Raises `AgentError` where the agent's code runs
        in a thread or a process of its own.
        """
        raise AgentError(
            f"The adapter of {name} needs isolation='loop': its checkpoints are not kept from a thread or a process.",
            code="invalid_call",
        )

    @abstractmethod
    async def sleep(self, seconds: float | None = None, *, until: datetime | None = None) -> None:
        """Sleep for so many seconds, or until a moment (without a zone: UTC), ten years at most; the run holds no slot.

        A crash does not begin it again.
        """

    @abstractmethod
    async def wait_for_event(
        self, name: str, *, key: str | None = None, timeout: float | None = None, default: Any = ...
    ) -> Any:
        """Wait, holding nothing, for an event from outside (``POST /events``) of this name; its data.

        It is for this run if it was sent to the task, to its session, or to `key` (without one: to no key). One that
        came since the run was accepted counts, each once. After `timeout` seconds the run goes on with `default` if
        one is given, and else `EventTimeout` is raised.
        """

    @property
    def state(self) -> State:
        """Small values that the runs of the session share; those of the run alone where it has no session."""
        return State(self._state)

    @abstractmethod
    async def _state(self, op: str, name: str, value: Any) -> Any:
        """An access of `state`: {there, value?}."""

    def shield(self, seconds: float = 10.0) -> Shield:
        """``async with ctx.shield():`` lets a block end before the code is interrupted: by a cancellation, a time limit
        or a drain, not by a lost lease. After `seconds` (60 at most) it is interrupted all the same.

        The run's status does not wait for it. What the block awaits goes on; calls of the context raise `Cancelled`
        once the run is stopped, and so does the end of the block.
        """
        return Shield(self._shield, seconds)

    @abstractmethod
    async def _shield(self, on: bool, seconds: float) -> None:
        """The beginning or the end of a shield."""

    @abstractmethod
    async def secret(self, name: str) -> str:
        """The organisation's secret of this name, as it is now; no journal has it.

        It is taken out of what the run stores and logs afterwards, as far as it is found there unchanged: a step that
        returns it returns ``[redacted]``. Raises `AgentError` secret_not_found.
        """

    @abstractmethod
    async def emit(self, type: str, data: Any = None) -> None:
        """Report an event of the agent's own to the task's log and followers."""

    @abstractmethod
    async def progress(self, fraction: float, message: str = "") -> None:
        """Report how far the run is, from 0 to 1."""

    @abstractmethod
    async def log(self, message: str, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
        """Write a line into the task's log."""

    @abstractmethod
    async def token(self, text: str) -> None:
        """Stream a piece of the answer to live followers; it is not stored."""

    @abstractmethod
    async def messages(self) -> list[Any]:
        """Messages the user sent while the run was under way, since the last call."""


class BlockingContext(_RunInfo, BlockingCalls, BlockingGather):
    """The context of a plain ``def`` agent, which runs in a thread. The same calls, blocking."""

    @abstractmethod
    def model_turn(
        self, name: str, call: Callable[[], ModelTurn], *, agent: str | None = None, asked: str | None = None
    ) -> Any:
        """See `Context.model_turn`."""

    @abstractmethod
    def tool_call(
        self,
        tool: str,
        arguments: Any,
        fn: Callable[[Any], Any],
        *,
        call_id: str,
        effect: Effect = "idempotent",
        review: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `Context.tool_call`."""

    @abstractmethod
    def sleep(self, seconds: float | None = None, *, until: datetime | None = None) -> None:
        """See `Context.sleep`."""

    @abstractmethod
    def wait_for_event(
        self, name: str, *, key: str | None = None, timeout: float | None = None, default: Any = ...
    ) -> Any:
        """See `Context.wait_for_event`."""

    @property
    def state(self) -> BlockingState:
        """See `Context.state`."""
        return BlockingState(self._state)

    @abstractmethod
    def _state(self, op: str, name: str, value: Any) -> Any:
        """See `Context._state`."""

    def shield(self, seconds: float = 10.0) -> BlockingShield:
        """As `Context.shield`, ``with ctx.shield():``. It matters in a process: a thread is never interrupted."""
        return BlockingShield(self._shield, seconds)

    @abstractmethod
    def _shield(self, on: bool, seconds: float) -> None:
        """See `Context._shield`."""

    @abstractmethod
    def secret(self, name: str) -> str:
        """See `Context.secret`."""

    @abstractmethod
    def emit(self, type: str, data: Any = None) -> None:
        """See `Context.emit`."""

    @abstractmethod
    def progress(self, fraction: float, message: str = "") -> None:
        """See `Context.progress`."""

    @abstractmethod
    def log(self, message: str, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
        """See `Context.log`."""

    @abstractmethod
    def token(self, text: str) -> None:
        """See `Context.token`."""

    @abstractmethod
    def messages(self) -> list[Any]:
        """See `Context.messages`."""
