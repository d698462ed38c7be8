"""What LangChain's callbacks report of a graph under way: the names of its nodes, and what models used in each."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import WRITES_IDX_MAP
from pydantic import BaseModel

from runyard.turns import ModelTurn

#: Largest update of a node that its event shows, in characters of its text.
_MOST_SHOWN: Final = 16_000
_UNFINISHED: Final = frozenset(WRITES_IDX_MAP)
#: Channels of LangGraph's own, by how their names begin.
_INTERNAL: Final = ("__", "branch:", "join:")


class Observer(BaseCallbackHandler):
    """One per run. A node is known by its task id, the last part of the namespace it runs in."""

    run_inline = True  # in order, on the loop

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of tasks under way
        self._asking: dict[UUID, tuple[str, str, str]] = {}  # calls under way: their task, model and provider
        self._used: dict[str, list[ModelTurn]] = defaultdict(list)

    def on_chain_start(self, serialized: Any, inputs: Any, *, metadata: Any = None, **_: Any) -> None:
        """Note the name of a node's task."""
        task = _task_of(metadata)
        if task:
            self._names.setdefault(task, str((metadata or {}).get("langgraph_node") or ""))

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, metadata: Any = None, **_: Any
    ) -> None:
        """Note whose model call begins."""
        about = metadata or {}
        model, provider = (str(about.get(key) or "") for key in ("ls_model_name", "ls_provider"))
        self._asking[run_id] = _task_of(metadata), model, provider

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:
        """Note what a model call has used, to be counted with the writes of its node."""
        task, *asked = self._asking.pop(run_id, ("", "", ""))
        for message in (getattr(one, "message", None) for row in response.generations for one in row):
            used = getattr(message, "usage_metadata", None)
            if used:
                self._used[task].append(_turn(used, message, *asked))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A model call that failed has used nothing that is known."""
        self._asking.pop(run_id, None)

    def of_writes(self, task_id: str, path: str, writes: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
        """The events and the model turns that belong to what a task has written."""
        turns = [*self._used.pop(task_id, ()), *self._used.pop("", ())]
        finished = task_id in self._names and not any(channel in _UNFINISHED for channel, _ in writes)
        name = self._names.pop(task_id, "")
        events = [("step", {"name": name or "node"} | _shown(writes))] if finished else []
        return {"events": events, "turns": turns}


def plain(value: Any, most: int) -> Any:
    """A value as a follower of the run sees it: in JSON form, messages by their content, what has none as text.

    None for one that is longer than `most` characters.
    """
    try:
        text = json.dumps(value, default=_member, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(str(value), ensure_ascii=False)
    return json.loads(text) if len(text) <= most else None


def _member(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        calls = getattr(value, "tool_calls", None)
        return {"type": value.type, "content": value.content} | ({"tool_calls": calls} if calls else {})
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return dataclasses.asdict(value) if _is_dataclass(value) else str(value)


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _shown(writes: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    update = {channel: value for channel, value in writes if not channel.startswith(_INTERNAL)}
    shown = plain(update, _MOST_SHOWN) if update else None
    return {"update": shown} if isinstance(shown, dict) else {}


def _task_of(metadata: Any) -> str:
    ns = str((metadata or {}).get("langgraph_checkpoint_ns") or "")
    return ns.rpartition("|")[2].partition(":")[2]


def _turn(used: Mapping[str, Any], message: Any, asked: str, provider: str) -> ModelTurn:
    details = used.get("input_token_details") or {}
    about = getattr(message, "response_metadata", None) or {}
    return ModelTurn(
        None,
        str(about.get("model_name") or asked or "unknown"),
        about.get("model_provider") or provider or None,
        int(used.get("input_tokens") or 0),
        int(used.get("output_tokens") or 0),
        int(details.get("cache_read") or 0),
        str(message.text),
        finish_reason=about.get("finish_reason") or about.get("stop_reason"),
    )
