"""Where the loop of the OpenAI Agents SDK meets the journal: every model turn and every tool call passes here once.

The loop itself runs again from the top after a crash or a wait, and is given what is on record. Agents are copied for
each run: a copy's tools, hand-offs and models are journaled, its author's objects stay as they are.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from agents import Agent, FunctionTool, Handoff, RunConfig, RunResult
from agents.items import ToolApprovalItem
from agents.models.interface import Model
from agents.tool_context import ToolContext

from runyard.adapters._openai_agents_checks import check_offered, refuse_tool
from runyard.adapters._openai_agents_model import ASKING, JournaledModel, JournaledProvider, arguments_of
from runyard.adapters._openai_agents_results import packed, unpacked
from runyard.adapters._openai_agents_servers import Servers
from runyard.context import Context, Effect
from runyard.errors import AgentError, JournalMismatch, ProviderError, Rejected
from runyard.turns import ToolCall, ToolResult

#: The journal of the run whose code this is.
JOURNAL: Final[ContextVar[Journal | None]] = ContextVar("runyard_openai_agents", default=None)
#: The call of a tool whose code this is.
_CALL: Final[ContextVar[_Call | None]] = ContextVar("runyard_openai_agents_call", default=None)
#: What the library sets on the context of a call whose failure it has made into a text for the model.
_HANDLED: Final = "_function_tool_default_failure_handled"
#: What continues a run that was interrupted has its conversation in its state.
_NOT_AGAIN: Final = ("previous_response_id", "auto_previous_response_id", "conversation_id")


@dataclass
class _Call:
    """What happened in the agents that a tool has run: the library makes their failures into texts for the model."""

    failure: AgentError | None = None
    streamed: list[Any] = field(default_factory=list)


class JournaledAgent(Agent[Any]):
    """The class of a copy, with that of its agent."""

    async def get_all_tools(self, run_context: Any) -> list[Any]:
        """The tools on offer, of MCP servers, too, journaled. Called before each turn, by the task that asks."""
        journal = JOURNAL.get()
        if journal is not None and self.mcp_servers:
            await journal.servers.connect(self.mcp_servers)
        tools = await super().get_all_tools(run_context)
        ASKING.set(self.name)
        return tools if journal is None else [journal.tool(tool) for tool in tools]


@functools.cache
def _class_of(kind: Any) -> type[Agent[Any]]:
    bases = (JournaledAgent,) if kind is Agent else (JournaledAgent, kind)
    return type(kind.__name__, bases, {"__doc__": kind.__doc__, "__module__": kind.__module__})


class Journal:
    """Journals one run of an agent, with the runs of others inside it."""

    def __init__(
        self,
        ctx: Context,
        agent: Agent[Any],
        effects: Mapping[str, Effect],
        known: Collection[str],
        stream: bool,
        provider: Any,
    ) -> None:
        """`known` are the names of tools that were checked already, `provider` gives models by their names."""
        self.ctx = ctx
        self.stream = stream
        self.loop = asyncio.get_running_loop()
        self.servers = Servers()
        self._first = agent.name
        self._effects = effects
        self._doubtful = effects.keys() - set(known)
        self._provider = provider
        self._copies: dict[int, tuple[Agent[Any], Agent[Any]]] = {}  # with each agent, whose id stays its own
        self._schemas: dict[str, Mapping[str, Any]] = {}
        self._edited: dict[str, Any] = {}  # arguments by call, as a person changed them
        self._open: dict[str, ToolCall] = {}  # calls that have no result in the log yet

    # -- agents, and what they are made of -----------------------------------------------------------------

    async def run(self, runner: Any, agent: Agent[Any], input: Any, options: Mapping[str, Any]) -> RunResult:
        """As the library's `Runner.run`; what waits for an approval is reviewed by a person."""
        options = {**options, "run_config": self.config(options.get("run_config"))}
        agent = self.adapted(agent)
        result: RunResult = await runner.run(agent, input, **options)
        while result.interruptions:
            state: Any = result.to_state()
            decided = await asyncio.gather(*map(self._review, result.interruptions))
            for item, rejection in zip(result.interruptions, decided, strict=True):
                if rejection is None:
                    state.approve(item)
                else:
                    state.reject(item, rejection_message=rejection)
            again = {key: value for key, value in options.items() if key not in _NOT_AGAIN}
            result = await runner.run(agent, state, **again)
        if self._open:
            await self.close(result.to_input_list())
        return result

    def run_streamed(self, runner: Any, agent: Agent[Any], input: Any, options: Mapping[str, Any]) -> Any:
        """As the library's `Runner.run_streamed`, for an agent that another one's tool runs."""
        options = {**options, "run_config": self.config(options.get("run_config"))}
        result = runner.run_streamed(self.adapted(agent), input, **options)
        if (call := _CALL.get()) is not None:
            call.streamed.append(result)
        return result

    def config(self, given: Any) -> RunConfig:
        """The settings of a run with its models journaled, and without the library's own tracing."""
        if isinstance(given, RunConfig):
            config = copy.copy(given)
        else:
            config = RunConfig(**{"model_provider": self._provider, **(given or {})})
        if not isinstance(config.model_provider, JournaledProvider):
            config.model_provider = JournaledProvider(self, config.model_provider)
        if isinstance(config.model, Model):
            config.model = self._model(config.model)
        config.tracing_disabled = True
        return config

    def adapted(self, agent: Agent[Any]) -> Agent[Any]:
        """The copy of an agent, and of those that it hands over to: one each."""
        if isinstance(agent, JournaledAgent):
            return agent
        if id(agent) in self._copies:
            return self._copies[id(agent)][1]
        copied = copy.copy(agent)
        object.__setattr__(copied, "__class__", _class_of(cast(Any, type(agent))))
        self._copies[id(agent)] = agent, copied
        copied.tools = [self.tool(tool) for tool in agent.tools]
        copied.handoffs = [
            self._handoff(one) if isinstance(one, Handoff) else self._handoff_to(one)
            for one in agent.handoffs
        ]
        if isinstance(agent.model, Model):
            copied.model = self._model(agent.model)
        return copied

    def _model(self, model: Model) -> Model:
        return model if isinstance(model, JournaledModel) else JournaledModel(self, model)

    def _handoff_to(self, agent: Agent[Any]) -> Handoff[Any, Any]:
        from agents import handoff

        return self._handoff(handoff(agent))

    def _handoff(self, given: Handoff[Any, Any]) -> Handoff[Any, Any]:
        if isinstance(given.on_invoke_handoff, _HandingOver):
            return given
        copied = copy.copy(given)
        copied.on_invoke_handoff = _HandingOver(self, given)
        return copied

    def tool(self, tool: Any) -> Any:
        """The journaled form of a tool. Raises `AgentError` for one whose calls could not be journaled."""
        refuse_tool(tool)
        if not isinstance(tool, FunctionTool):
            return tool
        self._schemas[tool.name] = tool.params_json_schema
        if isinstance(tool.on_invoke_tool, _Invoking):
            return tool
        copied = copy.copy(tool)
        copied.on_invoke_tool = invoking = _Invoking(self, copied, copied.on_invoke_tool)
        if callable(tool.needs_approval):
            copied.needs_approval = partial(invoking.needs_approval, tool.needs_approval)
        return copied

    # -- what the models of a run report -------------------------------------------------------------------

    def whose(self, name: str) -> str | None:
        """See `Journaling`."""
        return None if name == self._first else name

    async def before(self, tools: Sequence[Any], items: Any) -> None:
        """See `Journaling`."""
        if self._doubtful:
            check_offered(self._doubtful, self._effects, [getattr(tool, "name", "") for tool in tools])
        await self.close(items)

    def answered(self, calls: Sequence[ToolCall]) -> None:
        """See `Journaling`."""
        self._open |= {one.id: one for one in calls}

    def failed(self, failure: AgentError) -> None:
        """Inside a tool's call, note what the library must not make into a text for the model."""
        call = _CALL.get()
        if call is not None and isinstance(failure, ProviderError | JournalMismatch):
            call.failure = failure

    async def close(self, items: Any) -> None:
        """Log the end of calls that never reached their tool: refused by a guardrail, or for their name."""
        if not self._open or not isinstance(items, list):
            return
        for item in items:
            if isinstance(item, Mapping) and item.get("type") == "function_call_output":
                call = self._open.pop(str(item.get("call_id")), None)
                if call is not None:
                    await self._log(call, ToolResult(None, "failed", item.get("output")))

    async def _log(self, call: ToolCall, result: ToolResult) -> None:
        async def given(_: Any) -> ToolResult:
            return result

        await self.ctx.tool_call(call.tool, call.arguments, given, call_id=call.id)

    # -- tool calls, approvals and hand-offs ---------------------------------------------------------------

    async def call(self, tool: FunctionTool, invoke: Any, context: ToolContext[Any], text: str) -> Any:
        """The result of a call from the journal, or of the tool itself."""
        id_, arguments = context.tool_call_id, arguments_of(text)
        if id_ in self._edited:
            arguments = self._edited[id_]
            text, context = json.dumps(arguments), _edited(context, arguments)
        execute = partial(self._execute, invoke, context, text)
        effect = self._effects.get(tool.name, "idempotent")
        value = await self.ctx.tool_call(tool.name, arguments, execute, call_id=id_, effect=effect)
        self._open.pop(id_, None)
        return unpacked(value)

    async def _execute(self, invoke: Any, context: Any, text: str, arguments: Any) -> ToolResult:
        inner = _Call()
        token = _CALL.set(inner)
        try:
            result = await invoke(context, text)
        finally:
            _CALL.reset(token)
        if inner.failure is not None:
            raise inner.failure
        if any(one.interruptions for one in inner.streamed):
            raise AgentError(
                "An agent that runs as a tool with on_stream cannot wait for an approval: leave on_stream out.",
                code="invalid_call",
            )
        value, shown = packed(result)
        return ToolResult(value, "failed" if getattr(context, _HANDLED, False) else "ok", shown)

    async def _review(self, item: ToolApprovalItem) -> str | None:
        """None for what a person approves; the reason for what they reject."""
        name, proposed, id_ = (
            item.qualified_name or item.name or "tool",
            arguments_of(item.arguments),
            item.call_id,
        )
        is_function = getattr(item.raw_item, "type", None) == "function_call"
        schema = self._schemas.get(item.name or "") if is_function else {"const": proposed}
        try:
            approved = await self.ctx.tool_call(
                name, proposed, _as_given, call_id=str(id_), review=True, schema=schema
            )
        except Rejected as rejection:
            self._open.pop(str(id_), None)
            return rejection.message
        if is_function and approved != proposed:
            self._edited[str(id_)] = approved
        return None

    async def handed_over(self, tool: str, agent: Agent[Any]) -> Agent[Any]:
        """Log the end of the call that hands over to an agent; the copy of that."""
        call = next((one for one in self._open.values() if one.tool == tool), None)
        if call is not None:
            del self._open[call.id]
            await self._log(call, ToolResult({"agent": agent.name}))
        return self.adapted(agent)


class _Invoking:
    """Calls a tool through the journal."""

    def __init__(self, journal: Journal, tool: FunctionTool, invoke: Any) -> None:
        self._journal, self._tool, self._invoke = journal, tool, invoke

    async def __call__(self, context: Any, arguments: str) -> Any:
        return await self._journal.call(self._tool, self._invoke, context, arguments)

    async def needs_approval(
        self, policy: Any, context: Any, arguments: dict[str, Any], call_id: str
    ) -> bool:
        """As the library: arguments that the tool would get in another form are not for a policy to judge."""
        prepare = getattr(self._invoke, "prepare_arguments", None)
        prepared = prepare(json.dumps(arguments), self._tool.name) if prepare is not None else None
        if prepared is not None and not prepared.unchanged:
            return True
        needed = policy(context, arguments, call_id)
        return bool(await needed if asyncio.iscoroutine(needed) else needed)


class _HandingOver:
    """Hands over to the copy of an agent."""

    def __init__(self, journal: Journal, given: Handoff[Any, Any]) -> None:
        self._journal, self._given = journal, given

    async def __call__(self, context: Any, arguments: str) -> Any:
        agent = await self._given.on_invoke_handoff(context, arguments)
        return await self._journal.handed_over(self._given.tool_name, agent)


def _edited(context: ToolContext[Any], arguments: Any) -> ToolContext[Any]:
    """The context of a call with other arguments."""
    copied = copy.copy(context)
    copied.tool_arguments = json.dumps(arguments)
    copied._function_tool_arguments = None
    return copied


async def _as_given(arguments: Any) -> ToolResult:
    return ToolResult(arguments, "deferred")
