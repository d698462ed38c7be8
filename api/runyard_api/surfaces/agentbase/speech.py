"""Messages piece by piece: token deltas as events, and the log's whole messages without what was sent already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Body = dict[str, Any]
_TYPES: Final = {"text": "agent_response", "thinking": "agent_thinking"}
_KINDS: Final = {"message": "text", "thinking": "thinking"}


@dataclass(slots=True)
class Speech:
    """What a run has sent so far in deltas. `content` of all events of a type, joined, is the whole text.

    Where the next attempt sends another text, the message begins again with a `_start`.
    """

    _attempt: int = 0
    _closed: int = 0  # the last turn whose whole messages have come; its deltas are old news
    _sent: dict[tuple[int, str], str] = field(default_factory=dict)

    def delta(self, attempt: int, data: Mapping[str, Any]) -> list[Body]:
        """A token delta {turn, kind, text} as events; Python agents send only a text."""
        turn, kind, text = data.get("turn", 0), data.get("kind", "text"), data.get("text")
        if kind not in _TYPES or not text or not isinstance(text, str) or 0 < turn <= self._closed:
            return []
        if attempt > self._attempt:
            self._attempt = attempt
            self._sent.clear()
        return self._emit(turn, kind, text)

    def whole(self, type_: str, data: Mapping[str, Any]) -> list[Body]:
        """A `message` or `thinking` entry of the log as events: what was not sent yet."""
        turn, kind, text = data.get("turn", 0), _KINDS[type_], str(data.get("text", ""))
        self.close(turn)
        sent = self._sent.get((turn, kind), "")
        if sent and sent.startswith(text):
            self._sent[turn, kind] = sent[len(text) :]
            return []
        if not sent or not text.startswith(sent):
            self._sent.pop((turn, kind), None)  # it begins (again)
            sent = ""
        events = self._emit(turn, kind, text[len(sent) :]) if text else []
        self._sent[turn, kind] = ""
        return events

    def close(self, turn: int) -> None:
        """The log has this turn: its deltas are over."""
        self._closed = max(self._closed, turn)

    def _emit(self, turn: int, kind: str, text: str) -> list[Body]:
        type_ = _TYPES[kind]
        begun = (turn, kind) in self._sent
        self._sent[turn, kind] = self._sent.get((turn, kind), "") + text
        delta = {"type": type_, "content": text}
        return [delta] if begun else [{"type": f"{type_}_start"}, delta]
