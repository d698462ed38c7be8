"""A JSON value that is parsed on first use: parsing a large one holds up its whole process. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

#: A JSON object: a document such as a manifest or a payload. Rows are dataclasses.
JsonObject = dict[str, Any]
#: JSON of more bytes than this is read and written on a thread, not by an event loop.
LARGE: Final = 64 * 1024
_UNREAD: Final = object()


class JsonText:
    """The text of one JSON value, read once at most."""

    __slots__ = ("_value", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._value: Any = _UNREAD

    @property
    def is_large(self) -> bool:
        """Whether an event loop should leave its reading to a thread."""
        return self._value is _UNREAD and len(self.text) > LARGE

    @property
    def value(self) -> Any:
        """The value of the text."""
        if self._value is _UNREAD:
            self._value = orjson.loads(self.text)
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def read(stored: Any) -> Any:
    """The value of what may be text yet."""
    return stored.value if isinstance(stored, JsonText) else stored
