"""The check that tasks are as this process remembers them: it locks them, and nothing waits for its answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Text,
    bindparam,
    func,
    or_,
    select,
    type_coerce,
)

from runyard_common.database.columns import dump
from runyard_common.database.transaction import Condition, Tx
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Head
from runyard_common.tables.query import Task
from runyard_common.webhooks.queries.endpoints import LISTENED

#: The columns of a running task's head that may change, with their types. Others never do, or do with `attempt`.
_CHANGING: Final[dict[str, Any]] = {
    "id": Text,
    "attempt": BigInteger,
    "claim_token": Text,
    "last_seq": BigInteger,
    "limit_keys": Text,
    "listened": Boolean,
}


def require(tx: Tx, heads: Sequence[Head]) -> None:
    """Commit only if these running tasks, in the order of their ids, are as these heads are; lock them.

    Else the transaction is `Outdated`, and their heads are forgotten.
    """
    rows = [_values(head) for head in heads]
    values = rows[0] if len(rows) == 1 else {name: [row[name] for row in rows] for name in _CHANGING}
    condition = _ONE if len(rows) == 1 else _SOME
    tx.require(
        condition, partial(tx.memory.forget, [head.id for head in heads]), values | {"count": len(rows)}
    )


def _values(head: Head) -> dict[str, Any]:
    keys = None if head.limit_keys is None else dump(head.limit_keys)
    return {name: getattr(head, name) for name in _CHANGING} | {"limit_keys": keys}


def _holds(given: Any, *joined: Any) -> ColumnElement[bool]:
    keys = type_coerce(Task.limit_keys, Text)
    mine = select(Task.id).where(
        Task.id == given["id"],
        Task.status == Status.RUNNING.value,
        Task.attempt == given["attempt"],
        Task.claim_token == given["claim_token"],
        Task.last_seq == given["last_seq"],
        keys.is_not_distinct_from(given["limit_keys"]),
        or_(given["listened"], ~LISTENED.element),
    )
    for table in joined:
        mine = mine.select_from(table)
    found = mine.order_by(Task.id).with_for_update(of=Task).cte("mine")
    return select(func.count()).select_from(found).scalar_subquery() == bindparam("count")


def _one() -> ColumnElement[bool]:
    return _holds({name: bindparam(name, type_=kind) for name, kind in _CHANGING.items()})


def _some() -> ColumnElement[bool]:
    arrays = (bindparam(name, type_=ARRAY(kind)) for name, kind in _CHANGING.items())
    given = func.unnest(*arrays).table_valued(*_CHANGING, name="given").render_derived()
    return _holds(given.c, given)


_ONE, _SOME = Condition(_one), Condition(_some)
