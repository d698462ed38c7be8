"""Secrets that an attempt has read, taken out of what it stores, logs and streams.

A value is found as it is, as it is written in JSON text, on one line, and line by line. What the code makes of
it (another encoding, a part, a hash) is not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from runyard import json_form

T = TypeVar("T")

REDACTED: Final = "[redacted]"
#: Shortest line, in characters, of a value of several lines that is looked for by itself.
_SHORTEST_LINE: Final = 8


class Redaction:
    """The secrets of one attempt. With none of them, nothing is looked through."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: tuple[str, ...] = ()

    def add(self, value: str) -> None:
        """From now on this value is taken out."""
        written = json_form.encode(value).decode()[1:-1]
        on_one_line = " ".join(value.split())  # as summaries of errors have it
        lines = [line for line in value.splitlines() if len(line) >= _SHORTEST_LINE]
        # The longest first: a part must not be taken out of a whole.
        self._found = tuple(
            sorted({*self._found, value, written, on_one_line, *lines}, key=len, reverse=True)
        )

    def __call__(self, value: T) -> T:
        """The value without secrets: text, JSON, or a frozen dataclass of such."""
        return self._clean(value) if self._found else value

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            for one in self._found:
                if one in value:
                    value = value.replace(one, REDACTED)
            return value
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(part) for key, part in value.items()}
        if type(value) in (list, tuple):
            return type(value)([self._clean(part) for part in value])
        if is_dataclass(value) and not isinstance(value, type):
            changed = {f.name: self._clean(getattr(value, f.name)) for f in fields(value) if f.init}
            return replace(value, **changed)
        return value
