"""Options of a run that could only fail in it: judged when the run is asked for, under the caller's own field names.

The worker judges an agent's manifest and a request together; so does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runyard_common.runs.rules.run_request import Knowledge
from runyard_common.values.errors import InvalidRequest

Options = Mapping[str, Any]


def check(options: Options, manifest: Options) -> Knowledge:
    """What is to be looked up of these options, with those of the agent's manifest.

    Errors: `InvalidRequest` invalid_mcp_server, invalid_agent, invalid_query, invalid_options, invalid_workflow.
    """
    config: Options = manifest.get("config") or {}
    _check_servers(options, config)
    _check_names(options, "agents", "invalid_agent", ("name",))
    _check_names(options, "queries", "invalid_query", ("name", "query"))
    _check_workflows(options, config)
    stores = (
        *(("agent", _text(one.get("id") or one.get("name"))) for one in _objects(config, "datastores")),
        *((f"datastores[{i}].id", one["id"]) for i, one in enumerate(options.get("datastores") or ())),
    )
    own = _objects(config, "queries")
    queries = (
        *(("agent", _text(one.get("name")), one.get("datastore") or one.get("datastore_id")) for one in own),
        *(
            (f"queries[{i}]", one["name"], one.get("datastore"))
            for i, one in enumerate(options.get("queries") or ())
        ),
    )
    if queries and not stores:
        raise InvalidRequest(
            "Queries run on a database: name one in `datastores`.", code="invalid_options", field="queries"
        )
    return Knowledge(stores, queries)


def _check_servers(options: Options, config: Options) -> None:
    """Names of servers are unique: they are the prefixes of their tools' names."""
    seen = {_text(one.get("serverName") or one.get("name")) for one in _objects(config, "mcp_servers")}
    for index, server in enumerate(options.get("mcp_servers") or ()):
        name = server["serverName"].strip()
        if not name or name in seen:
            message = "An MCP server needs a name." if not name else f"Two MCP servers are called {name!r}."
            raise InvalidRequest(message, code="invalid_mcp_server", field=f"mcp_servers[{index}].serverName")
        seen.add(name)


def _check_names(options: Options, what: str, code: str, needed: tuple[str, ...]) -> None:
    """Each is named, and otherwise than the others: a model is offered one of each name."""
    seen: set[str] = set()
    for index, one in enumerate(options.get(what) or ()):
        if one["name"].strip() in seen:
            message = f"Two of {what} are called {one['name'].strip()!r}; rename one."
            raise InvalidRequest(message, code=code, field=f"{what}[{index}].name")
        seen.add(one["name"].strip())
        for field in needed:
            if not one[field].strip():
                raise InvalidRequest(
                    f"{field} has only white space; fill it in.", code=code, field=f"{what}[{index}].{field}"
                )


def _check_workflows(options: Options, config: Options) -> None:
    seen = {_text(one.get("id")) for one in _objects(config, "workflows")}
    for index, flow in enumerate(options.get("workflows") or ()):
        if flow["id"] in seen:
            raise InvalidRequest(
                f"Two workflows have the id {flow['id']!r}.",
                code="invalid_workflow",
                field=f"workflows[{index}].id",
            )
        seen.add(flow["id"])


def _objects(config: Options, name: str) -> list[Options]:
    given = config.get(name)
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _text(value: Any) -> str:
    return str(value or "").strip()
