"""What people have answered in a run, as its code asks for it again, by key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runyard.errors import JournalMismatch
from runyard_common.human_tasks.rules import Question
from runyard_workers.agent_code.values import shown

#: Keys of questions and reviews that the order of the calls gives, outside `gather` and steps: those that the code
#: names are ``ask=key``, those of a scope have it before a slash.
_BY_ORDER: Final = re.compile(r"ask#\d+(\..*)?|review:[^/]*#\d+", re.DOTALL)


class Answers:
    """Those of one attempt."""

    __slots__ = ("_asked", "_closed")

    def __init__(self) -> None:
        self._closed: dict[str, Question] | None = None  # made when first asked for: most runs ask nothing
        self._asked: set[str] = set()

    def of(self, key: str, known: Sequence[Question]) -> Question | None:
        """The question of this key, once it was answered. `known` are all of the run."""
        self._asked.add(key)
        return self._of(known).get(key)

    def _of(self, known: Sequence[Question]) -> dict[str, Question]:
        if self._closed is None:
            self._closed = {q.key: q for q in reversed(known) if q.state in ("answered", "expired")}
        return self._closed

    def unasked(self, known: Sequence[Question]) -> list[Question]:
        """The answered ones that the code has not asked for again: those found by order alone. One with a key of its
        own may be left out, as the code chooses."""
        return [
            q
            for key, q in self._of(known).items()
            if key not in self._asked and q.payload.get("kind") != "tool" and _BY_ORDER.fullmatch(key)
        ]

    def refuse_new(self, key: str, payload: Mapping[str, Any], known: Sequence[Question]) -> None:
        """Raise `JournalMismatch` for something new that is asked while answered questions are left out: what people
        have answered would be lost."""
        left = self.unasked(known)
        if left:
            raise JournalMismatch(
                f"The agent asks {shown(subject(payload))} ({key}) where its journal has an answer to "
                f"{shown(subject(left[0].payload))} ({left[0].key}): its code changed while this task was under way. "
                "Cancel it and run it again, or deploy the version it began with.",
                step=key,
                journaled=[one.key for one in left],
            )


def subject(payload: Mapping[str, Any]) -> str:
    """What a question or review is about, in short."""
    return str(payload.get("action") or payload.get("text") or "")[:100]
