"""POST /get-messages and /clear-messages: the history of a conversation."""

from __future__ import annotations

from typing import Final, Literal

import orjson
from pydantic import Field
from starlette.responses import Response

from runyard_api.http.call import Call, reply
from runyard_api.http.operations import Answer
from runyard_api.http.request_body import Tolerant
from runyard_api.surfaces.agentbase.front import AgentbaseRoutes
from runyard_api.surfaces.agentbase.runs import find_conversation
from runyard_common.sessions.queries import messages
from runyard_common.sessions.rules import Message
from runyard_common.sessions.service import sessions
from runyard_common.values.models import Model
from runyard_common.webhooks.rules.payloads import dump

routes = AgentbaseRoutes()

#: Types of conversation lines, and what they are called here; other lines are not shown.
_TYPES: Final = {
    "user_message": "user_message",
    "agent_thinking": "agent_thinking",
    "agent_response": "agent_response",
    "question": "agent_response",
    "agent_tool_use": "agent_tool_use",
}


class AgentbaseSession(Tolerant):
    """Which conversation. Unknown parameters are tolerated."""

    session: str = Field(max_length=255, description="The conversation.")


class AgentbaseMessage(Model):
    """One line of a conversation."""

    type: Literal["user_message", "agent_thinking", "agent_response", "agent_tool_use"]
    content: str


class AgentbaseCleared(Model):
    """The conversation is empty."""

    success: Literal[True]
    message: str


@routes.post(
    "/get-messages",
    "sessions:read",
    query=AgentbaseSession,
    answers=[
        Answer(
            200, "The lines, oldest first.", {"type": "array", "items": AgentbaseMessage.model_json_schema()}
        )
    ],
    errors=(404,),
)
async def get_messages(call: Call) -> Response:
    """Read the history of a session."""
    session_id = (await find_conversation(call, call.query(AgentbaseSession).session)).session.id
    rows = await call.read(messages.of_session, session_id)
    return await call.reply_with(
        (), lambda: [_line(row) for row in rows if row.type in _TYPES], besides=rows.bytes
    )


def _line(row: Message) -> dict[str, str]:
    type_, content = _TYPES[row.type], row.content
    if type_ == "agent_tool_use" and isinstance(content, dict):
        given = content.get("input")
        text = given if isinstance(given, str) else dump(given).decode()
        content = {"tool": content.get("tool"), "input": text}
    return {"type": type_, "content": content if isinstance(content, str) else orjson.dumps(content).decode()}


@routes.post(
    "/clear-messages",
    "sessions:write",
    query=AgentbaseSession,
    answers=[Answer(200, "They are erased.", AgentbaseCleared)],
    errors=(404,),
)
async def clear_messages(call: Call) -> Response:
    """Erase the history of a session; the session stays."""
    session_id = (await find_conversation(call, call.query(AgentbaseSession).session)).session.id
    await call.write(sessions.clear, session_id, call.actor)
    return reply({"success": True, "message": "Messages cleared"})
