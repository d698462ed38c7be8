"""Caps kept: whether an organisation may have one more of a kind, and what it has of each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.identity.queries import holdings
from runyard_common.identity.rules.caps import CAPS, Caps
from runyard_common.identity.rules.caps import refusal as refusal_of
from runyard_common.values.errors import RunyardError
from runyard_common.values.json_text import JsonObject

#: Bounds from this on are counted once a second while a tenth of them is left, and in every transaction then.
_LARGE: Final = 10_000
_FRESH: Final = 1.0
#: By kind and whom it is counted for: when it was counted here, the bound, and how many were left below it.
_cached: dict[tuple[str, str], tuple[float, int, int]] = {}
_MOST_CACHED: Final = 100_000


def check(tx: Tx, org_id: str, kind: str, more: int = 1, of: str | None = None) -> None:
    """Whether there may be `more` of a kind, in the organisation or in `of` (see `Cap.of`).

    Exact for any number of processes: near the bound one transaction after another counts. Error: `Conflict`
    with the cap's code.
    """
    key = (kind, of or org_id)
    counted_at, most, left = _cached.get(key, (0.0, 0, 0))
    if not (0 <= tx.now - counted_at < _FRESH and _is_far(most, left - more)):
        counted_at, most = tx.now, tx.caps.most(kind, holdings.settings_of(tx.conn, org_id))
        left = most - holdings.count(tx.conn, kind, key[1], tx.now, most + 1)
        if not _is_far(most, left - more):
            advisory.lock(tx, [f"cap|{kind}|{key[1]}"])
            left = most - holdings.count(tx.conn, kind, key[1], tx.now, most + 1)
    if more > left:
        raise refusal_of(kind, most)
    if len(_cached) >= _MOST_CACHED:
        _cached.clear()
    _cached[key] = (counted_at, most, left - more)


def refusals(tx: Tx, kind: str, wanted: Mapping[int, tuple[str, Hashable]]) -> dict[int, RunyardError]:
    """Which of these objects (organisation, name) of a kind are over the bound, by place; equal ones count once."""
    refused: dict[int, RunyardError] = {}
    begun: dict[str, set[Hashable]] = {}
    for index, (org_id, name) in wanted.items():
        names = begun.get(org_id, set()) | {name}
        try:
            check(tx, org_id, kind, len(names))
        except RunyardError as refusal:
            refused[index] = refusal
        else:
            begun[org_id] = names
    return refused


def forget(org_id: str) -> None:
    """Count everything of an organisation again in this process: its bounds were changed. Others see it in a second."""
    for key in [key for key in _cached if key[1] == org_id]:
        _cached.pop(key, None)


def _is_far(most: int, left: int) -> bool:
    return most >= _LARGE and left > most // 10


@dataclass(frozen=True, slots=True)
class Use:
    """What an organisation has of a kind (None: it is counted by agent, datastore, …), and may have."""

    kind: str
    setting: str
    of: str
    used: int | None
    most: int
    own: bool  # the bound is the organisation's own, not the installation's


def report(conn: Connection, org_id: str, caps: Caps, now: float) -> list[Use]:
    """What an organisation has of each kind."""
    own: JsonObject = holdings.settings_of(conn, org_id) or {}
    found: list[Use] = []
    for kind, cap in CAPS.items():
        most = caps.most(kind, own)
        whole = cap.of == "organisation"
        used = holdings.count(conn, kind, org_id, now, _MOST_COUNTED) if whole else None
        found.append(Use(kind, cap.setting, cap.of, used, most, cap.setting in own))
    return found


_MOST_COUNTED: Final = 10_000_000
