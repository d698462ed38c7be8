"""The context of an `async def` agent, over an attempt."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from common.domain import schemas
from common.domain.errors import RunyardError
from common.domain.lifecycle import Outcome
from common.services import incoming
from common.services.attempts import Asked
from runyard.context import Context, Effect, File, SessionInfo, TaskInfo
from runyard.context import Outcome as TimeoutOutcome
from runyard.errors import AgentError, ChildFailed, Rejected
from workers.attempt import Attempt, Ended, Suspended
from workers.children import Children

#: What siblings of a suspending call get to register themselves, in seconds.
_SIBLINGS = 0.02


class RunContext(Context):
    """See `runyard.Context`."""

    def __init__(
        self,
        attempt: Attempt,
        session: SessionInfo | None,
        files: Sequence[File],
        children: Children,
        emitted: int,
    ) -> None:
        self._attempt = attempt
        self._children = children
        self._emitted = emitted  # events an earlier attempt has reported: a replay does not report them again
        task = attempt.task
        given = task.input or {}
        self.task = TaskInfo(
            task.id,
            task.agent_name,
            task.version,
            task.attempt,
            given.get("message"),
            task.org_id,
            task.meta or {},
        )
        self.session = session
        self.files = files

    @property
    def deadline(self) -> float | None:
        """See `Context.deadline`."""
        return self._attempt.deadline

    @property
    def cancelled(self) -> bool:
        """See `Context.cancelled`."""
        expired = self._attempt.deadline is not None and time.time() > self._attempt.deadline
        return expired or self._attempt.ended_by is not None

    async def step(
        self,
        name: str,
        fn: Callable[..., Any | Awaitable[Any]],
        *args: Any,
        effect: Effect = "idempotent",
        **kwargs: Any,
    ) -> Any:
        """See `Context.step`."""
        call = functools.partial(fn, *args, **kwargs)

        async def work() -> Any:
            if inspect.iscoroutinefunction(fn):
                return await call()
            result = await self._attempt.run_blocking(call)
            return await result if inspect.isawaitable(result) else result

        detail = {"args": [repr(a)[:200] for a in args]} if effect == "irreversible" else None
        return await self._attempt.once(
            self._attempt.replay.key(name),
            "step",
            name,
            effect,
            work,
            detail=detail,
        )

    async def ask(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        schema: Mapping[str, Any] | None = None,
        options: Sequence[str] | None = None,
        timeout: float | None = None,
        on_timeout: TimeoutOutcome = "fail",
        default: Any = None,
    ) -> Any:
        """See `Context.ask`."""
        key = self._attempt.replay.key("ask")
        if isinstance(question, str):
            return await self._answered(
                [self._question(key, question, schema, options, timeout, on_timeout, default)]
            )
        asked = [
            self._question(
                f"{key}.{q['key']}",
                q["text"],
                q.get("schema"),
                q.get("options"),
                timeout,
                on_timeout,
                default,
            )
            for q in question
        ]
        answers = await self._answered(asked, several=True)
        return {q["key"]: answer for q, answer in zip(question, answers, strict=True)}

    @staticmethod
    def _question(
        key: str,
        text: str,
        schema: Mapping[str, Any] | None,
        options: Sequence[str] | None,
        timeout: float | None,
        on_timeout: str,
        default: Any,
    ) -> Asked:
        if options and schema is None:
            schema = {"enum": list(options)}
        payload: dict[str, Any] = {"text": text}
        payload |= {"schema": _usable(schema)} if schema else {}
        payload |= {"options": list(options)} if options else {}
        return Asked(key, "question", payload, timeout, {"outcome": on_timeout, "value": default})

    async def _answered(self, asked: list[Asked], several: bool = False) -> Any:
        self._attempt.check()
        answers = [self._attempt.answer(a.key) for a in asked]
        if any(answer is None for answer in answers):
            open_ = tuple(a for a, answer in zip(asked, answers, strict=True) if answer is None)
            await asyncio.sleep(_SIBLINGS)
            raise Suspended(Ended(Outcome.ASKED, asked=open_))
        values = [answer["answer"] for answer in answers if answer is not None]
        return values if several else values[0]

    async def review(
        self,
        action: str,
        arguments: Any = None,
        *,
        schema: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        on_timeout: TimeoutOutcome = "fail",
    ) -> Any:
        """See `Context.review`."""
        key = self._attempt.replay.key(f"review:{action}")
        self._attempt.check()
        decided = self._attempt.answer(key)
        if decided is None:
            payload = {"text": f"Approve: {action}", "action": action, "arguments": arguments}
            payload |= {"schema": _usable(schema)} if schema else {}
            await asyncio.sleep(_SIBLINGS)
            raise Suspended(
                Ended(
                    Outcome.NEEDS_REVIEW,
                    asked=(Asked(key, "review", payload, timeout, {"outcome": on_timeout}),),
                )
            )
        decision = decided["answer"]
        if decision["action"] == "reject":
            raise Rejected(decision["reason"] or f"{action} was rejected.", action=action)
        return decision["arguments"] if decision["action"] == "edit" else arguments

    async def run(self, agent: str, args: Any = None, *, message: str | None = None, **options: Any) -> Any:
        """See `Context.run`."""
        attempt = self._attempt
        key = attempt.replay.key(f"run:{agent}")
        entry = attempt.replay.recall(key, "child")
        if entry is not None:
            return _child_output(entry["value"])
        begun = attempt.replay.entry(key)
        if begun is None:
            child_id = await self._children.start(attempt, key, agent, args, message, options)
        else:
            child_id = begun["detail"]["task_id"]
            ended = await self._children.result(child_id)
            if ended is not None:
                await attempt.end(
                    key,
                    "child",
                    agent,
                    "idempotent",
                    ended,
                    begun=True,
                    detail={"task_id": child_id},
                )
                return _child_output(ended)
        await asyncio.sleep(_SIBLINGS)
        raise Suspended(Ended(Outcome.WAITING, child_id=child_id))

    async def emit(self, type: str, data: Any = None) -> None:
        """See `Context.emit`."""
        await self._report("custom", {"name": type, "data": data})

    async def progress(self, fraction: float, message: str = "") -> None:
        """See `Context.progress`."""
        await self._report("progress", {"fraction": max(0.0, min(1.0, float(fraction))), "message": message})

    async def log(self, message: str, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
        """See `Context.log`."""
        await self._report("log", {"level": level, "message": message})

    async def _report(self, type_: str, data: dict[str, Any]) -> None:
        if self._emitted > 0:
            self._emitted -= 1
            return
        await self._attempt.emit((type_, data))

    async def token(self, text: str) -> None:
        """See `Context.token`."""
        self._attempt.check()
        self._attempt.token({"text": text})

    async def messages(self) -> list[Any]:
        """See `Context.messages`."""
        attempt = self._attempt
        await attempt.ready()
        key = attempt.replay.key("messages")
        entry = attempt.replay.recall(key, "value")
        if entry is not None:
            return list(entry["value"])
        pos = attempt.replay.next_pos()
        found = await attempt.write(incoming.take, incoming.Take(attempt.task.id, attempt.fence, key, pos))
        attempt.replay.remember(key, "value", "read", None, None, "done", found, pos)
        return list(found)


def _usable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a question or a review; refused while the agent asks, as no answer could fit it."""
    try:
        schemas.check_schema(dict(schema))
    except RunyardError as refused:
        raise AgentError(refused.message, code=refused.code, field="schema") from None
    return dict(schema)


def _child_output(ended: dict[str, Any]) -> Any:
    if ended["status"] == "completed":
        return ended["output"]
    error = ended["error"] or {}
    raise ChildFailed(
        f"The child task {ended['task_id']} ended {ended['status']}: {error.get('message', '')}",
        task_id=ended["task_id"],
        status=ended["status"],
        error=error,
    )
