"""A run as agentbase's event stream: unnamed frames without ids, one JSON object each, until the run rests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_api import sse
from runyard_api.http.call import Call
from runyard_api.surfaces.agentbase.speech import Body, Speech
from runyard_api.surfaces.agentbase.steps import Steps
from runyard_api.task_snapshot import snapshot
from runyard_common.runs.rules.lifecycle import Event
from runyard_common.stream import Subscription, Tokens
from runyard_common.values.json_text import LARGE
from runyard_common.values.logged_event import LoggedEvent
from runyard_common.webhooks.rules import callback_events as words
from runyard_common.webhooks.rules.payloads import WebhookEvent, asked_of

_CHANGES: Final = {event.value: event for event in Event}
#: Line ends to many readers of lines, though not to JSON or to event streams: sent escaped.
_LINE_ENDS: Final = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_ENDS: Final = frozenset({Event.FINISH, Event.FAIL, Event.EXPIRE, Event.CANCEL})


@dataclass(slots=True)
class RunStream:
    """A stream under way: what to send for each event of the run. `over` once all is sent."""

    call: Call
    task_id: str
    session: str | None
    streaming: bool
    heard: Subscription | None = None  # began before the run could start
    over: bool = False
    _speech: Speech = field(default_factory=Speech)
    _steps: Steps = field(default_factory=Steps)
    _has_message: bool = False
    _final: bool = False
    _number: int = 0

    async def frames(self, opening: Body, after: int) -> AsyncIterator[bytes]:
        """The frames from the log's entry after number `after` on, behind the opening one."""
        yield self._frame(opening)
        wanted = sse.Following(
            self.call.org_id, self.task_id, after, self.streaming, self.call.permitted, self.heard
        )
        async for item in sse.task_events(self.call.state, wanted):
            for event in await self._of(item):
                content = event.get("content")
                if isinstance(content, str) and len(content) > LARGE:
                    yield await self.call.in_turn(self._frame, event)
                else:
                    yield self._frame(event)
            if self.over:
                return

    def _frame(self, event: Body) -> bytes:
        body = words.body_of(event, self.task_id, self.session).translate(_LINE_ENDS)
        return f"data: {body}\n\n".encode()

    async def _of(self, item: LoggedEvent | Tokens) -> list[Body]:
        if isinstance(item, Tokens):
            return [event for data in item.tokens for event in self._speech.delta(item.attempt, data)]
        type_, data = item["type"], item["data"] or {}
        if (change := _CHANGES.get(type_)) is not None:
            return await self._of_change(change, item, data)
        return self._steps.ordered(type_, data, self._of_log(type_, data))

    def _of_log(self, type_: str, data: dict[str, Any]) -> list[Body]:
        inner = words.is_inner(data)
        self._has_message |= type_ == "message" and not inner
        self._final |= type_ == "final_output"
        if self.streaming and not inner:
            self._speech.close(data.get("turn", 0))
            if type_ in ("message", "thinking"):
                return self._speech.whole(type_, data)
        made = [self._numbered(event) for event in words.of_log(type_, data)]
        if self.streaming and type_ == "tool_call":
            return [{"type": "agent_tool_use_start"}, *made]
        return made

    def _numbered(self, event: Body) -> Body:
        """A step's event with a number that no other has in this stream: inner steps are counted apart in the log."""
        if "stepNumber" not in event:
            return event
        self._number = max(self._number + 1, event["stepNumber"])
        return event | {"step": str(self._number), "stepNumber": self._number}

    async def _of_change(self, event: Event, item: LoggedEvent, data: dict[str, Any]) -> list[Body]:
        logged = WebhookEvent("", event.value, event.value, item["seq"], item["at"], data)
        if event is Event.ASK:
            return [*self._steps.close(), *self._asked(logged)]
        if event is Event.REVIEW:
            return [*self._steps.close(), {"type": "agent_awaiting_review", "reviews": _plain(logged)}]
        if event not in _ENDS:
            return []
        self.over = True
        task = (await snapshot(self.call.state, self.call.org_id, self.task_id)).task
        spoken = self._final or (self._has_message and isinstance(task.output, str))
        if task.stored_length > LARGE:
            made = await self.call.in_turn(words.of_change, event, logged, task, spoken)
        else:
            made = words.of_change(event, logged, task, spoken)
        if self.streaming and made[0]["type"] == "agent_response":
            made = [*self._speech.whole("message", {"text": made[0]["content"]}), *made[1:]]
        return [*self._steps.close(ended=True), *made]

    def _asked(self, logged: WebhookEvent) -> list[Body]:
        """The agent has a question: this is all until the session's next message answers it."""
        self.over = True
        questions = _plain(logged)
        asked = "\n".join(str(question.get("text", "")) for question in questions)
        start = [{"type": "agent_response_start"}] if self.streaming else []
        return [
            *start,
            {"type": "agent_response", "content": asked},
            {"type": "agent_waiting_for_input", "questions": questions},
            {"type": "agent_completed", "status": "waiting_for_input"},
        ]


def _plain(logged: WebhookEvent) -> list[dict[str, Any]]:
    """What is asked, without the link for answering: who reads the stream may answer anyway."""
    return [{k: v for k, v in asked.items() if k != "answer_url"} for asked in asked_of(logged)]
