"""What a graph's `interrupt(value)` asks a person, and what the answer is to the graph.

A value in one of LangChain's shapes for approvals is a review: `HITLRequest` (its human-in-the-loop middleware) and
`HumanInterrupt` (Agent Inbox). Every other value is a question.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runyard.context import Context
from runyard.errors import Rejected

#: Keys under which a value has its text, the likeliest first.
_TEXTS: Final = ("question", "query", "text", "message", "prompt", "description", "title", "action")


async def answer_all(ctx: Context, interrupts: Sequence[Any]) -> dict[str, Any]:
    """The answers by interrupt, asked together. Suspends the run until all are there."""
    given = await asyncio.gather(*(_answer(ctx, interrupt) for interrupt in interrupts))
    return {interrupt.id: answer for interrupt, answer in zip(interrupts, given, strict=True)}


async def _answer(ctx: Context, interrupt: Any) -> Any:
    value, id_ = interrupt.value, interrupt.id
    if isinstance(value, Mapping) and isinstance(value.get("action_requests"), Sequence):
        return await _decisions(ctx, id_, value)
    requests = value if isinstance(value, list) else [value]
    if requests and all(
        isinstance(one, Mapping) and isinstance(one.get("action_request"), Mapping) for one in requests
    ):
        return list(
            await asyncio.gather(*(_response(ctx, f"{id_}.{n}", one) for n, one in enumerate(requests)))
        )
    schema = getattr(interrupt, "response_schema", None)
    options = value.get("options") if isinstance(value, Mapping) else None
    return await ctx.ask(
        _text(value),
        key=id_,
        schema=schema if isinstance(schema, Mapping) else None,
        options=options if _is_texts(options) and schema is None else None,
    )


async def _decisions(ctx: Context, id_: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a `HITLRequest`: a decision for each action, in order."""
    configs = {one.get("action_name"): one for one in request.get("review_configs") or ()}

    async def decide(number: int, action: Mapping[str, Any]) -> dict[str, Any]:
        name, args = str(action.get("name")), action.get("args") or {}
        config = configs.get(name) or {}
        allowed = config.get("allowed_decisions") or ("approve", "edit", "reject")
        schema = config.get("args_schema") if "edit" in allowed else {"const": args}
        try:
            decided = await ctx.review(name, args, schema=schema, key=f"{id_}.{number}")
        except Rejected as rejected:
            if "reject" not in allowed:
                raise
            return {"type": "reject", "message": rejected.message}
        if decided == args and "approve" in allowed:
            return {"type": "approve"}
        return {"type": "edit", "edited_action": {"name": name, "args": decided}}

    return {
        "decisions": list(
            await asyncio.gather(*(decide(n, a) for n, a in enumerate(request["action_requests"])))
        )
    }


async def _response(ctx: Context, key: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a `HumanInterrupt`."""
    action, allowed = request["action_request"], request.get("config") or {}
    name, args = str(action.get("action")), action.get("args") or {}
    schema = None if allowed.get("allow_edit", True) else {"const": args}
    try:
        decided = await ctx.review(name, args, schema=schema, key=key)
    except Rejected as rejected:
        if allowed.get("allow_respond"):
            return {"type": "response", "args": rejected.message}
        if allowed.get("allow_ignore", True):
            return {"type": "ignore", "args": None}
        raise
    if decided == args:
        return {"type": "accept", "args": None}
    return {"type": "edit", "args": {"action": action.get("action"), "args": decided}}


def _text(value: Any) -> str:
    """What the person reads: the value's own text, with the rest of the value below."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Mapping):
        name = next((key for key in _TEXTS if isinstance(value.get(key), str) and value[key].strip()), None)
        rest = {key: one for key, one in value.items() if key not in (name, "options")}
        if name is not None:
            return f"{value[name]}\n{_shown(rest)}" if rest else str(value[name])
    return _shown(value)


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, indent=1)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
