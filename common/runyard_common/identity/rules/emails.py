"""E-mail addresses as names of people: one spelling each. Pure."""

from __future__ import annotations

import re
from typing import Final

from runyard_common.values.errors import InvalidRequest

#: Longest address (RFC 5321 §4.5.3.1: 64 before the @, 255 after it).
LONGEST: Final = 320
_ADDRESS: Final = re.compile(
    r"[^\s@\x00-\x1f\x7f<>(),;:\"\\\[\]]{1,64}@[^\s@\x00-\x1f\x7f<>(),;:\"\\\[\]]{1,255}"
)


def normalised(address: str, field: str = "email") -> str:
    """The address without surrounding blanks and in lower case; `InvalidRequest` invalid_email."""
    found = address.strip().lower()
    if not _ADDRESS.fullmatch(found):
        raise InvalidRequest("This is no e-mail address.", code="invalid_email", field=field)
    return found
