"""The journal's seam in the library: every model turn and every tool result passes here, and is done once.

A resumed conversation begins at the request of its last turn on record: that turn's response comes from the
journal instead of the model, and of the calls it made, those that ended come from the journal too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import CallDeferred, ToolFailed, ToolFailedError, ToolRetryError
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.tools import ToolDefinition

from runyard.errors import Rejected
from runyard_common.runs.rules.journal import JournalEntry, Step
from runyard_common.runs.service.attempts import Asked
from runyard_common.tracing.span import Span
from runyard_workers.agent import events
from runyard_workers.agent.loop import results
from runyard_workers.agent.loop.messages import arguments_of, refusals, with_unique_call_ids
from runyard_workers.agent.loop.provider_errors import cut_off, translate, truncated
from runyard_workers.agent.loop.responses import (
    as_output_call,
    events_of,
    is_blank,
    stored,
    tool_calls_of,
    usage_of,
)
from runyard_workers.agent.loop.responses import cut_off as is_cut
from runyard_workers.agent.loop.session import ModelSession
from runyard_workers.agent.tools import Tool, Waits
from runyard_workers.agent.turns import decision_on, review_of_call
from runyard_workers.attempts import spans


class Journal(AbstractCapability[Any]):
    """Journals the turns and calls of one session."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session
        self._results = session.results
        self.live = False  # whether the turn under way comes from the model
        self.blank = False  # whether the last response had neither text nor calls
        self._acting: ModelResponse | None = None  # the response whose calls are under way

    def get_ordering(self) -> CapabilityOrdering:
        """Outside everything else: what is on record is what came out of it all."""
        return CapabilityOrdering(position="outermost")

    # -- model turns ---------------------------------------------------------------------------------------

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: Any, handler: Any
    ) -> ModelResponse:
        """Answer from the journal, or ask the model and put its answer on record."""
        session = self._session
        pending = session.transcript.pop_pending()
        self.live = pending is None
        if pending is not None:
            await self._forget_gone(pending)
            return self._judged(pending)
        self.close_refused(ctx.messages)
        texts, balance = await session.start_turn()
        for text in texts:
            ctx.enqueue(text)
        with spans.of_turn(session.attempt.task, session.model.name, session.agent.name) as span:
            response = await self._turn(ctx, request_context, handler, balance, span)
        return self._judged(response)

    async def _turn(
        self,
        ctx: RunContext[Any],
        request_context: Any,
        handler: Any,
        balance: int | None,
        span: Span,
    ) -> ModelResponse:
        """Ask the model, and put its answer on record."""
        session = self._session
        began = time.monotonic()
        response = await self._ask(request_context, handler)
        await self._forget_gone(response)
        used = usage_of(response, session.model.name, session.run.prices)
        more = {
            "balance_micros": None if balance is None else balance - used.cost_micros,
            "finish_reason": response.finish_reason,
            "seconds": round(time.monotonic() - began, 3),
        }
        turn = session.transcript.turn + 1
        logged = session.scoped(
            *events_of(response, turn, session), events.model_turn(turn, session.agent.name, used, more)
        )
        await session.transcript.record(
            ctx.messages, response, agent=session.agent.name, turn=used, events=logged, silent=session.silent
        )
        spans.answered(span, used, response.finish_reason, turn)
        return response

    async def _forget_gone(self, response: ModelResponse) -> None:
        """A hand-off to an agent that is there no more is none: it ends as the call of an unknown tool does."""
        session = self._session
        for part in response.parts:
            if not isinstance(part, ToolCallPart) or part.tool_name not in session.transfers:
                continue
            if not await session.run.can_transfer_to(session.transfers[part.tool_name]):
                del session.transfers[part.tool_name]

    def _judged(self, response: ModelResponse) -> ModelResponse:
        """The response to act on; `ModelRefused` for one that the limit of tokens made useless.

        It is on record by then, and paid for. Asked again under the same limit the model is cut off again.
        """
        self._acting = response
        self.blank = is_blank(response)
        if is_cut(response, self._session.contract):
            raise truncated(self._session.agent.max_tokens)
        return response

    async def _ask(self, request_context: Any, handler: Any) -> ModelResponse:
        try:
            response: ModelResponse = await handler(request_context)
        except Exception as error:
            failure = translate(error)
            if failure is None:
                raise
            raise failure from error
        if self._session.streaming and self._session.model.reports_end and not _ended(response):
            raise cut_off(response.model_name or self._session.model.name)
        response = as_output_call(stored(response), self._session.contract)
        return with_unique_call_ids(response)

    # -- tool calls ----------------------------------------------------------------------------------------

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Any,
    ) -> Any:
        """Answer from the journal, or wait for a person, or call and put the result on record."""
        with self._results.call():
            return await self._answer(call, args, handler)

    async def _answer(self, call: ToolCallPart, args: dict[str, Any], handler: Any) -> Any:
        session = self._session
        await session.attempt.ready()
        tool = session.toolbox.get(call.tool_name)
        assert tool is not None
        key = session.transcript.tool_key(call.tool_call_id)
        entry = await session.attempt.recorded(key)
        if entry is not None and entry.state == "done":
            return results.unpack(entry.value)
        try:
            if entry is not None and entry.effect == "irreversible":
                raise Waits(_unknown_outcome(session, key, tool, entry))
            args = self._approved(tool, key, args)
        except Waits as waits:
            session.wait(waits)
            raise CallDeferred(kind="question") from None
        except Rejected as rejection:
            step = Step(key, "tool", tool.name, tool.effect, args)
            await self._end(step, call, results.failed(rejection.message), "rejected", 0.0)
            raise ToolFailed(rejection.message) from None
        return await self._execute(Step(key, "tool", tool.name, tool.effect, args), call, args, handler)

    def close_refused(self, messages: Sequence[ModelMessage], otherwise: str | None = None) -> None:
        """Put calls on record that never reached a tool: refused for their arguments or their tool's name, or passed
        over. `messages` has what the model was given for a result; without it, `otherwise` is the result."""
        attempt, transcript = self._session.attempt, self._session.transcript
        given = refusals(messages)
        for part in tool_calls_of(self._acting, self._session) if self._acting is not None else ():
            key, text = transcript.tool_key(part.tool_call_id), given.get(part.tool_call_id, otherwise)
            if text is None or attempt.replay.entry(key) is not None:
                continue
            value = results.retried(text)
            logged = events.tool_result(
                transcript.turn, part.tool_call_id, part.tool_name, "failed", text, 0.0
            )
            step = Step(key, "tool", part.tool_name, "read", arguments_of(part))
            self._results.add(step, value, self._session.scoped(logged))

    async def _execute(self, step: Step, call: ToolCallPart, args: dict[str, Any], handler: Any) -> Any:
        attempt = self._session.attempt
        step = attempt.placed(step)
        if step.effect == "irreversible":
            await attempt.begin(step)
        with spans.of_step(attempt.task, step, attempt.redact) as span:
            span.set(gen_ai__tool__call__id=call.tool_call_id)
            value, status, seconds = await self._called(step, args, handler, span)
            await self._end(step, call, value, status, seconds)
        return results.unpack(value)

    async def _called(
        self, step: Step, args: dict[str, Any], handler: Any, span: Span
    ) -> tuple[dict[str, Any], str, float]:
        """What the tool gives, whether that is a failure, and the seconds that it took."""
        began = time.monotonic()
        try:
            value, status = results.pack(await handler(args), step.name), "ok"
        except CallDeferred:
            span.wait()
            raise
        except results.NoJsonForm as error:
            value, status = results.failed(str(error)), "failed"
        except ToolFailedError as error:
            value, status = results.failed(str(error.tool_failed.content)), "failed"
        except ToolRetryError as error:
            value, status = results.retried(str(error.tool_retry.content)), "failed"
        if status == "failed":
            span.fail("tool_failed")
        return value, status, time.monotonic() - began

    async def _end(
        self, step: Step, call: ToolCallPart, value: dict[str, Any], status: str, seconds: float
    ) -> None:
        turn = self._session.transcript.turn
        logged = events.tool_result(turn, call.tool_call_id, step.name, status, value["content"], seconds)
        if step.effect == "irreversible":  # until it is on record, a crash leaves it to an operator
            await self._session.attempt.end(step, value, events=self._session.scoped(logged))
        else:
            self._results.add(step, value, self._session.scoped(logged))

    def _approved(self, tool: Tool, key: str, args: dict[str, Any]) -> dict[str, Any]:
        """The arguments to call with: a reviewed tool's as a person approved or edited them."""
        if not tool.review:
            return args
        session, review = self._session, f"review:{key}"
        decided = session.attempt.answer(review)
        if decided is None:
            turn = session.transcript.turn
            raise Waits(review_of_call(review, tool.name, args, tool.parameters, turn))
        return dict(decision_on(decided, args))


def _ended(response: ModelResponse) -> bool:
    """Whether the provider sent a finish reason; the library itself accepts a cut stream as a whole answer."""
    return bool((response.provider_details or {}).get("finish_reason"))


def _unknown_outcome(session: ModelSession, key: str, tool: Tool, entry: JournalEntry) -> Asked:
    payload = {
        "kind": "unknown_outcome",
        "action": tool.name,
        "step": key,
        "arguments": entry.detail,
        "text": f"The worker was lost while {tool.name} was under way. It is not known whether it took effect: redo "
        "it, skip it with a given result, or fail the run.",
        "decisions": ["redo", "skip", "fail"],
        "turn": session.transcript.turn,
    }
    return Asked(f"{key}!{session.attempt.number}", "review", payload)
