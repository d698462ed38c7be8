"""Surrogate pairs that a stream cuts in two: the first half waits for the event that brings the second."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from runyard_workers.agent.wire.text import cleaned, is_suspect

_FIRST: Final = re.compile(r"[\ud800-\udbff]\Z")


class Joiner:
    """Parses the events of one stream, in their order."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str | int, ...], str] = {}

    def parse(self, data: bytes) -> Any:
        """The JSON value of an event with storable text. Raises `ValueError` where it is none."""
        try:
            value = json.loads(data.decode("utf-8-sig", "replace"))
            if not self._waiting and not is_suspect(data):
                return value
            return cleaned(self._joined(value, ()))
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _joined(self, value: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._joined(one, (*path, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self._joined(one, (*path, index)) for index, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        text = self._waiting.pop(path, "") + value if value else value
        if _FIRST.search(text):
            self._waiting[path] = text[-1]
            text = text[:-1]
        return text
