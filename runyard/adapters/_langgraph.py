"""A LangGraph graph as a durable agent. See `runyard.adapters.langgraph`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from runyard.checkpoints import CheckpointLog
from runyard.context import Context
from runyard.errors import AgentError

try:
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.channels import DeltaChannel
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.errors import GraphDrained, GraphRecursionError
    from langgraph.pregel import Pregel
    from langgraph.runtime import RunControl
    from langgraph.types import Command, StateSnapshot
except ImportError as missing:
    raise ImportError("langgraph() needs LangGraph 1.2: pip install 'runyard[langgraph]'.") from missing

from runyard.adapters._langgraph_interrupts import answer_all
from runyard.adapters._langgraph_observer import Observer, plain
from runyard.adapters._langgraph_saver import JournalSaver, SavedThread

#: The name of the log in the journal.
_LOG: Final = "langgraph"
#: Largest value of a custom stream that goes to the run's log, in characters.
_MOST_CUSTOM: Final = 200_000


def langgraph(
    graph: Pregel[Any, Any, Any, Any],
    *,
    input: Callable[[Any, Any], Any] | None = None,
    output: str | Callable[[Any], Any] | None = None,
    context: Callable[[Any, Any], Any] | None = None,
    config: Mapping[str, Any] | None = None,
    tokens: bool = True,
) -> LangGraphAgent:
    """A compiled LangGraph graph as an agent, unmodified: its nodes run once across crashes.

    `input`, a function of (ctx, args), makes the graph's input; without it that is `args`, with the run's message at
    the end of `messages` where the graph has those. `output` makes the run's output of the graph's result: a function,
    or the name of a key; without it that is the `structured_response` or the text of the last message for a run that
    has a message, and else the whole result. `context`, a function of (ctx, args), makes the graph's context. `config`
    is passed to the graph, such as ``{"recursion_limit": 50}``. `tokens`: stream the models' text to live followers.

    Raises `ImportError` without LangGraph (``pip install 'runyard[langgraph]'``), `TypeError` for what is no compiled
    graph and for options of another type, `ValueError` for a graph that is compiled with `interrupt_after`.
    """
    return LangGraphAgent(graph, input=input, output=output, context=context, config=config, tokens=tokens)


class LangGraphAgent:
    """Called with (ctx, args) it is an agent; `run` gives the graph's own result inside a function of one's own."""

    #: Its checkpoints are in its run's journal, which is the worker's.
    only_isolation: Final = "loop"

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        *,
        input: Callable[[Any, Any], Any] | None = None,
        output: str | Callable[[Any], Any] | None = None,
        context: Callable[[Any, Any], Any] | None = None,
        config: Mapping[str, Any] | None = None,
        tokens: bool = True,
    ) -> None:
        given: Any = graph
        if not isinstance(given, Pregel):
            hint = ": call compile() first" if hasattr(given, "compile") else ""
            raise TypeError(f"langgraph() takes a compiled graph, not {type(given).__name__}{hint}.")
        if graph.interrupt_after_nodes:
            raise ValueError(
                "langgraph(): interrupt_after is for debugging; call interrupt() in a node instead."
            )
        _check_options(input, output, context, config)
        self._graph = graph
        self._input, self._output, self._context = input, output, context
        self._config = dict(config or {})
        self._tokens = tokens
        self.__doc__ = f"The LangGraph graph {graph.get_name()}."

    async def __call__(self, ctx: Context, args: Any) -> Any:
        """Run the graph as an agent: its input from the run's, the run's output from its result."""
        given = self._input(ctx, args) if self._input is not None else self._default_input(ctx, args)
        context = None if self._context is None else self._context(ctx, args)
        result = await self.run(ctx, given, context=context)
        if callable(self._output):
            return self._output(result)
        if self._output is not None:
            return result[self._output]
        return result if ctx.task.message is None else _answer(result)

    async def run(
        self, ctx: Context, input: Any, *, context: Any = None, config: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the graph once across crashes and return what `graph.ainvoke` does.

        Raises `AgentError` recursion_limit, and what a node raises.
        """
        return await _GraphRun.of(
            self._graph, ctx, context, self._config | dict(config or {}), self._tokens
        ).result(input)

    def _default_input(self, ctx: Context, args: Any) -> Any:
        message = ctx.task.message
        if message is None or "messages" not in self._graph.channels:
            return message if message is not None and not args else args
        given = dict(args) if isinstance(args, Mapping) else {}
        added = {"role": "user", "content": message}
        return given | {"messages": [*given.get("messages", ()), added]}


def _check_options(input: Any, output: Any, context: Any, config: Any) -> None:
    """Refuse options of another type: `TypeError`."""
    for name, given in (("input", input), ("context", context)):
        if given is not None and not callable(given):
            raise TypeError(f"langgraph(): {name} is a function of (ctx, args), not {type(given).__name__}.")
    if output is not None and not isinstance(output, str) and not callable(output):
        raise TypeError(
            f"langgraph(): output is the name of a key or a function, not {type(output).__name__}."
        )
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(
            f"langgraph(): config is a mapping such as {{'recursion_limit': 50}}, not {type(config).__name__}."
        )


@dataclass
class _GraphRun:
    """One run of a graph: its thread, and its state from checkpoint to checkpoint."""

    graph: Pregel[Any, Any, Any, Any]
    ctx: Context
    log: CheckpointLog
    saver: JournalSaver
    observer: Observer
    control: RunControl
    context: Any
    config: RunnableConfig
    tokens: bool

    @classmethod
    def of(
        cls,
        graph: Pregel[Any, Any, Any, Any],
        ctx: Context,
        context: Any,
        config: dict[str, Any],
        tokens: bool,
    ) -> _GraphRun:
        """The run, with a copy of the graph whose checkpoints are in the journal."""
        log, observer, control = ctx.checkpoint_log(_LOG), Observer(), RunControl()

        def on_put() -> None:
            if log.draining:
                control.request_drain()

        theirs = graph.checkpointer
        serde = theirs.serde if isinstance(theirs, BaseCheckpointSaver) else JsonPlusSerializer()
        saver = JournalSaver(log, serde=serde, on_writes=observer.of_writes, on_put=on_put)
        thread = saver.thread.thread_id or (ctx.session.id if ctx.session is not None else ctx.task.id)
        callbacks = config.get("callbacks") or []
        assert isinstance(callbacks, list), "config['callbacks'] is a list of handlers"
        configured: Any = config | {
            "callbacks": [*callbacks, observer],
            "configurable": dict(config.get("configurable") or {}) | {"thread_id": thread},
        }
        kept = graph.copy({"checkpointer": saver})
        return cls(kept, ctx, log, saver, observer, control, context, configured, tokens)

    async def result(self, input: Any) -> Any:
        """Go on from the last checkpoint, or begin, until the graph ends."""
        given, pending = input, None
        if self._began():
            given = None
            state = await self.graph.aget_state(self.config)
            if not state.tasks:
                return self._of_state(state.values)
            pending = state.interrupts or self._breakpoint(state)
        else:
            await self._continue_thread()
        while True:
            if pending:
                given = await self._answered(pending)
            result, pending = await self._advance(given)
            if not pending:
                return result

    def _began(self) -> bool:
        return any(e.about.get("kind") == "put" and not e.about.get("seed") for e in self.log.entries)

    async def _continue_thread(self) -> None:
        """With a session, the thread has the state of its last completed run."""
        if self.saver.thread.started or any(
            isinstance(c, DeltaChannel) for c in self.graph.channels.values()
        ):
            return
        past = await self.log.previous()
        if past is not None:
            await self.saver.copy(
                SavedThread(past, self.saver.serde), self.config["configurable"]["thread_id"]
            )

    async def _advance(self, given: Any) -> tuple[Any, Any]:
        """Run the graph to its end or to the next interrupts: its result, and those.

        In a task of its own: LangGraph, when it is cancelled, waits for the writes of its checkpoints, and so for a
        database that may be away.
        """
        work = asyncio.ensure_future(self._streamed(given))
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            self.saver.abandon()
            work.cancel()
            await asyncio.wait({work})
            raise
        return work.result()

    async def _streamed(self, given: Any) -> tuple[Any, Any]:
        result: Any = None
        asked: dict[str, Any] = {}
        stopped = False
        modes: Any = ["values", "updates", "custom", *(["messages"] if self.tokens else [])]
        try:
            with self.log.code_of("LangGraph"):
                stream: Any = self.graph.astream(
                    given, self.config, context=self.context, stream_mode=modes, subgraphs=True,
                    output_keys=self.graph.output_channels, durability="sync", control=self.control,
                )  # fmt: skip
                async for ns, mode, chunk in stream:
                    if mode == "values" and not ns:
                        result = chunk
                    elif mode == "updates" and not ns and "__interrupt__" in chunk:
                        stopped = True
                        asked |= {interrupt.id: interrupt for interrupt in chunk["__interrupt__"]}
                    elif mode == "messages":
                        await self._stream(*chunk)
                    elif mode == "custom":
                        data = {"name": _LOG, "data": plain(chunk, _MOST_CUSTOM)}
                        await self.log.write({"kind": "custom"}, None, events=[("custom", data)])
        except GraphDrained:
            self.log.hand_over()
        except GraphRecursionError as error:
            raise AgentError(str(error), code="recursion_limit", retryable=False) from error
        if asked:
            return None, list(asked.values())
        if stopped:  # where it was compiled to
            return None, self._breakpoint(await self.graph.aget_state(self.config))
        return result, None

    async def _stream(self, message: Any, about: Any) -> None:
        if isinstance(message, AIMessage) and message.text:
            await self.ctx.token(str(message.text))

    def _breakpoint(self, state: StateSnapshot) -> Any:
        """The nodes that follow before which the graph was compiled to stop."""
        names = self.graph.interrupt_before_nodes
        stops = [task.name for task in state.tasks if names == "*" or task.name in names]
        return _Breakpoint(tuple(stops)) if stops else None

    async def _answered(self, pending: Any) -> Any:
        """What makes the graph go on, once people have answered."""
        if isinstance(pending, _Breakpoint):
            state = await self.graph.aget_state(self.config)
            id_ = state.config["configurable"]["checkpoint_id"]
            await self.ctx.review(f"run {', '.join(pending.nodes)}", key=id_)
            return None
        return Command(resume=await answer_all(self.ctx, pending))

    def _of_state(self, values: Any) -> Any:
        """The result of a graph that ended in an earlier attempt."""
        names = self.graph.output_channels
        if isinstance(names, str) or not isinstance(values, Mapping):
            return values
        return {name: values[name] for name in names if name in values}


@dataclass(frozen=True)
class _Breakpoint:
    nodes: tuple[str, ...]


def _answer(result: Any) -> Any:
    """What an agent answers: its structured response, or the text of its last message; else the whole result."""
    if not isinstance(result, Mapping):
        return result
    if result.get("structured_response") is not None:
        return result["structured_response"]
    texts = [m for m in result.get("messages") or () if isinstance(m, AIMessage) and m.text]
    return str(texts[-1].text) if texts else result
