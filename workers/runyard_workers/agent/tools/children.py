"""Another agent as a tool: its run is a child task, awaited without a worker slot."""

from __future__ import annotations

from typing import Any

from runyard.errors import AgentError
from runyard_common.runs.rules.run_request import RunRequest
from runyard_workers.agent.tools.toolbox import Call, Tool, ToolFailure, Waits
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.children import Children, child_step

_MESSAGE: dict[str, Any] = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "The task, with everything it needs."}},
    "required": ["message"],
    "additionalProperties": False,
}


def agent_tool(
    attempt: Attempt,
    children: Children,
    agent: str,
    name: str,
    manifest: dict[str, Any],
    description: str = "",
) -> Tool:
    """A tool that runs `agent`; its arguments are the agent's own when it has an input schema."""
    schema = (manifest.get("input") or {}).get("schema")
    has_args = isinstance(schema, dict) and schema.get("type", "object") == "object" and not _is_open(schema)

    async def run(call: Call) -> Any:
        key = f"child:{call.key}"
        begun = await attempt.recorded(key)
        if begun is None:
            args = call.arguments if has_args else None
            message = None if has_args else call.arguments["message"]
            try:
                child_id = await children.start(attempt, key, agent, args, message, RunRequest())
            except AgentError as refusal:
                raise ToolFailure(refusal.message) from refusal
            raise Waits(child_id=child_id)
        if begun.state != "begun":
            return _output(begun.value)
        child_id = begun.detail["task_id"]
        ended = await children.result(child_id)
        if ended is None:
            raise Waits(child_id=child_id)
        await attempt.end(child_step(key, agent, child_id), ended)
        return _output(ended)

    about = description or manifest.get("description") or f"Run the agent {agent} and get its result."
    return Tool(name, about, schema if has_args and schema else _MESSAGE, run, source="agent")


def _is_open(schema: dict[str, Any]) -> bool:
    """Whether all that it asks for is an object, as the annotation `dict` does: a model needs a
    parameter to put the task into."""
    return schema.keys() <= {"type", "title", "description", "additionalProperties"} and schema.get(
        "additionalProperties", True
    ) in (True, {})


def _output(ended: dict[str, Any]) -> Any:
    if ended["status"] == "completed":
        return ended["output"]
    message = (ended["error"] or {}).get("message") or "no reason given"
    raise ToolFailure(f"The run {ended['task_id']} ended {ended['status']}: {message}")
