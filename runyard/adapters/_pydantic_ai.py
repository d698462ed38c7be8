"""An agent of pydantic-ai as an agent of Runyard: `pydantic_ai(agent)`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, NoReturn

from pydantic import PydanticUserError
from pydantic_ai.agent import AbstractAgent, AgentRunResult
from pydantic_ai.capabilities import AgentCapability, HandleDeferredToolCalls
from pydantic_ai.exceptions import FallbackExceptionGroup, ModelAPIError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserContent,
    UserPromptPart,
)
from pydantic_ai.models import infer_model
from pydantic_ai.output import OutputDataT
from pydantic_ai.tools import AgentDepsT

from runyard.adapters._pydantic_ai_checks import check_declaration
from runyard.adapters._pydantic_ai_journal import Journal, StreamingJournal
from runyard.context import Context, Effect
from runyard.errors import AgentError

#: Makes the dependencies of a run of its context and its arguments.
DepsFactory = Callable[[Context, Mapping[str, Any]], AgentDepsT | Awaitable[AgentDepsT]]

# The library defers this to the first use, where it would stop every run for the better part of a second.
ModelMessagesTypeAdapter.rebuild()
#: Names of models whose provider's library is imported.
_imported: Final[set[str]] = set()


class PydanticAI(Generic[AgentDepsT, OutputDataT]):
    """A pydantic-ai agent that is journaled: called as ``(ctx, args)`` it is an agent of Runyard."""

    #: What it takes: the user's message, and what else its dependencies are made of.
    input_schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"message": {"type": "string", "description": "The message to the agent."}},
    }

    def __init__(
        self,
        agent: AbstractAgent[AgentDepsT, OutputDataT],
        deps: AgentDepsT,
        deps_factory: DepsFactory[AgentDepsT] | None,
        effects: Mapping[str, Effect],
        stream: bool,
    ) -> None:
        self.agent = agent
        self._deps = deps
        self._deps_factory = deps_factory
        self._effects = dict(effects)
        self._stream = stream
        self.output_schema = _output_schema(agent)
        self.__doc__ = (
            getattr(agent, "description", None) or f"The pydantic-ai agent {agent.name or 'agent'}."
        )

    async def __call__(self, ctx: Context, args: Any) -> Any:
        """Run the agent on ``args["message"]`` or the run's message, after the session's earlier messages."""
        given: Mapping[str, Any] = args if isinstance(args, Mapping) else {"message": args}
        message = given.get("message") or ctx.task.message
        if not isinstance(message, str) or not message:
            raise AgentError(
                "Give the agent a message: `message` in the arguments, or the run's own.",
                code="invalid_input",
            )
        deps = self._deps
        if self._deps_factory is not None:
            made = self._deps_factory(ctx, given)
            deps = await made if inspect.isawaitable(made) else made
        result = await self.run(ctx, message, deps=deps, message_history=_history(ctx))
        return result.output

    async def run(
        self,
        ctx: Context,
        user_prompt: str | Sequence[UserContent] | None = None,
        *,
        deps: AgentDepsT | None = None,
        capabilities: Sequence[AgentCapability[Any]] | None = None,
        **options: Any,
    ) -> AgentRunResult[OutputDataT]:
        """As the agent's own `run`, with the same options, journaled in the run of `ctx`.

        Several runs of one or several agents in one run of Runyard are journaled in their order.
        """
        if not isinstance(ctx, Context):
            raise TypeError(
                "pydantic_ai(agent) runs in `async def` agents: a plain `def` has no loop for its tools."
            )
        await _import_provider(options.get("model") or self.agent.model)
        kind = StreamingJournal if self._stream else Journal
        name = self.agent.name or "agent"
        journal = kind(ctx, name, self._effects)
        added = [*(capabilities or ()), HandleDeferredToolCalls(journal.decide), journal]
        given: Any = {"deps": deps, "capabilities": added, **options}
        try:
            result: AgentRunResult[OutputDataT] = await self.agent.run(user_prompt, **given)
        except (ModelAPIError, FallbackExceptionGroup) as error:  # out of a stream, past the journal's hook
            await ctx.model_turn(name, partial(_raise, error))
            raise
        await journal.close_refused(result.all_messages())
        return result


def pydantic_ai(
    agent: AbstractAgent[AgentDepsT, OutputDataT],
    *,
    deps: AgentDepsT = None,  # type: ignore[assignment]
    deps_factory: DepsFactory[AgentDepsT] | None = None,
    effects: Mapping[str, Effect] | None = None,
    stream: bool = True,
) -> PydanticAI[AgentDepsT, OutputDataT]:
    """The agent with its model turns, tool calls and approvals journaled: ``agent("name")(pydantic_ai(my_agent))``.

    `deps` are the dependencies of every run; `deps_factory(ctx, args)` makes them for each. `effects` is what a crash
    in the middle of a tool means, by the tool's name: ``read`` and ``idempotent`` (the default) are called again,
    ``irreversible`` waits for an operator. With `stream` the text of answers goes to live followers as it comes.

    Raises `TypeError` for what is no agent and for options of another type, `ValueError` for an effect that there is
    not or of a tool that the agent has not. A name that only a toolset can have is checked at each run.
    """
    check_declaration(agent, deps, deps_factory, effects)
    return PydanticAI(agent, deps, deps_factory, effects or {}, stream)


async def _import_provider(model: Any) -> None:
    """Import the library of a model that is given by its name: on the loop that would stop every run for seconds."""
    if isinstance(model, str) and model not in _imported:
        with suppress(Exception):  # the agent's run meets the same, and raises it
            await asyncio.to_thread(infer_model, model)
        _imported.add(model)


def _raise(error: Exception) -> NoReturn:
    raise error


def _output_schema(agent: AbstractAgent[Any, Any]) -> dict[str, Any] | None:
    try:
        return agent.output_json_schema()
    except (PydanticUserError, TypeError):  # of a type without a schema: the output is not checked
        return None


def _history(ctx: Context) -> list[ModelMessage] | None:
    """The session's earlier messages; None where there are none, as the agent would have it."""
    if ctx.session is None:
        return None
    messages: list[ModelMessage] = []
    for line in ctx.session.history:
        content = line["content"]
        text = content if isinstance(content, str) else str(content)
        if line["type"] == "user_message":
            messages.append(ModelRequest(parts=[UserPromptPart(text)]))
        elif line["type"] in ("agent_response", "question"):
            messages.append(ModelResponse(parts=[TextPart(text)]))
    return messages or None
