"""`ask_user`: the agent asks its user and the run waits, holding nothing, until the answer comes."""

from __future__ import annotations

from typing import Any

from runyard_common.agents.rules.tool_access import ASK_USER
from runyard_common.human_tasks.rules import on_no_answer
from runyard_common.runs.service.attempts import Asked
from runyard_workers.agent.tools.toolbox import Call, Tool, Waits
from runyard_workers.attempts.attempt import Attempt

NAME = ASK_USER
_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "description": "What to ask, in full."},
        "options": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Answers to choose from, if only these make sense.",
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}


def ask_user(attempt: Attempt, rule: dict[str, Any] | None = None) -> Tool:
    """The tool. `rule` ``{timeout, on_timeout: fail | default, default}`` limits the time for an answer."""
    rule = rule or {}
    outcome = rule.get("on_timeout") or on_no_answer(None, "default" in rule)

    async def ask(call: Call) -> Any:
        key = f"ask:{call.key}"
        answered = attempt.answer(key)
        if answered is not None:
            answer = answered.answer
            return "The user did not answer." if answer is None else answer
        payload: dict[str, Any] = {"text": call.arguments["question"], "turn": call.turn}
        if call.arguments.get("options"):
            payload |= {"options": call.arguments["options"]}
        on_timeout = {"outcome": outcome, "value": rule.get("default")}
        raise Waits(Asked(key, "question", payload, rule.get("timeout"), on_timeout))

    description = (
        "Ask the user a question and wait for the answer. Use it only when you cannot go on without it."
    )
    return Tool(NAME, description, _PARAMETERS, ask, effect="read")
