"""Agentbase's event streams, read byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Frames:
    """A stream: its raw text so far, its events and comments."""

    response: httpx2.Response
    raw: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rest = self._read()

    def until(self, type_: str) -> dict[str, Any]:
        """Read on to the first event of this type."""
        for event in self:
            if event["type"] == type_:
                return event
        raise AssertionError(f"no {type_} in {self.types}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._rest

    def _read(self) -> Iterator[dict[str, Any]]:
        pending = ""
        for text in self.response.iter_text():
            self.raw += text
            pending += text
            *frames, pending = pending.split("\n\n")
            for frame in frames:
                event = self._parse(frame)
                if event is not None:
                    yield event
        assert pending == "", "the stream ends within a frame"

    def _parse(self, frame: str) -> dict[str, Any] | None:
        assert "\n" not in frame, frame
        if frame.startswith(":"):
            self.comments.append(frame)
            return None
        assert frame.startswith("data: "), frame
        event: dict[str, Any] = json.loads(frame.removeprefix("data: "))
        self.events.append(event)
        return event

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def text(self, type_: str = "agent_response") -> str:
        """What a client that joins the events of a type makes of them."""
        return "".join(event["content"] for event in self.events if event["type"] == type_)


@contextmanager
def streaming(
    client: httpx2.Client, message: str, path: str = "/", params: dict[str, str] | None = None, **fields: Any
) -> Iterator[Frames]:
    """Run an agent and hold its stream open."""
    body = {"message": message} | fields
    with client.stream("POST", path, json=body, params=params or {}) as response:
        if response.status_code != 200:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Frames(response)


def run(
    client: httpx2.Client, message: str, path: str = "/", params: dict[str, str] | None = None, **fields: Any
) -> Frames:
    """Run an agent and read its stream to the end."""
    with streaming(client, message, path, params, **fields) as frames:
        for _ in frames:
            pass
        return frames
