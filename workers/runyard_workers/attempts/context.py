"""The context of an `async def` agent, over an attempt."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

import structlog

from runyard import json_form, json_types
from runyard.awaited_calls import Effect, OnNoAnswer, OnNoDecision
from runyard.checkpoints import CheckpointLog
from runyard.context import File, SessionInfo, TaskInfo
from runyard.errors import AgentError, Rejected
from runyard.turns import ModelTurn
from runyard_common.runs.queries.events import IN_STEP
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.waits import Group
from runyard_common.runs.service.attempts import Asked
from runyard_common.sessions.service import incoming
from runyard_workers.agent_code import result_types, values
from runyard_workers.agent_code.exceptions import represented
from runyard_workers.agent_code.run_output import passing
from runyard_workers.attempts import compensation, gathering, questions, typed_results, user_code
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.checkpoints import RunCheckpoints, refuse_inside, reported_by
from runyard_workers.attempts.children import Children, child_output, child_request, child_step
from runyard_workers.attempts.replay import step_name
from runyard_workers.attempts.suspending import SuspendingContext, served, suspending
from runyard_workers.attempts.turns import Call, OwnLoops, Turns

logger = structlog.get_logger("runyard.agent")
EFFECTS: Final = ("read", "idempotent", "irreversible")
_NUMBERS: Final = {"debug": 10, "info": 20, "warn": 30, "error": 40}
LEVELS: Final = tuple(_NUMBERS)


class RunContext(SuspendingContext):
    """See `runyard.Context`."""

    def __init__(
        self,
        attempt: Attempt,
        session: SessionInfo | None,
        files: Sequence[File],
        children: Children,
        emitted: int,
        loops: OwnLoops | None = None,
    ) -> None:
        super().__init__(attempt, children)
        self._loops = loops
        self._turns: Turns | None = None  # made at the first one: most runs have none
        self._reported = 0
        emitted -= reported_by(attempt.claimed.journal)
        self._emitted = emitted  # events an earlier attempt has reported: a replay does not report them again
        task = attempt.task
        given = task.input or {}
        self.task = TaskInfo(
            task.id, task.agent_name, task.version, task.attempt, given.get("message"), task.org_id,
            task.meta or {}, given.get("due_at"),
        )  # fmt: skip
        self.session = session
        self.files = files

    @property
    def deadline(self) -> float | None:
        return self._attempt.deadline

    @property
    def cancelled(self) -> bool:
        left = self._attempt.seconds_left()
        return self._attempt.ended_by is not None or (left is not None and left < 0)

    @property
    def stopped(self) -> bool:
        left = self._attempt.seconds_left()
        return self._attempt.ended_by in ("cancel", "timeout") or (
            self._attempt.ended_by is None and left is not None and left < 0
        )

    def thread_waits(self) -> Any:
        """Inside, a thread of the agent's code does nothing but wait for one of these calls."""
        return self._attempt.siblings.outside()

    @property
    def leaving(self) -> bool:
        """Whether the engine wants this attempt to end."""
        return user_code.is_leaving(self._attempt)

    @suspending
    async def step(  # type: ignore[override] # mypy loses a TypeVarTuple in the comparison
        self,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        effect: Effect = "idempotent",
        returns: Any = ...,
        **kwargs: Any,
    ) -> Any:
        name = values.name(name, "ctx.step")
        call = f"ctx.step {values.shown(name)}"
        _refuse_no_function(fn, call)
        values.one_of(effect, EFFECTS, call, "effect")
        kind = json_types.of_result(fn) if returns is ... else result_types.named(returns, call)
        detail = {"args": [represented(a)[:200] for a in args]} if effect == "irreversible" else None
        siblings = self._attempt.siblings

        async def work() -> Any:
            with siblings.irreversible() if effect == "irreversible" else siblings.outside():
                return await user_code.call(self._attempt, fn, *args, **kwargs)

        step = Step(self._attempt.replay.key(name), "step", name, effect, detail)
        value = await self._attempt.once(step, work)
        return await typed_results.restored(self._attempt, kind, value, call, "invalid_result")

    @suspending
    async def ask(
        self,
        question: str | Sequence[Mapping[str, Any]],
        *,
        schema: Any = None,
        returns: Any = ...,
        options: Sequence[Any] | None = None,
        timeout: float | None = None,
        on_timeout: OnNoAnswer | None = None,
        default: Any = ...,
        key: str | None = None,
    ) -> Any:
        key = self._key("ask", key, "ctx.ask")
        waits = (timeout, on_timeout, default)
        if isinstance(question, str):
            call = f"ctx.ask {values.shown(question[:60])}"
            wanted, kind = result_types.schema_of(schema, returns, call)
            asks = {key: lambda: self._question(key, question, wanted, options, *waits)}
            self._compare_question(key, {"text": question})
            answer = (await self._answered(asks))[0]
            kind = result_types.of_answer(kind, answer, default)
            return await typed_results.restored(self._attempt, kind, answer, call, "invalid_answer")
        if not question:
            raise AgentError("ctx.ask: give a question, or a list of some.", code="invalid_question")
        several = [questions.one_of_several(one) for one in question]
        if len({q["key"] for q in several}) < len(several):
            raise AgentError("ctx.ask: every question needs a key of its own.", code="invalid_question")
        typed = [result_types.schema_of(q.get("schema"), ..., f"ctx.ask {q['key']!r}") for q in several]
        asks = {
            f"{key}.{q['key']}": functools.partial(
                self._question, f"{key}.{q['key']}", q["text"], wanted, q.get("options"), *waits
            )
            for q, (wanted, _) in zip(several, typed, strict=True)
        }
        for q in several:
            self._compare_question(f"{key}.{q['key']}", {"text": q["text"]})
        answers = await self._answered(asks)
        return {
            q["key"]: await typed_results.restored(
                self._attempt,
                result_types.of_answer(kind, answer, default),
                answer,
                f"ctx.ask {q['key']!r}",
                "invalid_answer",
            )
            for q, (_, kind), answer in zip(several, typed, answers, strict=True)
        }

    def _key(self, kind: str, given: str | None, call: str) -> str:
        """What an answer is found by: the key that the code gives, or the order of the calls."""
        if given is None:
            return self._attempt.replay.question_key(kind)
        key = values.name(given, call, "the key")
        if len(key) > questions.LONGEST_KEY:
            raise AgentError(
                f"{call}: the key {values.shown(key)} is longer than {questions.LONGEST_KEY} characters.",
                code="invalid_call",
                call=call,
            )
        return f"{kind.partition(':')[0]}={key}"

    def _question(
        self,
        key: str,
        text: str,
        schema: Any,
        options: Any,
        timeout: float | None,
        on_timeout: str | None,
        default: Any,
    ) -> Asked:
        given = default is not ...
        asked = questions.Question.of(text, schema, options, default if given else None, self._attempt.bounds)
        wait = values.seconds(timeout, asked.call, "timeout")
        outcome = {"outcome": questions.on_no_answer(on_timeout, given, asked.call), "value": asked.default}
        return Asked(key, "question", asked.payload, wait, outcome)

    async def _answered(self, asks: Mapping[str, Callable[[], Asked]]) -> list[Any]:
        """The answers by key, in order; what is not answered yet is asked, and the run suspended."""
        self._attempt.check()
        answers = {key: self._attempt.answer(key) for key in asks}
        open_ = tuple(asks[key]() for key, answer in answers.items() if answer is None)
        if open_:
            await self._suspend(Suspended.until(*open_))
        return [answer.answer for answer in answers.values() if answer is not None]

    @suspending
    async def review(
        self,
        action: str,
        arguments: Any = None,
        *,
        schema: Any = None,
        timeout: float | None = None,
        on_timeout: OnNoDecision = "fail",
        key: str | None = None,
    ) -> Any:
        action = values.name(action, "ctx.review", "the action")
        call = f"ctx.review {values.shown(action)}"
        key = self._key(f"review:{action}", key, call)
        self._attempt.check()
        arguments = values.event(arguments, call, self._attempt.bounds)
        schema, kind = result_types.schema_of(schema, ..., call)
        self._compare_question(key, {"action": action, "arguments": arguments})
        decided = self._attempt.answer(key)
        if decided is None:
            payload = {"text": f"Approve: {action}", "action": action, "arguments": arguments}
            if schema is not None:
                payload["schema"] = questions.usable(schema, call)
                questions.refuse_misfit(arguments, payload["schema"], call, "arguments", "invalid_review")
            values.one_of(on_timeout, ("fail", "reject"), call, "on_timeout")
            wait = values.seconds(timeout, call, "timeout")
            asked = Asked(key, "review", payload, wait, {"outcome": on_timeout})
            await self._suspend(Suspended.until(asked))
        decision = decided.answer
        if decision["action"] == "reject":
            raise Rejected(decision["reason"] or f"{action} was rejected.", action=action)
        approved = decision["arguments"] if decision["action"] == "edit" else arguments
        return await typed_results.restored(self._attempt, kind, approved, call, "invalid_answer")

    @suspending
    async def run(
        self,
        agent: Any,
        args: Any = None,
        *,
        returns: Any = ...,
        message: str | None = None,
        **options: Any,
    ) -> Any:
        name, child = result_types.named_agent(agent, "ctx.run")
        call = f"ctx.run {values.shown(name)}"
        kind = result_types.output_of(child, returns, call)
        options = result_types.bound_to(child, options)
        output = await self._child(name, args, message, options, call)
        return await typed_results.restored(self._attempt, kind, output, call, "invalid_result")

    async def _child(
        self, agent: str, args: Any, message: str | None, options: dict[str, Any], call: str
    ) -> Any:
        attempt = self._attempt
        args = values.arguments(args, call, attempt.bounds)
        message = None if message is None else values.text(message, call, "the message")
        wanted = child_request(values.given(options, f"{call}, options"), call)
        key = attempt.replay.key(f"run:{agent}")
        entry = await attempt.recall(key, "child")
        if entry is not None:
            return child_output(entry.value)
        begun = attempt.replay.entry(key)
        if begun is None:
            child_id = await self._children.start(attempt, key, agent, args, message, wanted)
        else:
            child_id = begun.detail["task_id"]
            ended = await self._children.result(child_id)
            if ended is not None:
                await attempt.end(child_step(key, agent, child_id), ended)
                return child_output(ended)
        group = gathering.group()
        waited = Group(children=(child_id,), name=group.name, urgent=group.urgent)
        return await self._suspend(Suspended.waiting(waited))

    @suspending
    async def model_turn(
        self,
        name: str,
        call: Callable[[], ModelTurn | Awaitable[ModelTurn]],
        *,
        agent: str | None = None,
        asked: str | None = None,
    ) -> Any:
        name = values.name(name, "ctx.model_turn")
        _refuse_no_function(call, f"ctx.model_turn {values.shown(name)}")
        return await self._own_turns().model_turn(name, call, agent, asked, self._suspend)

    @suspending
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
        tool = values.name(tool, "ctx.tool_call", "the tool")
        what = f"ctx.tool_call {values.shown(tool)}"
        _refuse_no_function(fn, what)
        values.one_of(effect, EFFECTS, what, "effect")
        call_id = values.name(call_id, what, "the call's id")
        if schema is not None:
            schema = questions.usable(schema, what)
        call = Call(tool, arguments, fn, call_id, effect, review, schema)
        return await self._own_turns().tool_call(call, self._suspend)

    def _own_turns(self) -> Turns:
        if self._turns is None:
            assert self._loops is not None, "this process has no model turns"
            self._turns = self._loops.turns(self._attempt)
        return self._turns

    def _provider(self, vendor: str) -> Mapping[str, str]:
        return {} if self._loops is None else self._loops.provider(vendor)

    def checkpoint_log(self, name: str) -> CheckpointLog:
        return RunCheckpoints(self._attempt, values.name(name, "ctx.checkpoint_log"), self._own_turns)

    @suspending
    async def on_failure(self, name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        name = values.name(name, "ctx.on_failure")
        _refuse_no_function(fn, f"ctx.on_failure {values.shown(name)}")

        async def call() -> Any:
            return await user_code.call(self._attempt, fn, *args, **kwargs)

        await compensation.register(self._attempt, name, call)

    async def emit(self, type: str, data: Any = None) -> None:
        name = values.text(type, "ctx.emit", "the type")
        call = f"ctx.emit {values.shown(name)}"
        data = values.event(data, call, self._attempt.bounds)
        await self._report("custom", {"name": name, "data": data}, call)

    async def progress(self, fraction: float, message: str = "") -> None:
        call = "ctx.progress"
        data = {"fraction": values.fraction(fraction, call), "message": self._line(message, call)}
        await self._report("progress", data, call)

    async def log(self, message: str, level: Literal["debug", "info", "warn", "error"] = "info") -> None:
        values.one_of(level, LEVELS, "ctx.log", "level")
        line = self._line(message, "ctx.log")
        if await self._report("log", {"level": level, "message": line}, "ctx.log"):
            with passing():  # the run has the line already
                logger.log(_NUMBERS[level], self._attempt.redact(line), action="log", agent=self.task.agent)

    def _line(self, message: Any, call: str) -> str:
        """A message as text: a value that is none is written as JSON."""
        found = values.event(message, call, self._attempt.bounds)
        return found if isinstance(found, str) else json_form.encode(found).decode()

    @served
    async def _report(self, type_: str, data: dict[str, Any], call: str) -> bool:
        refuse_inside(call)
        step = step_name()
        if step is not None:  # a finished step is not run again, and what one reports is no replay
            await self._attempt.emit((type_, {IN_STEP: step, **data}))
            return True
        self._reported += 1
        if self._reported > self._attempt.bounds.events:
            raise values.too_many_events(call, self._attempt.bounds)
        if self._reported <= self._emitted:
            return False
        await self._attempt.emit((type_, data))
        return True

    async def token(self, text: str) -> None:
        self._attempt.check()
        text = values.text(text, "ctx.token", "the token")
        self._attempt.token({"text": values.event(text, "ctx.token", self._attempt.bounds)})

    @served
    async def messages(self) -> list[Any]:
        refuse_inside("ctx.messages")
        attempt = self._attempt
        await attempt.ready()
        key = attempt.replay.key("messages")
        entry = await attempt.recall(key, "value")
        if entry is not None:
            return list(entry.value)
        step = attempt.placed(Step(key, "value", "messages", "read"))
        found = await attempt.write(
            incoming.read_messages, incoming.ReadMessages(attempt.task.id, attempt.fence, key, step.pos)
        )
        attempt.replay.remember(step, "done", found)
        return list(found)


def _refuse_no_function(fn: Any, call: str) -> None:
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        fn.close()
    raise AgentError(
        f"{call}: pass a function and its arguments, not the {type(fn).__name__} that calling it returned.",
        code="invalid_call",
        call=call,
    )
