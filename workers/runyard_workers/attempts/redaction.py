"""Secrets that an attempt has read, taken out of what it stores, logs and streams.

A value is found as it is, as JSON and Python write it in text, on one line, and line by line. What the code makes of
it (another encoding, a part, a hash) is not found. What has a meaning to the engine is not looked through: names and
keys of events, agents, values and questions are for everybody to see, and a run is found by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from runyard import json_form
from runyard_common.human_tasks.service.answers import APPROVALS
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.lifecycle import Status

T = TypeVar("T")

REDACTED: Final = "[redacted]"
#: Shortest secret, and shortest line of one of several lines, in characters, that is looked for.
_SHORTEST: Final = 4
_SHORTEST_LINE: Final = 8
#: Words by which the engine goes on with a run: who has one as a secret has none.
_OURS: Final = {*Status, *APPROVALS, "done", "failed", "rejected", "deferred", "begun"}
#: Fields of commands that are text for people; other texts in a command are what the engine works with.
_TEXTS: Final = {"content", "message", "output", "reason", "text", "title", "traceback", "value"}


class Redaction:
    """The secrets of one attempt. With none of them, nothing is looked through."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: tuple[str, ...] = ()

    def add(self, value: str) -> None:
        """From now on this value is taken out, unless it is too short or one of the engine's words."""
        written = (json_form.encode(value).decode(), json.dumps(value), repr(value), repr(value + "'"))
        forms = {value, " ".join(value.split())}  # on one line, as summaries of errors have it
        forms |= {written[0][1:-1], written[1][1:-1], written[2][1:-1], written[3][1:-2]}
        forms |= {line for line in value.splitlines() if len(line) >= _SHORTEST_LINE}
        wanted = {one for one in forms if len(one) >= _SHORTEST and one not in _OURS}
        # The longest first: a part must not be taken out of a whole.
        self._found = tuple(sorted({*self._found, *wanted}, key=len, reverse=True))

    def __call__(self, value: T) -> T:
        """The value without secrets: text, JSON, or a frozen dataclass of such."""
        return self._clean(value) if self._found else value

    def _clean(self, value: Any) -> Any:
        if type(value) is str:
            for one in self._found:
                if one in value:
                    value = value.replace(one, REDACTED)
            return value
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(part) for key, part in value.items()}
        if type(value) in (list, tuple):
            return type(value)([self._clean(part) for part in value])
        if is_dataclass(value) and not isinstance(value, type):
            return self._command(value)
        return value

    def _command(self, value: Any) -> Any:
        """A command, or a part of one. A step's name is what people see of it; its key was made without secrets."""
        texts = _TEXTS | {"name"} if isinstance(value, Step) else _TEXTS
        changed: dict[str, Any] = {}
        for name in (field.name for field in fields(value) if field.init):
            part = getattr(value, name)
            if name == "events":
                changed[name] = self._logged(part)
            elif isinstance(part, Mapping) or is_dataclass(part) or name in texts:
                changed[name] = self._clean(part)
            elif type(part) in (list, tuple):
                changed[name] = type(part)(
                    [one if isinstance(one, str) else self._clean(one) for one in part]
                )
        return replace(value, **changed)

    def _logged(self, events: Any) -> Any:
        """Events (type, data) of a log; keys, of a wait."""
        return tuple((one[0], self._clean(one[1])) if isinstance(one, tuple) else one for one in events)
