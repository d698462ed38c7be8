"""The items of a session of the OpenAI Agents SDK: those of the conversation that the run belongs to."""

from __future__ import annotations

import copy
from typing import Any, Final

from agents.memory import SessionABC

from runyard.context import Context, SessionInfo

_LOG: Final = "openai_agents"
#: Where a context keeps it. Not in a table by context: what it holds refers to the context, which would never go.
_KEPT: Final = "_openai_agents_session"


class RunSession(SessionABC):
    """Items are kept in memory while the run is under way, whose replay makes them again, and on record at its end.

    A run begins with what the last completed run of this agent in the conversation ended with; without one, with the
    conversation's messages.
    """

    def __init__(self, ctx: Context, conversation: SessionInfo) -> None:
        self.session_id = conversation.id
        self._conversation = conversation
        self._log = ctx.checkpoint_log(_LOG)
        self._items: list[Any] = []
        self._saved = 0  # by this attempt

    @classmethod
    async def of(cls, ctx: Context) -> RunSession | None:
        """The session of a run, the same for all of its agents; None for a run that belongs to no conversation."""
        if ctx.session is None:
            return None
        found: RunSession | None = vars(ctx).get(_KEPT)
        if found is None:
            found = vars(ctx)[_KEPT] = cls(ctx, ctx.session)
            await found._begin()
        return found

    async def _begin(self) -> None:
        if self._log.entries:
            self._items = await self._log.read(1)
            return
        past = await self._log.previous()
        if past is not None:
            self._items = await past.read(past.entries[-1].number)
        else:
            self._items = [line for line in map(_message, self._conversation.history) if line is not None]
        # Another run may end before this one is resumed, which has to begin with the same.
        await self._log.write({"kind": "seed"}, self._items)

    async def save(self) -> None:
        """Put the items on record, once across crashes."""
        self._saved += 1
        if len(self._log.entries) <= self._saved:
            await self._log.write({"kind": "items"}, self._items)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """See `Session`."""
        return copy.deepcopy(self._items if limit is None else self._items[-limit:] if limit > 0 else [])

    async def add_items(self, items: list[Any]) -> None:
        """See `Session`."""
        self._items += copy.deepcopy(items)

    async def pop_item(self) -> Any:
        """See `Session`."""
        return self._items.pop() if self._items else None

    async def clear_session(self) -> None:
        """See `Session`."""
        self._items.clear()


def _message(line: Any) -> dict[str, Any] | None:
    """A line of the conversation as an item."""
    content = line["content"]
    text = content if isinstance(content, str) else str(content)
    if line["type"] == "user_message":
        return {"role": "user", "content": text}
    return {"role": "assistant", "content": text} if line["type"] in ("agent_response", "question") else None
