"""Keys of providers in what providers write: whole, in part, or starred out, they are masked before a log has them."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[key]"
_TOKEN: Final = re.compile(r"[\w*.…-]{6,}")
_KEYLIKE: Final = re.compile(
    r"(?:sk|pk|rk|ak|key|gsk|xai|hf|r8|AIza|AQ|ya29|eyJ)[-_.]?[\w.-]{8,}\Z", re.IGNORECASE
)
_GAP: Final = re.compile(r"\*+|…|\.{3,}")
_SHORTEST_PART: Final = 3
_SHORTEST_FRAGMENT: Final = 6
_known: set[str] = set()


def remember(key: str) -> None:
    """Mask this key from now on, and the parts of it that are quoted."""
    if len(key) >= _SHORTEST_FRAGMENT:
        _known.add(key)


def mask(text: str) -> str:
    """The text with `MASK` in place of every key."""
    for key in _known:
        text = text.replace(key, MASK)
    return _TOKEN.sub(lambda found: MASK if _is_key(found[0]) else found[0], text)


def _is_key(token: str) -> bool:
    bare = token.strip(".")
    if "***" in bare or _KEYLIKE.match(bare):
        return True
    parts = [part for part in _GAP.split(bare) if len(part) >= _SHORTEST_PART]
    if len(parts) == 1 and parts[0] == bare:
        return len(bare) >= _SHORTEST_FRAGMENT and any(bare in key for key in _known)
    return bool(parts) and any(all(part in key for part in parts) for key in _known)
