"""A conversation as the journal keeps it: each model turn with the messages that led to it, and nothing twice.

An entry has the messages that are new since the turn before, then the model's response. Tool results are in entries
of their own and attached files in the file store: the transcript refers to both.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse

from runyard_common.runs.rules.journal import Step
from runyard_common.runs.service.steps import End
from runyard_common.sessions.queries import messages as store
from runyard_common.sessions.rules import Line
from runyard_common.usage.queries import ModelTurn
from runyard_common.usage.service import EndTurn, end_turn
from runyard_workers.agent.loop.messages import to_lines
from runyard_workers.attempts.attempt import Attempt

# The library defers this to the first use, where it would stop every run for the better part of a second.
ModelMessagesTypeAdapter.rebuild()
#: What the library can set again; keeping it would double an entry.
_DROPPED = ("run_id", "conversation_id", "instructions", "state", "timestamp")


class Transcript:
    """One conversation of an attempt. `prefix` distinguishes it from others of the same task."""

    def __init__(
        self, attempt: Attempt, prefix: str = "", images: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """`images` holds the attached images shown to the model, by file id; entries only name them."""
        self._attempt = attempt
        self._prefix = f"{prefix}:" if prefix else ""
        self._images = dict(images)
        self.turn = 0  # model turns on record
        self.agent = ""  # which agent had the last one
        self.repairs = 0  # invalid outputs before the last one
        self.history: list[ModelMessage] = []  # everything on record before `pending`
        self.pending: ModelResponse | None = None  # the last response on record, still to be acted on
        self.given = 0  # messages at the beginning that earlier runs of the session wrote
        self._saved = 0

    def turn_key(self, turn: int) -> str:
        """The journal key of a turn."""
        return f"{self._prefix}turn#{turn}"

    def tool_key(self, call_id: str) -> str:
        """The journal key of a call that the last turn made."""
        return f"{self.turn_key(self.turn)}/{call_id}"

    async def restore(self) -> bool:
        """Read what earlier attempts put on record; whether there was anything.

        Turn by turn, the values of each released once they are messages: no more than a part of the journal is in
        memory beside the conversation.
        """
        messages: list[ModelMessage] = []
        while (entry := await self._attempt.recorded(self.turn_key(self.turn + 1))) is not None:
            value, number = entry.value, self.turn + 1
            messages += await self._unpack(value["messages"], number)
            self.turn, self.agent, self.repairs = number, value["agent"], value["repairs"]
            self._attempt.replay.release(entry.key)
        if not self.turn:
            return False
        last = messages.pop()
        assert isinstance(last, ModelResponse)
        self.history, self.pending, self._saved = messages, last, len(messages) + 1
        return True

    def show(self, images: Mapping[str, bytes]) -> None:
        """These images are part of the conversation."""
        self._images.update(images)

    def pop_pending(self) -> ModelResponse | None:
        """The response to act on again, once."""
        pending, self.pending = self.pending, None
        return pending

    async def record(
        self,
        messages: Sequence[ModelMessage],
        response: ModelResponse,
        *,
        agent: str,
        turn: ModelTurn,
        events: Sequence[tuple[str, dict[str, Any]]],
        silent: Collection[str],
    ) -> None:
        """Put a turn on record with what it used, once. `messages` is the conversation that led to `response`.

        Calls of the tools named in `silent` make no conversation lines.
        """
        new = [*messages[self._saved :], response]
        value = {"agent": agent, "repairs": self.repairs, "messages": self._pack(new)}
        own = new[max(0, self.given - self._saved) :]
        lines = () if self._prefix else (*self._moved(agent), *to_lines(own, silent))
        attempt = self._attempt
        step = attempt.placed(Step(self.turn_key(self.turn + 1), "model", turn.model, "idempotent"))
        entry = End(attempt.task.id, attempt.fence, step, value, events=tuple(events))
        await attempt.write(end_turn, EndTurn(entry, turn, lines))
        self.turn, self.agent, self._saved = self.turn + 1, agent, len(messages) + 1

    def _moved(self, agent: str) -> tuple[Line, ...]:
        """The line of a hand-off, where another agent than before has the conversation."""
        if agent == self.agent or self.turn == 0:
            return ()
        return (store.handoff_line(self.agent, agent),)

    def _pack(self, messages: list[ModelMessage]) -> list[dict[str, Any]]:
        packed = []
        for message in ModelMessagesTypeAdapter.dump_python(messages, mode="json"):
            parts = [self._pack_part(part) for part in message["parts"]]
            packed.append({**_pruned(message, "parts"), "parts": parts})
        return packed

    def _pack_part(self, dumped: dict[str, Any]) -> dict[str, Any]:
        part = _pruned(dumped, "content")
        if part.get("part_kind") == "tool-return":
            entry = self._attempt.replay.entry(self.tool_key(part["tool_call_id"]))
            if entry is not None and entry.state == "done" and entry.value == _kept(part["content"]):
                part["content"] = {"$journal": True}
        elif part.get("part_kind") == "user-prompt" and isinstance(part["content"], list):
            for item in part["content"]:
                if isinstance(item, dict) and item.get("identifier") in self._images:
                    item["data"] = ""
        return part

    async def _unpack(self, packed: list[dict[str, Any]], turn: int) -> list[ModelMessage]:
        filled = [
            {**message, "parts": [await self._fill(p, turn) for p in message["parts"]]} for message in packed
        ]
        return list(ModelMessagesTypeAdapter.validate_python(filled))

    async def _fill(self, part: Mapping[str, Any], turn: int) -> dict[str, Any]:
        content = part.get("content")
        if part.get("part_kind") == "tool-return" and content == {"$journal": True}:
            entry = await self._attempt.recorded(f"{self.turn_key(turn - 1)}/{part['tool_call_id']}")
            assert entry is not None
            self._attempt.replay.release(entry.key)
            return {**part, "content": entry.value["content"]}
        if part.get("part_kind") == "user-prompt" and isinstance(content, list):
            return {**part, "content": [self._refill(item) for item in content]}
        return dict(part)

    def _refill(self, item: Any) -> Any:
        if isinstance(item, dict) and item.get("data") == "" and item.get("identifier") in self._images:
            return {**item, "data": base64.b64encode(self._images[item["identifier"]]).decode()}
        return item


def _pruned(dumped: dict[str, Any], kept: str) -> dict[str, Any]:
    """Without what the library would set again. Only the outer level: a tool's own nulls are its result."""
    return {k: v for k, v in dumped.items() if k == kept or (v is not None and k not in _DROPPED)}


def _kept(content: Any) -> dict[str, Any]:
    return {"kind": "ok", "content": content}
