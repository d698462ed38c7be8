"""What one run is to do: its agent's manifest and its request, merged into one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runyard_common.agents.rules import tool_access, workflows
from runyard_common.agents.rules.workflows import Workflow
from runyard_common.schemas import outputs
from runyard_common.schemas.outputs import OutputContract
from runyard_common.values.errors import RunyardError
from runyard_workers.agent.budget import micros
from runyard_workers.agent.failures import BadOptions
from runyard_workers.agent.servers import McpServer
from runyard_workers.agent.servers import parse as parse_servers

#: Model turns that a run may use, by mode.
MOST_TURNS: Final[dict[str, int]] = {"flash": 10, "fast": 40, "max": 120}
#: Most attempts of a model to give a valid output: one, and three repairs.
MOST_REPAIRS: Final = 3
#: What a declared agent may have in `config`, besides its manifest's own fields.
_DEFAULTS: Final = ("rules", "agents", "datastores", "queries", "workflows", "mcp_servers")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What changes when the conversation moves to another agent."""

    name: str
    instructions: str
    model: str | None = None
    mode: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[str | dict[str, Any], ...] = ()
    servers: tuple[McpServer, ...] = ()
    review: frozenset[str] = frozenset()
    demonstrations: tuple[tuple[str, str], ...] = ()
    vision: bool | None = None
    seconds: float = 300.0
    granted: frozenset[str] = frozenset()  # registered tools that the operator's manifest lists


@dataclass(frozen=True, slots=True)
class Query:
    """A named SQL statement the agent may run with parameters of its own; `datastore` is an id or a name."""

    name: str
    description: str
    sql: str
    datastore: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Specialist:
    """An agent the conversation may move to: a registered one of this name, or one made of its description."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `output` binds the agent's answer; `final_output` is made of the whole conversation after it."""

    agent: AgentConfig
    mode: str
    message: str | None
    args: Any
    system: str = ""
    rules: tuple[str, ...] = ()
    output: OutputContract | None = None
    output_guidance: str = ""
    final_output: OutputContract | None = None
    specialists: tuple[Specialist, ...] = ()
    servers: tuple[McpServer, ...] = ()
    datastores: tuple[dict[str, Any], ...] = ()
    queries: tuple[Query, ...] = ()
    workflows: tuple[Workflow, ...] = ()
    streaming: bool = False
    budget_micros: int | None = None
    most_turns: int = MOST_TURNS["fast"]
    asking: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who published a manifest. `operator`: the operator, for all; `own`: the run's own organisation."""

    operator: bool = False
    own: bool = True


def make(
    manifest: Mapping[str, Any],
    given: Mapping[str, Any],
    lenient: bool = False,
    publisher: Publisher = Publisher(),
) -> Plan:
    """The plan of a run. `given` is the task's input {message, args, options, output_config}.

    With `lenient` an output that breaks its schema in the end is accepted. Raises `BadOptions` naming the field that
    cannot be used.
    """
    try:
        made = _make(manifest, given, publisher)
        return replace(made, output=replace(made.output, lenient=True)) if lenient and made.output else made
    except RunyardError as refusal:
        raise BadOptions.of(refusal) from refusal


def _make(manifest: Mapping[str, Any], given: Mapping[str, Any], publisher: Publisher) -> Plan:
    config: dict[str, Any] = manifest.get("config") or {}
    asking = config.get("ask")
    options: dict[str, Any] = {k: v for k, v in (given.get("options") or {}).items() if v is not None}
    merged = {name: [*_list(config.get(name)), *_list(options.get(name))] for name in _DEFAULTS}
    output_config = given.get("output_config") or options.get("output_config")
    private = 0 if publisher.own else len(_list(config.get("mcp_servers")))
    mode = mode_of(options.get("mode") or manifest.get("mode") or config.get("mode"))
    return Plan(
        agent=_chosen(agent_config(manifest, publisher), options.get("tools")),
        mode=mode,
        message=given.get("message"),
        args=given.get("args"),
        system=str(options.get("system") or "").strip(),
        rules=tuple(str(rule) for rule in merged["rules"]),
        output=_output(manifest, config, output_config),
        output_guidance=outputs.instructions_of(output_config),
        final_output=outputs.from_final_output(options.get("final_output")),
        specialists=_specialists(merged["agents"]),
        servers=parse_servers(merged["mcp_servers"], private),
        datastores=tuple(one for one in merged["datastores"] if isinstance(one, dict)),
        queries=_queries(merged["queries"]),
        workflows=workflows.parse(merged["workflows"]),
        streaming=bool(options.get("streaming_tokens") or options.get("streaming")),
        budget_micros=micros(options.get("budget") or config.get("budget")),
        most_turns=int(config.get("max_turns") or MOST_TURNS[mode]),
        asking=asking if isinstance(asking, dict) else {},
    )


def agent_config(manifest: Mapping[str, Any], publisher: Publisher = Publisher()) -> AgentConfig:
    """The agent of a manifest."""
    config: dict[str, Any] = manifest.get("config") or {}
    demonstrations = manifest.get("demonstrations") or config.get("demonstrations") or ()
    servers = _list(manifest.get("mcp_servers"))
    return AgentConfig(
        name=str(manifest.get("name") or "agent"),
        instructions=str(manifest.get("instructions") or config.get("system_prompt") or "").strip(),
        model=manifest.get("model") or _text(config.get("model")),
        mode=manifest.get("mode") or _text(config.get("mode")),
        temperature=manifest.get("temperature", config.get("temperature")),
        max_tokens=manifest.get("max_tokens", config.get("max_tokens")),
        tools=(*_list(manifest.get("tools")), *_known(config.get("tools"))),
        servers=parse_servers(servers, 0 if publisher.own else len(servers)),
        review=frozenset(str(name) for name in _list(manifest.get("review"))),
        demonstrations=tuple((str(d["user_input"]), str(d["model_output"])) for d in demonstrations),
        vision=config.get("vision"),
        seconds=float(config.get("request_timeout") or 300.0),
        granted=frozenset(tool_access.listed(_list(manifest.get("tools"))) if publisher.operator else ()),
    )


def _chosen(agent: AgentConfig, named: Any) -> AgentConfig:
    """The agent with those tools only that the request names, in its order, if it names any.

    A name is that of a tool of the agent's own (which keeps its effect, review and timeout), ``server_tool`` for a
    tool of one of its MCP servers, or else a tool to add.
    """
    if not isinstance(named, list):
        return agent
    names = [name for name in named if isinstance(name, str)]
    servers = [_limited(server, names) for server in agent.servers]
    remote = {f"{server.name}_{tool}" for server in servers for tool in server.tools or ()}
    own = {_tool_name(tool): tool for tool in agent.tools}
    tools = tuple(own.get(name, name) for name in dict.fromkeys(names) if name not in remote)
    return replace(agent, tools=tools, servers=tuple(server for server in servers if server.tools))


def _limited(server: McpServer, named: Sequence[str]) -> McpServer:
    prefix = f"{server.name}_"
    asked = frozenset(name.removeprefix(prefix) for name in named if name.startswith(prefix))
    return replace(server, tools=asked if server.tools is None else asked & server.tools)


def _tool_name(tool: str | dict[str, Any]) -> str:
    return tool if isinstance(tool, str) else str(tool.get("name") or tool.get("agent") or "")


def mode_of(mode: Any) -> str:
    """flash, fast or max: `base` is the newer name of fast, and anything else means it."""
    return mode if mode in ("flash", "max") else "fast"


def _output(manifest: Mapping[str, Any], config: dict[str, Any], output_config: Any) -> OutputContract | None:
    """The request's schema overrides the agent's own."""
    asked = outputs.from_output_config(output_config)
    if asked is not None:
        return asked
    declared = manifest.get("output") or config.get("output") or {}
    schema = declared.get("schema") if isinstance(declared, dict) else None
    if not schema:
        return None
    return outputs.from_schema(schema, field="output.schema", strict=declared.get("strict"))


def _queries(given: list[Any]) -> tuple[Query, ...]:
    queries = []
    for index, one in enumerate(given):
        if not isinstance(one, dict) or not one.get("name") or not one.get("query"):
            raise BadOptions(
                "A query needs a name and a query.", code="invalid_query", field=f"queries[{index}]"
            )
        named = tuple(str(p.get("name") if isinstance(p, dict) else p) for p in _list(one.get("parameters")))
        queries.append(
            Query(
                str(one["name"]),
                str(one.get("description") or one["name"]),
                str(one["query"]),
                _text(one.get("datastore") or one.get("datastore_id")),
                named,
            )
        )
    return tuple(queries)


def _specialists(given: list[Any]) -> tuple[Specialist, ...]:
    found = []
    for index, one in enumerate(given):
        name = one.get("name") if isinstance(one, dict) else one
        if not isinstance(name, str) or not name.strip():
            raise BadOptions("An agent needs a name.", code="invalid_agent", field=f"agents[{index}].name")
        description = str(one.get("description") or "") if isinstance(one, dict) else ""
        found.append(Specialist(name.strip(), description))
    return tuple(found)


def _known(tools: Any) -> list[str | dict[str, Any]]:
    """`config.tools` are opaque: only the names that mean something here count."""
    return [tool for tool in _list(tools) if tool == "ask_user"]


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
