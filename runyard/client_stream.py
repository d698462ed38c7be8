"""A run's event stream as both clients read it: where to go on after a drop, and messages into events."""

from __future__ import annotations

import json

from runyard.client_calls import BASE, Backoff, Call, Lost, Pause, Reply, failure, task
from runyard.client_results import Event

#: The server sends a comment every 15 s; silence for longer than this means that the line is dead.
SILENCE = 45.0
_PASSING = frozenset({429, 502, 503, 504})


class Place:
    """How far a reader has come, and what to do when the line drops."""

    def __init__(self, run_id: str, after: int, tokens: bool, patience: float) -> None:
        self.run_id = run_id
        self.after = after
        self.ended = False
        self._tokens = tokens
        self._backoff = Backoff(patience)

    def request(self) -> Call:
        """The request that goes on behind the last event."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        return Call(
            "GET", BASE + task(self.run_id, "/events"), {"tokens": str(self._tokens).lower()}, headers
        )

    def opened(self, status: int) -> bool:
        """Whether events follow; an ended run has none left (204)."""
        self.ended = status == 204
        if status == 200:
            self._backoff.reached()
        return status == 200

    def dropped(self, how: Reply | Lost | None) -> Pause:
        """How long to wait before going on; raises what a refusal, or the end of patience, means."""
        if isinstance(how, Reply) and how.status not in _PASSING:
            raise failure(how)
        pause = self._backoff.pause()
        if pause is None:
            raise failure(how)
        return pause

    def event(self, name: str, data: str) -> Event | None:
        """The event that was sent; None for one that was had before, and for the message that ends the stream."""
        if name == "end":
            self.ended = True
        if self.ended or not data:
            return None
        event = Event.of(json.loads(data))
        if event.seq and event.seq <= self.after:
            return None
        self.after = event.seq or self.after
        self._backoff.succeeded()
        return event
