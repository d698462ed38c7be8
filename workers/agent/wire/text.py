"""Text that every database and every JSON reader accepts: no NUL characters, no half surrogate pairs."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
_SUSPECT: Final = re.compile(rb"\x00|\\u(?:[dD][89a-fA-F]|0000)|NaN|Infinity")


def clean(text: str) -> str:
    """The text with surrogate pairs joined, and NUL characters and lone surrogates replaced by U+FFFD."""
    if _UNSTORABLE.search(text) is None:
        return text
    return text.replace("\x00", REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cleaned(value: Any) -> Any:
    """A JSON value with `clean` texts and keys; NaN and infinities are null."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): cleaned(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def parse(data: bytes) -> Any:
    """The JSON value that `data` spells, cleaned, byte order mark or not. Raises `ValueError` where it is none."""
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"))
        return cleaned(value) if _SUSPECT.search(data) else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Any) -> bytes:
    """JSON that no reader stumbles over: ASCII only."""
    return json.dumps(value, separators=(",", ":")).encode()


def clean_json(text: str) -> str:
    """`clean`, also for escapes inside text that is JSON itself, such as the arguments of a tool call."""
    text = clean(text)
    if _SUSPECT.search(text.encode()) is None:
        return text
    try:
        return json.dumps(cleaned(json.loads(text)), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return text
