"""A task's log as the events that its callbacks are sent (docs/callbacks.md). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.runs.rules.tasks import Task, outward
from runyard_common.values.json_text import JsonObject
from runyard_common.webhooks.rules.payloads import MOST_BYTES, WebhookEvent, asked_of, dump, when

Body = JsonObject
#: The type of the last POST of a run: the completion.
COMPLETION: Final = {
    Status.COMPLETED: "run.completed",
    Status.FAILED: "run.failed",
    Status.STOPPED: "run.stopped",
}
#: A balance below this is reported as low, in millionths of a USD.
LOW_MICROS: Final = 1_000_000


def of_log(type_: str, data: Mapping[str, Any]) -> list[Body]:
    """An entry of a running agent's log as zero or more events, still without their session."""
    made = _MADE.get(type_)
    return made(data) if made else []


def of_change(event: Event, logged: WebhookEvent, task: Task, has_spoken: bool) -> list[Body]:
    """A change of state as events. `has_spoken`: the log has the agent's answer as a message already."""
    match event:
        case Event.CLAIM if task.attempt == 1:
            return [{"type": "agent_started"}]
        case Event.ASK:
            return [{"type": "agent_waiting_for_input", "questions": asked_of(logged)}]
        case Event.REVIEW:
            return [{"type": "agent_awaiting_review", "reviews": asked_of(logged)}]
        case Event.FINISH:
            answer = [] if has_spoken or task.output is None else [_response(task.output)]
            return [*answer, {"type": "agent_completed"}]
        case Event.FAIL | Event.EXPIRE | Event.CANCEL:
            return [failure(task)]
    return []


def failure(task: Task) -> Body:
    """The event of a run that failed or was stopped; its text is where either kind of client looks."""
    error = task.error or {}
    text = error.get("message", "")
    return {
        "type": "agent_error", "content": text, "error": text, "code": error.get("code"), "cause": error.get("cause"),
    }  # fmt: skip


def completion(task: Task, event_id: str, at: float, statuses: Mapping[str, str]) -> Body:
    """The last POST of a run: how it ended. `statuses` are the caller's words for ours."""
    status = task.status.value
    return {
        "id": event_id,
        "type": COMPLETION[task.status],
        "taskId": task.id,
        "task_id": task.id,
        "session": task.session_id,
        "status": statuses.get(status, status),
        "timestamp": when(at),
        "output": task.output,
        "error": outward(task.final_error),
    }


def body_of(event: Body, task_id: str, session: str | None) -> str:
    """An event as the text to send; content that is too long is cut, and marked so."""
    whole = {"type": event["type"], "session": session, "task_id": task_id} | event
    text = dump(whole)
    for name in ("content", "final_output", "output", "data", "questions", "reviews", "error"):
        if len(text) > MOST_BYTES and name in whole:
            kept = whole[name][: MOST_BYTES // 8] if isinstance(whole[name], str) else None
            text = dump(whole := whole | {name: kept, "truncated": True})
    return text.decode()


def _response(output: Any) -> Body:
    return {"type": "agent_response", "content": output if isinstance(output, str) else dump(output).decode()}


def _thinking(data: Mapping[str, Any]) -> list[Body]:
    return [{"type": "agent_thinking", "content": data.get("text", "")}]


def is_inner(data: Mapping[str, Any]) -> bool:
    """Whether an entry of the log belongs to a step of a workflow or to the final output, and not to the answer."""
    return "workflow" in data or "phase" in data


def _message(data: Mapping[str, Any]) -> list[Body]:
    """A message of a workflow's step is no answer to the user."""
    type_ = "agent_thinking" if is_inner(data) else "agent_response"
    return [{"type": type_, "content": data.get("text", "")}]


def _tool_use(data: Mapping[str, Any]) -> list[Body]:
    """`content` is JSON in a string, and so is the `input` in it."""
    arguments = data.get("arguments")
    given = arguments if isinstance(arguments, str) else dump(arguments).decode()
    content = dump({"tool": data.get("tool"), "input": given}).decode()
    return [{"type": "agent_tool_use", "content": content}]


def _tool_response(data: Mapping[str, Any]) -> list[Body]:
    content = dump({"tool": data.get("tool"), "content": data.get("result")}).decode()
    return [{"type": "agent_tool_response", "content": content}]


def _turn(data: Mapping[str, Any]) -> list[Body]:
    """A step is over: its number, what it cost, and what is left to the organisation that pays in advance.

    Turns of inner steps are counted separately and name what they belong to. `workflow` marks the steps' own ends.
    """
    turn, cost, left = data.get("turn", 0), int(data.get("cost_micros") or 0), data.get("balance_micros")
    price = {
        "type": "agent_cost",
        "cost": f"{cost / 1_000_000:.6f}",
        "balance": 0 if left is None else left / 1_000_000,
        "deductionSuccess": left is None or left >= 0,
        "lowBalance": left is not None and left < LOW_MICROS,
    }
    where = {name: data[name] for name in ("workflow", "step", "phase") if name in data}
    step = {"type": "agent_step", "step": str(turn), "stepNumber": turn}
    return [step | ({"within": where} if where else {}), price]


def _step(data: Mapping[str, Any]) -> list[Body]:
    return [{"type": "agent_step", "step": data.get("name")}]


def _workflow_step(data: Mapping[str, Any]) -> list[Body]:
    """A step of a workflow is over, one way or the other."""
    if data.get("state") not in ("completed", "skipped", "failed"):
        return []
    names = ("step", "workflow", "state")
    return [{"type": "agent_step"} | {name: data.get(name) for name in names}]


def _handoff(data: Mapping[str, Any]) -> list[Body]:
    return [{"type": "agent_transfer", "agent": data.get("to"), "context": data.get("reason")}]


def _final_output(data: Mapping[str, Any]) -> list[Body]:
    content = data.get("content")
    broken = {"violations": data["violations"]} if "violations" in data else {}
    made = {
        "type": "agent_final_output",
        "name": data.get("name"),
        "content": content,
        "final_output": content,
    }
    return [made | broken]


def _custom(data: Mapping[str, Any]) -> list[Body]:
    return [{"type": "agent_event", "name": data.get("name"), "data": data.get("data")}]


def _mcp_server(data: Mapping[str, Any]) -> list[Body]:
    """A server that cannot be used is no end of the run: its agent goes on without it."""
    if data.get("state") != "failed":
        return []
    names = ("server", "error", "code", "http_status")
    return [
        {"type": "agent_event", "name": "mcp_server_failed", "data": {name: data.get(name) for name in names}}
    ]


def _progress(data: Mapping[str, Any]) -> list[Body]:
    return [
        {"type": "agent_progress", "fraction": data.get("fraction"), "content": data.get("message") or ""}
    ]


_MADE: Final[dict[str, Any]] = {
    "thinking": _thinking,
    "message": _message,
    "tool_call": _tool_use,
    "tool_result": _tool_response,
    "model_turn": _turn,
    "step": _step,
    "workflow_step": _workflow_step,
    "handoff": _handoff,
    "mcp_server": _mcp_server,
    "final_output": _final_output,
    "custom": _custom,
    "progress": _progress,
}
