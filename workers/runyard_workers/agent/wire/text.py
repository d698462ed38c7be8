"""Text that every database and every JSON reader accepts: no NUL characters, no half surrogate pairs."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

REPLACEMENT: Final = "\ufffd"
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
#: Escapes of what `clean` replaces, and numbers that may be too long or not finite.
_SUSPECT: Final = re.compile(rb"\x00|\\u(?:[dD][89a-fA-F]|0000)|NaN|Infinity|\d{19}|[eE]\+?\d{3}")
#: How deeply a value may be nested; some of the JSON writers in use stop at 254.
DEEPEST: Final = 100
_MOST_BITS: Final = 4096


def clean(text: str) -> str:
    """The text with surrogate pairs joined, and NUL characters and lone surrogates replaced by U+FFFD."""
    if _UNSTORABLE.search(text) is None:
        return text
    return text.replace("\x00", REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cleaned(value: Any, depth: int = 0) -> Any:
    """A JSON value that every JSON writer accepts: `clean` texts and keys, null for NaN and infinities, text for
    integers of more than 64 bits. Raises `ValueError` for one nested more than `DEEPEST` times."""
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): cleaned(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(one, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value) if value.bit_length() < _MOST_BITS else None
    return value


def parse(data: bytes) -> Any:
    """The JSON value that `data` spells, cleaned, byte order mark or not. Raises `ValueError` where it is none."""
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"))
        return cleaned(value) if is_suspect(data) else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def dump(value: Any) -> bytes:
    """JSON that no reader stumbles over: ASCII only."""
    return json.dumps(value, separators=(",", ":")).encode()


def clean_json(text: str) -> str:
    """`clean`, also inside text that is JSON itself, such as the arguments of a tool call; see `cleaned`."""
    text = clean(text)
    if not is_suspect(text.encode()):
        return text
    try:
        return json.dumps(cleaned(json.loads(text)), ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return "null"
    except ValueError:
        return text if text.count("{") + text.count("[") <= DEEPEST else "null"


def is_suspect(data: bytes) -> bool:
    """Whether JSON text may contain what `cleaned` replaces."""
    return _SUSPECT.search(data) is not None or data.count(b"{") + data.count(b"[") > DEEPEST
