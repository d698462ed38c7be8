"""Tokens (JWT, RFC 7519) with a duplicate member, which two readers understand in two ways. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any


class DuplicateMember(ValueError):
    """The header or the payload of a token has a duplicate member."""

    def __init__(self, name: str) -> None:
        super().__init__(f"duplicate member {name[:100]!r}")


def check_members(token: str) -> None:
    """Refuse a token whose header or payload has a member twice, at any depth (RFC 7515 and 7519, section 4).

    Raises `DuplicateMember`, and other `ValueError` where a part is no JSON.
    """
    for part in token.split(".")[:2]:
        padded = part + "=" * (-len(part) % 4)
        json.loads(base64.urlsafe_b64decode(padded), object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise DuplicateMember(name)
        found[name] = value
    return found
