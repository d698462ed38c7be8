"""The OpenAI chat completions wire format: request → completion, pieces of an answer → JSON and chunks."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from runyard_launch.localmodel.completion import BadCompletion, Completion, Ending
from runyard_launch.localmodel.schemas import bounded
from runyard_launch.localmodel.tool_calls import (
    TEXT,
    Reply,
    Tool,
    choice_schema,
    flattened,
    instruction,
    offered,
    reply_of,
)

_PASSED_ON = ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty")
_TOKENS_BY_DEFAULT = 256
_TOKENS_FOR_JSON = 768


@dataclass(frozen=True)
class Chat:
    """One parsed request.

    Its answer is plain text; or, with `call`, the arguments of the only tool there is to call; or, with
    `choice`, one of several tools or a reply, which is known only once it is whole.
    """

    completion: Completion
    call: str | None
    choice: bool
    stream: bool
    include_usage: bool

    def read(self, text: str) -> Reply:
        """The whole answer."""
        if self.call:
            return Reply(tool=self.call, arguments=text)
        return reply_of(text) if self.choice else Reply(text=text)


def parse(body: Any) -> Chat:
    """Read a request body; `BadCompletion` names what is wrong."""
    if not isinstance(body, dict) or not isinstance(messages := body.get("messages"), list) or not messages:
        raise BadCompletion("messages must be a non-empty list")
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
        raise BadCompletion("every message needs a role")
    choice = body.get("tool_choice") or "auto"
    tools = offered([_tool(item) for item in body.get("tools") or []], choice, messages)
    flat = flattened(messages)
    schema = _response_schema(body.get("response_format"))
    only = tools[0] if len(tools) == 1 and choice != "auto" else None
    if only:
        schema = dict(bounded(only.parameters))
    elif tools:
        schema = choice_schema(tools, (schema or TEXT) if choice == "auto" else None)
    if tools:
        flat = _with_instruction(flat, instruction(tools))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    completion = Completion(
        messages=flat,
        schema=schema,
        max_tokens=limit or (_TOKENS_FOR_JSON if schema else _TOKENS_BY_DEFAULT),
        sampling={key: body[key] for key in _PASSED_ON if body.get(key) is not None},
    )
    options = body.get("stream_options") or {}
    return Chat(
        completion,
        call=only.name if only else None,
        choice=bool(tools) and only is None,
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
    )


@dataclass(frozen=True)
class Answer:
    """Renders one answer of the model `model`, whole or in chunks, under one id."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, reply: Reply, ending: Ending) -> dict[str, Any]:
        """The body of a response that is not streamed."""
        message = {"role": "assistant", "content": reply.text, **_calls(reply)}
        choice = {"index": 0, "message": message, "finish_reason": _reason(reply, ending), "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(ending)}

    def begin(self, chat: Chat) -> str:
        """The event that opens a stream of pieces."""
        if chat.call:
            return self.reply(Reply(tool=chat.call, arguments=""))
        return self._delta({"role": "assistant", "content": ""})

    def piece(self, chat: Chat, text: str) -> str:
        """A piece of text, or of the arguments of the only call."""
        if chat.call:
            return self._delta({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return self._delta({"content": text})

    def reply(self, reply: Reply) -> str:
        """A finished reply as one event."""
        calls = [{**call, "index": index} for index, call in enumerate(_calls(reply).get("tool_calls", []))]
        return self._delta(
            {"role": "assistant", "content": reply.text, **({"tool_calls": calls} if calls else {})}
        )

    def end(self, reply: Reply, ending: Ending, include_usage: bool) -> str:
        """The events that close a stream."""
        last = self._event([{"index": 0, "delta": {}, "finish_reason": _reason(reply, ending)}])
        usage = self._event([], usage=_usage(ending)) if include_usage else ""
        return f"{last}{usage}data: [DONE]\n\n"

    def _delta(self, delta: dict[str, Any]) -> str:
        return self._event([{"index": 0, "delta": delta, "finish_reason": None}])

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return f"data: {json.dumps({**self._head('chat.completion.chunk'), 'choices': choices, **more})}\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def error(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error body."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _tool(item: Any) -> Tool:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadCompletion("every tool needs a function with a name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return Tool(function["name"], function.get("description") or "", parameters)


def _response_schema(wanted: Any) -> dict[str, Any] | None:
    match wanted:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return dict(bounded(schema))
        case {"type": "json_object"}:
            return {"type": "object"}
        case None | {"type": "text"}:
            return None
    raise BadCompletion("response_format must be text, json_object, or json_schema with a schema")


def _with_instruction(messages: list[dict[str, str]], text: str) -> list[dict[str, str]]:
    if messages and messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _calls(reply: Reply) -> dict[str, Any]:
    if reply.tool is None:
        return {}
    function = {"name": reply.tool, "arguments": reply.arguments}
    return {"tool_calls": [{"id": f"call_{uuid.uuid4().hex[:16]}", "type": "function", "function": function}]}


def _reason(reply: Reply, ending: Ending) -> str:
    return "tool_calls" if reply.tool and ending.reason == "stop" else ending.reason


def _usage(ending: Ending) -> dict[str, int]:
    prompt, answer = ending.prompt_tokens, ending.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
