"""How full limits are, for those who look at them. Admission itself asks for one key at a time, under its lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, String, func, select, type_coerce

from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import limits
from runyard_common.runs.rules.admission import Rule, check_of, keys_of
from runyard_common.tables.query import Slot, Task

#: Of a limit that counts each value by itself, such as each agent: the values shown, the fullest.
MOST_VALUES: Final = 20
_BLOCKED_BY: Final[ColumnElement[str]] = type_coerce(Task.blocked_by, String)


@dataclass(frozen=True, slots=True)
class Counted:
    """One value that a limit counts: the tasks that have a slot, those queued on it, the starts in its window, and the
    model tokens of the last minute."""

    value: str
    in_use: int
    waiting: int
    starts: int
    tokens: int


def usage(tx: Tx, rules: Sequence[Rule]) -> dict[str, list[Counted]]:
    """By its id what each of these limits counts now, the fullest value first; the values in use alone of one that
    counts each by itself."""
    return {rule.id: _usage(tx, rule) for rule in rules}


def _usage(tx: Tx, rule: Rule) -> list[Counted]:
    key, is_one = keys_of(rule)
    in_use = _counts(tx.conn, select(Slot.limit_key, func.count()), Slot.limit_key, key, is_one)
    queued = select(_BLOCKED_BY, func.count()).where(Task.status == "queued")
    waiting = _counts(tx.conn, queued, _BLOCKED_BY, key, is_one)
    keys = {key} if is_one else in_use.keys() | waiting.keys()
    exact = limits.usages(tx, [check_of([rule], key) for key in sorted(keys)], of_new=False)
    found = [
        Counted(
            each.removeprefix(key) if not is_one else rule.selector,
            use.in_use, waiting.get(each, 0), max(use.starts.values(), default=0), use.tokens,
        )
        for each, use in exact.items()
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.waiting, -one.in_use, one.value))[:MOST_VALUES]


def _counts(conn: Connection, query: Any, column: Any, key: str, is_one: bool) -> dict[str, int]:
    mine = column == key if is_one else column.startswith(key, autoescape=True)
    fullest = query.where(mine).group_by(column).order_by(func.count().desc()).limit(MOST_VALUES)
    return {row[0]: row[1] for row in conn.execute(fullest)}
