"""Model turns and tool calls of agents whose loop is their own: `Context.model_turn` and `Context.tool_call`.

Journal, events, usage, prices, budget and balance are those of declared agents.
"""

from __future__ import annotations

import importlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2s
from typing import Any, Final

from runyard.errors import AgentError, Rejected
from runyard.turns import ModelTurn, ToolCall, ToolResult
from runyard_common import tracing
from runyard_common.agents.service.model_choice import KEYS, local_url
from runyard_common.human_tasks.rules import Question
from runyard_common.runs.rules.journal import ASKED, TOGETHER, Step
from runyard_common.runs.service.attempts import Asked
from runyard_common.settings import Settings
from runyard_common.usage.queries import ModelTurn as Used
from runyard_common.usage.service import EndTurn, StartTurn, TurnStart, end_turn, start_turn
from runyard_workers.agent import events, prices
from runyard_workers.agent.budget import Budget, micros
from runyard_workers.agent.failures import LimitReached
from runyard_workers.agent.plan import MOST_TURNS
from runyard_workers.agent.prices import PriceList, Tokens
from runyard_workers.agent_code import values
from runyard_workers.agent_code.exceptions import Described, represented, within
from runyard_workers.agent_code.raised import describe
from runyard_workers.attempts import spans, user_code
from runyard_workers.attempts.attempt import Attempt, Suspended
from runyard_workers.attempts.replay import UNORDERED, inside
from runyard_workers.attempts.turns import Call, Counted, Suspend
from runyard_workers.isolation.threads import in_engine_thread

#: The source of the tools of an agent with a loop of its own.
SOURCE: Final = "code"
_LONGEST_ID: Final = 80
_LONGEST_MODEL_NAME: Final = 128
#: In an entry's detail: the turn's number, and the ids of the calls that it made.
_TURN, _CALLS = "turn", "calls"


class OwnLoops:
    """See `attempts.turns.OwnLoops`."""

    def __init__(self, settings: Settings) -> None:
        """Raises `ConfigurationError` for a price list that cannot be read."""
        self._settings = settings
        self._prices = PriceList(settings.model_prices)

    def turns(self, attempt: Attempt) -> Turns:
        """What journals the turns of this attempt."""
        return Turns(self._prices, attempt)

    def provider(self, vendor: str) -> Mapping[str, str]:
        """Where a provider is asked, and with which key."""
        settings = self._settings
        if vendor == "anthropic":
            return {"base_url": settings.anthropic_base_url}
        if settings.model_base_url:
            return {"base_url": settings.model_base_url, "api_key": settings.model_api_key}
        if any(os.environ.get(name) for name in KEYS.get(vendor, ())):
            return {}
        try:
            return {"base_url": local_url(settings.home), "api_key": "local"}
        except OSError:
            return {}


class Turns:
    """The turns and calls of one attempt."""

    def __init__(self, price_list: PriceList, attempt: Attempt) -> None:
        self._prices = price_list
        self._attempt = attempt
        self._turn = 0  # model turns that were begun, in all attempts
        self._calls: dict[str, int] = {}  # the turn that made each call
        self._under_way, self._begun = (
            Counter[str](),
            Counter[str](),
        )  # turns of this attempt, by name and scope
        for entry in attempt.replay.entries:
            if entry.kind in ("model", UNORDERED):
                self._note(entry.detail)
        options = (attempt.task.input or {}).get("options") or {}
        config = attempt.manifest.get("config") or {}
        self._budget = micros(options.get("budget") or config.get("budget"))
        # Without a word of the caller a loop of the author's own is not cut: hundreds of single calls are none.
        self._most_turns = config.get("max_turns") or MOST_TURNS.get(str(options.get("mode")))

    def _note(self, detail: Mapping[str, Any] | None) -> None:
        number = (detail or {}).get(_TURN, 0)
        self._turn = max(self._turn, number)
        self._calls.update(dict.fromkeys((detail or {}).get(_CALLS, ()), number))

    # -- model turns ---------------------------------------------------------------------------------------

    async def model_turn(
        self, name: str, call: Callable[[], Any], agent: str | None, asked: str | None, suspend: Suspend
    ) -> Any:
        """See `Context.model_turn`."""
        replay = self._attempt.replay
        if asked is None:
            step = Step(replay.key(f"model:{name}"), "model", name, "idempotent")
        else:
            digest = blake2s(asked.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
            key = replay.asked_key(f"model:{name}", digest, by_order=not self._attempt.is_branched)
            step = Step(key, "model", name, "idempotent", {ASKED: digest})
        return await self._attempt.first(step, partial(self._ask, call, agent, suspend))

    async def _ask(self, call: Callable[[], Any], agent: str | None, suspend: Suspend, step: Step) -> Any:
        name = step.key.rpartition("#")[0]
        self._under_way[name] += 1
        self._begun[name] += 1
        try:
            return await self._counted_turn(call, agent, suspend, step, self._begun[name])
        finally:
            self._under_way[name] -= 1

    async def _counted_turn(
        self, call: Callable[[], Any], agent: str | None, suspend: Suspend, step: Step, place: int
    ) -> Any:
        attempt = self._attempt
        self._turn += 1
        number, agent = self._turn, agent or attempt.task.agent_name
        balance = await self._start(number, step, suspend)
        began = time.monotonic()
        turn = await self._answer(call, step)
        seconds = round(time.monotonic() - began, 3)
        value = attempt.redact(await attempt.measured(values.step_result, turn.value, step.name))
        used = await self._used(turn)
        more = {
            "balance_micros": None if balance is None else balance - used.cost_micros,
            "finish_reason": turn.finish_reason,
            "seconds": seconds,
        }
        detail = {**(step.detail or {}), _TURN: number, _CALLS: [one.id for one in turn.tool_calls]}
        name = step.key.rpartition("#")[0]
        if ASKED in detail and (self._under_way[name] > 1 or self._begun[name] > place):
            detail[TOGETHER] = True
        logged = (*_logged(turn, number, agent), events.model_turn(number, agent, used, more))
        entry = attempt.ending(replace(step, name=used.model, detail=detail), value, events=logged)
        await attempt.write(end_turn, EndTurn(entry, used))
        attempt.replay.remember(entry.step, "done", value)
        self._note(detail)
        spans.answered(tracing.current(), used, turn.finish_reason, number)
        return value

    async def counted(self, turn: ModelTurn) -> Counted:
        """See `attempts.turns.Turns`."""
        self._turn += 1
        number, agent, used = self._turn, self._attempt.task.agent_name, await self._used(turn)
        more = {"finish_reason": turn.finish_reason}
        return Counted(
            number, used, (*_logged(turn, number, agent), events.model_turn(number, agent, used, more))
        )

    async def _start(self, number: int, step: Step, suspend: Suspend) -> int | None:
        """Check what the run may spend; its organisation's balance in millionths of a USD."""
        attempt = self._attempt
        if self._most_turns and number > self._most_turns:
            raise LimitReached(
                f"The run reached its limit of {self._most_turns} model turns.",
                code="turn_limit",
                turns=self._most_turns,
            )
        command = StartTurn(
            attempt.task.id, attempt.fence, f"{step.key}:start", step.pos, read_messages=False
        )
        started: TurnStart = await attempt.write(start_turn, command)
        spend = started.spend
        try:
            Budget(attempt, self._budget).check(number, spend.spent_micros, spend.balance_micros)
        except Suspended as suspended:
            await suspend(suspended)
        return spend.balance_micros

    async def _answer(self, call: Callable[[], Any], step: Step) -> ModelTurn:
        attempt = self._attempt
        try:
            with attempt.siblings.irreversible(), inside(attempt.task.id, step):
                turn = await user_code.call(attempt, call)
        except AgentError:
            raise
        except Exception as error:
            failure = await in_engine_thread(_translated, error)
            met = (error.described.get("state") or {}) if isinstance(error, Described) else vars(error)
            if (
                failure is not None and "met" in met
            ):  # a client of `Context.client` is given the same on a replay
                failure.met = met["met"]  # type: ignore[attr-defined]
            if failure is None:
                within(error, f"model turn {values.shown(step.name)}")
                raise
            raise failure from error
        if not isinstance(turn, ModelTurn):
            raise AgentError(
                f"ctx.model_turn {values.shown(step.name)}: the function must return a ModelTurn, not "
                f"{type(turn).__name__}.",
                code="invalid_call",
            )
        return turn

    async def _used(self, turn: ModelTurn) -> Used:
        model = values.name(turn.model, "ctx.model_turn", "the model")[:_LONGEST_MODEL_NAME]
        tokens = Tokens(*(_count(n) for n in (turn.input_tokens, turn.output_tokens, turn.cached_tokens)))
        if turn.cost is not None:
            cost: int | None = max(0, round(float(turn.cost) * 1_000_000))
        else:
            cost = self._prices.cost_micros(tokens, model, f"{turn.provider}:{model}")
        if cost is None:
            cost = await in_engine_thread(prices.public, tokens, model, turn.provider)
        return Used(model, tokens.input, tokens.output, tokens.cached, cost)

    # -- tool calls ----------------------------------------------------------------------------------------

    async def tool_call(self, call: Call, suspend: Suspend) -> Any:
        """See `Context.tool_call`."""
        attempt = self._attempt
        key = attempt.replay.key(f"tool:{call.tool}/{call.id[:_LONGEST_ID]}")
        step = Step(key, "tool", call.tool, call.effect)
        entry = attempt.replay.entry(key)
        if call.review and (entry is None or entry.state == "begun"):
            try:
                call = replace(call, arguments=await self._approved(call, key, suspend))
            except Rejected as rejection:
                result = ToolResult(None, "rejected", rejection.message)
                await attempt.first(step, partial(self._end, call, result, 0.0))
                raise
        found = await attempt.first(step, partial(self._execute, call))
        if not isinstance(found, dict) or found.keys() != {"outcome", "value"}:
            return found  # an operator's own result
        if found["outcome"] == "rejected":
            raise Rejected(found["value"], action=call.tool)
        return found["value"]

    async def _approved(self, call: Call, key: str, suspend: Suspend) -> Any:
        """The arguments as a person approved or edited them."""
        attempt, review = self._attempt, f"review:{key}"
        attempt.check()
        decided = attempt.answer(review)
        if decided is None:
            name = f"ctx.tool_call {values.shown(call.tool)}"
            given = values.event(call.arguments, name, attempt.bounds)
            turn = self._calls.get(call.id, self._turn)
            await suspend(Suspended.until(review_of_call(review, call.tool, given, call.schema, turn)))
        assert decided is not None
        return decision_on(decided, call.arguments)

    async def _execute(self, call: Call, step: Step) -> Any:
        attempt = self._attempt
        begun = step.effect == "irreversible"
        if begun:
            shown = {"arguments": represented(call.arguments)[:200]}
            step = replace(step, detail={**(step.detail or {}), **shown})
            await attempt.begin(step)
        began = time.monotonic()
        try:
            with attempt.siblings.irreversible(), inside(attempt.task.id, step):
                given = await user_code.call(attempt, call.fn, call.arguments)
            result = given if isinstance(given, ToolResult) else ToolResult(given)
            value = attempt.redact(await attempt.measured(values.step_result, result.value, step.name))
        except Exception as error:
            within(error, f"tool {values.shown(step.name)}")
            if begun or not isinstance(error, AgentError):
                failed = self._result(call, "failed", describe(error)["message"], time.monotonic() - began)
                await attempt.end(step, describe(error), state="failed", events=failed)
            raise
        return await self._end(call, replace(result, value=value), time.monotonic() - began, step)

    async def _end(self, call: Call, result: ToolResult, seconds: float, step: Step) -> Any:
        shown = result.value if result.shown is ... else result.shown
        value = shown if result.outcome == "rejected" else result.value
        logged = [] if result.outcome == "deferred" else self._result(call, result.outcome, shown, seconds)
        found = {"outcome": result.outcome, "value": value}
        await self._attempt.end(step, found, events=logged)
        return found

    def _result(self, call: Call, outcome: str, shown: Any, seconds: float) -> list[events.Event]:
        """The end of a call in the log; and its beginning, where no turn has logged that."""
        turn = self._calls.get(call.id)
        if turn is not None:
            return [events.tool_result(turn, call.id, call.tool, outcome, shown, seconds)]
        try:
            given = values.event(call.arguments, "ctx.tool_call", self._attempt.bounds)
        except AgentError:  # it is for the log's readers only
            given = represented(call.arguments)
        agent = self._attempt.task.agent_name
        return [
            events.tool_call(self._turn, agent, call.id, call.tool, given, SOURCE),
            events.tool_result(self._turn, call.id, call.tool, outcome, shown, seconds),
        ]


def review_of_call(key: str, tool: str, arguments: Any, schema: Mapping[str, Any] | None, turn: int) -> Asked:
    """The review of a tool call."""
    payload = {
        "kind": "tool",
        "action": tool,
        "text": f"Approve the call of {tool}.",
        "arguments": arguments,
        "turn": turn,
    }
    return Asked(key, "review", payload if schema is None else payload | {"schema": dict(schema)})


def decision_on(decided: Question, arguments: Any) -> Any:
    """The arguments to call with. Raises `Rejected` for a rejection."""
    decision = decided.answer or {}
    match decision.get("action"):
        case "approve":
            return arguments
        case "edit":
            return decision["arguments"]
    reason = decision.get("reason") or "no reason given"
    raise Rejected(f"A person rejected this call: {reason}")


def _logged(turn: ModelTurn, number: int, agent: str) -> Sequence[events.Event]:
    found: list[events.Event] = []
    if turn.thinking:
        found.append(events.thinking(number, agent, turn.thinking))
    cut = turn.finish_reason == "length"
    if turn.text.strip():
        found.append(events.message(number, agent, turn.text, truncated=cut))
    calls: Sequence[ToolCall] = turn.tool_calls
    found += [events.tool_call(number, agent, one.id, one.tool, one.arguments, SOURCE) for one in calls]
    if cut:
        found.append(events.output_truncated(number, agent, None))
    return found


def _count(tokens: Any) -> int:
    return max(0, int(tokens or 0))


def _translated(error: Exception) -> AgentError | None:
    # By name: the library that knows providers' failures takes a second to import.
    module = importlib.import_module("runyard_workers.agent.loop.foreign_errors")
    found: AgentError | None = module.translate_any(error)
    return found
