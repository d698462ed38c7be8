"""Identifiers: time-ordered UUIDs and prefixed random tokens, with a distinct type for each noun."""

from __future__ import annotations

import os
import re
import secrets
import time
import uuid
from typing import NewType

OrgId = NewType("OrgId", str)
AgentId = NewType("AgentId", str)
TaskId = NewType("TaskId", str)
SessionId = NewType("SessionId", str)
WorkerId = NewType("WorkerId", str)

_AGENT_NAME = re.compile(r"^@[a-z0-9][a-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$")


def uuid7() -> str:
    """A version-7 UUID (RFC 9562 §5.7) as text: ids made later sort later, so inserts stay at an index's end."""
    value = int.from_bytes(os.urandom(16), "big")
    millis = time.time_ns() // 1_000_000
    value = (value & ((1 << 80) - 1)) | (millis & ((1 << 48) - 1)) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def token(prefix: str, nbytes: int = 16) -> str:
    """`prefix` followed by `nbytes` random bytes in lower-case hex."""
    return prefix + secrets.token_hex(nbytes)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its canonical 36-character form."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def qualify(name: str) -> str:
    """An agent's full name: names that give no scope get ``@default``."""
    return name if name.startswith("@") else f"@default/{name}"


def is_agent_name(name: str) -> bool:
    """Whether `name` is a full agent name, ``@scope/name``."""
    return bool(_AGENT_NAME.match(name))


def normalise(name: str) -> str:
    """The URL-friendly form of an agent's name without its scope: trimmed, lower case, underscores."""
    base = name.split("/", 1)[1] if name.startswith("@") and "/" in name else name
    return re.sub(r"[\s\-.]+", "_", base.strip().lower())
