"""An agent of the OpenAI Agents SDK as an agent of Runyard: `openai_agents(agent)`."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn, cast

from pydantic import PydanticUserError, TypeAdapter

from runyard.context import Context, Effect
from runyard.errors import AgentError

try:
    from agents import (
        Agent,
        AgentOutputSchema,
        AgentsException,
        ModelTimeoutError,
        MultiProvider,
        RunResult,
    )
    from agents.models import _openai_shared
    from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
    from openai import AsyncOpenAI
except ImportError as missing:
    raise ImportError(
        "openai_agents() needs the OpenAI Agents SDK 0.24: pip install 'runyard[openai-agents]'."
    ) from missing

from runyard.adapters._openai_agents_checks import check_declaration
from runyard.adapters._openai_agents_errors import meant_by
from runyard.adapters._openai_agents_journal import JOURNAL, Journal
from runyard.adapters._openai_agents_session import RunSession
from runyard.adapters.clients import shared_connections

#: Makes something of the context of a run and its arguments.
Maker = Callable[[Context, Any], Any | Awaitable[Any]]
#: Options by which the provider keeps the conversation, which has no session then.
_SERVER_SIDE: Final = ("previous_response_id", "auto_previous_response_id", "conversation_id")


class OpenAIAgents:
    """An agent of the OpenAI Agents SDK that is journaled: called as ``(ctx, args)`` it is an agent of Runyard."""

    #: The items of its sessions are in its run's journal, which is the worker's.
    only_isolation: Final = "loop"
    #: What it takes: the user's message, and what else its context is made of.
    input_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"message": {"type": "string", "description": "The message to the agent."}},
    }

    def __init__(
        self,
        agent: Agent[Any],
        input: Maker | None,
        context: Maker | None,
        options: Mapping[str, Any],
        effects: Mapping[str, Effect],
        known: frozenset[str],
        stream: bool,
    ) -> None:
        self.agent = agent
        self._input, self._context = input, context
        self._options = {key: value for key, value in options.items() if value is not ...}
        self._effects, self._known = dict(effects), known
        self._stream = stream
        self.output_schema = _output_schema(agent)
        self.__doc__ = agent.handoff_description or f"The agent {agent.name} of the OpenAI Agents SDK."

    async def __call__(self, ctx: Context, args: Any) -> Any:
        """Run the agent on ``args["message"]`` or the run's message, in the run's session."""
        if self._input is not None:
            given = await _made(self._input, ctx, args)
        else:
            given = (args.get("message") if isinstance(args, Mapping) else args) or ctx.task.message
        if not given or not isinstance(given, str | list):
            raise AgentError(
                "Give the agent a message: `message` in the arguments, or the run's own.",
                code="invalid_input",
            )
        context = None if self._context is None else await _made(self._context, ctx, args)
        return (await self.run(ctx, given, context=context)).final_output

    async def run(self, ctx: Context, input: str | list[Any], **options: Any) -> RunResult:
        """As the library's `Runner.run`, with the same options, journaled in the run of `ctx`.

        Several runs of one or several agents in one run of Runyard are journaled in their order. Without a `session`
        the items of the run's own conversation are used, if it belongs to one.

        Raises the library's exceptions, which are `AgentError` max_turns, guardrail_tripped, model_refused and
        model_behavior, too, and what tools raise.
        """
        if not isinstance(ctx, Context):
            raise TypeError(
                "openai_agents(agent) runs in `async def` agents: a plain `def` has no loop for its tools."
            )
        options = self._options | options
        own = None
        if "session" not in options and not any(options.get(one) for one in _SERVER_SIDE):
            options["session"] = own = await RunSession.of(ctx)
        journal = Journal(ctx, self.agent, self._effects, self._known, self._stream, _provider(ctx))
        token = JOURNAL.set(journal)
        try:
            result = await journal.run(_journaling_runner().inner, self.agent, input, options)
        except ModelTimeoutError as error:  # of the agent's settings, from outside of the turn
            await ctx.model_turn(self.agent.name, partial(_raise, error))
            raise
        except AgentsException as error:
            meant = meant_by(error)
            raise meant from (error if isinstance(meant, AgentError) else meant.__cause__)
        finally:
            JOURNAL.reset(token)
            await journal.servers.release()
        if own is not None:
            await own.save()
        return result


def openai_agents(
    agent: Agent[Any],
    *,
    input: Maker | None = None,
    context: Maker | None = None,
    run_config: Any = ...,
    max_turns: Any = ...,
    hooks: Any = ...,
    effects: Mapping[str, Effect] | None = None,
    stream: bool = True,
) -> OpenAIAgents:
    """The agent with its model turns, tool calls, hand-offs and approvals journaled, as it is.

    ``agent("name")(openai_agents(my_agent))`` makes it an agent. `input` and `context`, functions of (ctx, args), make
    the input (a text or a list of items) and the context object of a run; without the former the message of the run is
    its input. `run_config`, `max_turns` and `hooks` are those of the library's `Runner.run`. `effects` is what a crash
    in the middle of a tool means, by the tool's name: ``read`` and ``idempotent`` (the default) are called again,
    ``irreversible`` waits for an operator. With `stream` the text of answers goes to live followers as it comes.

    Raises `ImportError` without the SDK (``pip install 'runyard[openai-agents]'``), `TypeError` for what is no agent,
    for options of another type and for tools whose calls cannot be journaled, `ValueError` for an effect that there is
    not or of a tool that the agent has not. A name that only an MCP server can have is checked at each run.
    """
    known = check_declaration(agent, effects, {"input": input, "context": context})
    options = {"run_config": run_config, "max_turns": max_turns, "hooks": hooks}
    return OpenAIAgents(agent, input, context, options, effects or {}, known, stream)


class _JournalingRunner:
    """The library's default runner: agents that run inside a journaled run, in a tool or a guardrail, are journaled,
    too. Every other run is that of the runner before it."""

    def __init__(self, inner: AgentRunner) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def run(self, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        """See `Runner.run`."""
        journal = _journal_of_this_loop()
        if journal is None:
            return await self.inner.run(starting_agent, input, **options)
        return await journal.run(self.inner, starting_agent, input, options)

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **options: Any) -> Any:
        """See `Runner.run_streamed`."""
        journal = _journal_of_this_loop()
        if journal is None:
            return self.inner.run_streamed(starting_agent, input, **options)
        return journal.run_streamed(self.inner, starting_agent, input, options)


def _journaling_runner() -> _JournalingRunner:
    current: Any = get_default_agent_runner()
    if isinstance(current, _JournalingRunner):
        return current
    made: Any = _JournalingRunner(current)
    set_default_agent_runner(made)
    return cast(_JournalingRunner, made)


def _journal_of_this_loop() -> Journal | None:
    """None in a thread with a loop of its own: the journal is the worker's."""
    journal = JOURNAL.get()
    return journal if journal is not None and journal.loop is asyncio.get_running_loop() else None


def _provider(ctx: Context) -> MultiProvider:
    """What gives the models that are known by their names: with the author's own client, or the installation's
    address and key, over the connections of this event loop."""
    if _openai_shared.get_default_openai_client() is not None:
        return MultiProvider()
    where: dict[str, Any] = {key: value for key, value in ctx._provider("openai").items() if value}
    key = _openai_shared.get_default_openai_key()
    if key is not None:
        where = {"api_key": key}
    elif where:
        where.setdefault("api_key", "none")  # servers of one's own ask for none; the library does
    elif not os.environ.get("OPENAI_API_KEY"):
        return MultiProvider()  # a model of another provider's, or the library's own error
    # Servers that speak the protocol of OpenAI speak its chat completions.
    responses = False if "base_url" in where else None
    # One try a turn: a failure that passes is tried again by the run, after the wait that the provider asks for.
    client = AsyncOpenAI(http_client=shared_connections(), max_retries=0, **where)
    return MultiProvider(openai_client=client, openai_use_responses=responses)


async def _made(make: Maker, ctx: Context, args: Any) -> Any:
    made = make(ctx, args)
    return await made if inspect.isawaitable(made) else made


def _raise(error: Exception) -> NoReturn:
    raise error


def _output_schema(agent: Agent[Any]) -> dict[str, Any] | None:
    """The schema of what the agent answers; None where another may answer in its place, or a tool."""
    if agent.handoffs or agent.tool_use_behavior != "run_llm_again":
        return None
    kind: Any = agent.output_type
    kind = kind.output_type if isinstance(kind, AgentOutputSchema) else kind
    if kind is not None and not isinstance(kind, type) and not hasattr(kind, "__origin__"):
        return None
    try:
        return TypeAdapter(str if kind is None else kind).json_schema()
    except (PydanticUserError, TypeError):  # of a type without a schema: the output is not checked
        return None
