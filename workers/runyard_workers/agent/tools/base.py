"""A tool as the loop calls it, and how a call ends without a result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from runyard_common.runs.service.attempts import Asked

Effect = Literal["read", "idempotent", "irreversible"]
#: What a tool call may take unless the tool says otherwise, in seconds.
TOOL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `key` names it across crashes: tools pass it on as their idempotency key."""

    id: str
    key: str
    turn: int
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool offered to the model. `parameters` is a JSON Schema of an object.

    `effect` says what a crash in the middle means: read and idempotent calls are made again, an irreversible one
    waits for an operator. `review` makes every call wait for a person's approval. `source` says where the tool
    comes from (builtin, python, query, documents, agent, mcp:<server>).
    """

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[Call], Awaitable[Any]]
    effect: Effect = "idempotent"
    review: bool = False
    source: str = "builtin"
    seconds: float = TOOL_SECONDS


class ToolFailure(Exception):
    """The call failed; the message is what the agent sees, and its run goes on."""


class Waits(Exception):
    """The call has no result until a person answers (`asked`) or a child task ends (`child_id`)."""

    def __init__(self, asked: Asked | None = None, child_id: str | None = None) -> None:
        self.asked = asked
        self.child_id = child_id
        super().__init__("the call waits")
