"""Identifiers: time-ordered UUIDs and prefixed random tokens."""

from __future__ import annotations

import random
import re
import secrets
import threading
import time
import unicodedata

from runyard.declaring import NAME

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SCOPE = re.compile(r"@[a-z0-9][a-z0-9-]*")

#: Letters that are no letter and a mark.
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})

_clock = threading.Lock()
_last = 0  # milliseconds and 12-bit counter of the last id, as one number


def uuid7() -> str:
    """A version-7 UUID (RFC 9562 §5.7) as text; ids made later by this process sort later.

    The 12 bits after the time count up within a millisecond (§6.2, method 1), so that first come stays
    first, and inserts stay at an index's end.
    """
    global _last  # noqa: PLW0603 - the generator's one state
    with _clock:
        _last = max(_last + 1, (time.time_ns() // 1_000_000) << 12)
        millis, counter = _last >> 12, _last & 0xFFF
    # Ids have to differ, not to be secret: the process's own generator (reseeded in forks) needs no system call.
    return _text(millis << 80 | 0x7 << 76 | counter << 64 | 0x2 << 62 | random.getrandbits(62))


def uuid4() -> str:
    """A version-4 UUID (RFC 9562 §5.4) as text, distinct and not secret."""
    bits = random.getrandbits(122)
    return _text(bits >> 74 << 80 | 0x4 << 76 | (bits >> 62 & 0xFFF) << 64 | 0x2 << 62 | bits & (1 << 62) - 1)


def _text(number: int) -> str:
    """A UUID's 128 bits as text; `uuid.UUID` takes several times as long."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def first_uuid7(at: float) -> str:
    """The smallest version-7 UUID of a millisecond, given in epoch seconds: bounds ids by when they were made."""
    millis = min(max(int(at * 1000), 0), (1 << 48) - 1)
    return _text(millis << 80 | 0x7 << 76 | 0x2 << 62)


def token(prefix: str, nbytes: int = 16) -> str:
    """`prefix` followed by `nbytes` random bytes in lower-case hex."""
    return prefix + secrets.token_hex(nbytes)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its canonical 36-character form."""
    return _UUID.fullmatch(text) is not None


def qualify(name: str) -> str:
    """An agent's full name: names that give no scope get ``@default``."""
    return name if name.startswith("@") else f"@default/{name}"


def is_agent_name(name: str) -> bool:
    """Whether `name` is a full agent name, ``@scope/name``."""
    return NAME.match(name) is not None


def is_scope(text: str) -> bool:
    """Whether `text` may stand before the slash of an agent's name."""
    return _SCOPE.fullmatch(text) is not None


def slug(text: str) -> str:
    """A name as paths take it: Latin letters without their marks in lower case, digits, dots and underscores, with one
    hyphen for anything between them. Empty where nothing is left."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9._]+", "-", bare.translate(_LETTERS)).strip("-._")


def normalise(name: str) -> str:
    """The URL-friendly form of an agent's name without its scope: trimmed, lower case, underscores."""
    base = name.split("/", 1)[1] if name.startswith("@") and "/" in name else name
    return re.sub(r"[\s\-.]+", "_", base.strip().lower())
