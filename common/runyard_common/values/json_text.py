"""A JSON value that is parsed on first use: parsing a large one holds up its whole process. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from runyard import json_form

#: A JSON object: a document such as a manifest or a payload. Rows are dataclasses.
JsonObject = dict[str, Any]
#: JSON of more bytes than this is read and written on a thread, not by an event loop.
LARGE: Final = 64 * 1024
_UNREAD: Final = object()
#: An integer of more than 64 bits has 19 digits at least. Looking for a run of one byte costs far less than a pattern.
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_ZEROS: Final = b"0" * 19
_LONG_NUMBER: Final = re.compile(rb"(?:^|[\[:,\s])-?[0-9]{19}")


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


def parsed(text: str | bytes) -> Any:
    """The value that a JSON text from outside spells, its integers of more than 64 bits as text with all digits: their
    form everywhere else. Raises `orjson.JSONDecodeError`."""
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return with_all_digits(raw, orjson.loads(raw))


def with_all_digits(raw: bytes, value: Any) -> Any:
    """The `value` that orjson has made of this JSON, which makes a float of a long integer, as `parsed` gives it."""
    if _ZEROS in raw.translate(_DIGITS_AS_ZEROS) and _LONG_NUMBER.search(raw):
        return json.loads(raw, parse_int=_integer)
    return value


def _integer(digits: str) -> int | str:
    number = int(digits)
    return number if number in json_form.INTEGERS else digits
