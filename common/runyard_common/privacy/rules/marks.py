"""The neutral mark for a person who was erased. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

#: The mark of any person who was erased.
ERASED: Final = "erased"
#: What the entries of the audit log about a person have of them, beside their ids.
_PERSONAL: Final = frozenset({"email", "address", "agent", "name", "owner"})


def forms(user_id: str, email: str) -> list[str]:
    """What names a person in rows: their id and address, and the actors with these."""
    return [user_id, email, f"user:{user_id}", f"jwt:{user_id}", f"jwt:{email}"]


def marked(value: Any, names: Collection[str], about: bool = False) -> Any:
    """A document with the mark in the place of these names. `about` a person: without what else is theirs."""
    if isinstance(value, str):
        return ERASED if value in names else value
    if isinstance(value, list):
        return [marked(part, names, about) for part in value]
    if isinstance(value, dict):
        return {
            key: ERASED if about and key in _PERSONAL and part is not None else marked(part, names, about)
            for key, part in value.items()
        }
    return value
