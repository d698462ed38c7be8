"""The numbers that every change of an organisation's configuration raises, and what is remembered by them.

An organisation's number is the sum of its own and of that for all organisations; each only grows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    and_,
    bindparam,
    case,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)

from runyard_common.database.config_memory import Known
from runyard_common.database.engine import Database
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Condition
from runyard_common.tables.query import ConfigVersion, Organisation

R = TypeVar("R")
_EVERY: Final = "*"


def number_of(org_id: Any) -> Any:
    """An organisation's number, as a column."""
    query = select(func.coalesce(func.sum(ConfigVersion.number), literal(0, BigInteger)))
    return query.where(ConfigVersion.scope.in_([org_id, _EVERY])).scalar_subquery()


_NUMBERS: Final = select(ConfigVersion.scope, ConfigVersion.number).where(
    ConfigVersion.scope.in_(bindparam("scopes", expanding=True))
)


def numbers(conn: Connection, org_ids: Collection[str]) -> dict[str, int]:
    """The number of each organisation."""
    found = {row.scope: int(row.number) for row in conn.execute(_NUMBERS, {"scopes": [*org_ids, _EVERY]})}
    every = found.get(_EVERY, 0)
    return {org_id: found.get(org_id, 0) + every for org_id in org_ids}


def checked(
    conn: Connection, org_ids: Collection[str], paying: Collection[str]
) -> tuple[dict[str, int], set[str]]:
    """The number of each organisation, and those of `paying` that pay in advance and have nothing left."""
    query: Any = select(ConfigVersion.scope, ConfigVersion.number)
    query = query.where(ConfigVersion.scope.in_([*org_ids, _EVERY]))
    if paying:
        broke = (Organisation.id.in_(list(paying)), Organisation.balance_micros <= 0)
        query = union_all(query, select(Organisation.id, null()).where(*broke))
    found: dict[str, int] = {}
    out_of_balance: set[str] = set()
    for scope, number in conn.execute(query):
        if number is None:
            out_of_balance.add(scope)
        else:
            found[scope] = int(number)
    every = found.get(_EVERY, 0)
    return {org_id: found.get(org_id, 0) + every for org_id in org_ids}, out_of_balance


def unchanged(numbers: Mapping[str, int], paying: Collection[str]) -> tuple[Condition, dict[str, Any]]:
    """Whether the organisations have these numbers, and all of `paying` have something left or do not pay in advance:
    the condition and the values of its parameters.

    One sum does for all of them: no number ever falls.
    """
    values: dict[str, Any] = {"total": sum(numbers.values()), "orgs": len(numbers)}
    values |= _padded("org", numbers) | _padded("payer", paying)
    payers = len(values) - 2 - _size(len(numbers))
    return _unchanged(_size(len(numbers)), payers), values


def _padded(name: str, given: Collection[str]) -> dict[str, str]:
    """Parameters for these, the last one repeated, so that few sizes of a statement serve all."""
    found = [*given]
    found += found[-1:] * (_size(len(found)) - len(found))
    return {f"{name}_{place}": value for place, value in enumerate(found)}


def _size(count: int) -> int:
    """The power of two that is not smaller; 0 for 0."""
    return 1 << (count - 1).bit_length() if count else 0


@functools.lru_cache(maxsize=64)
def _unchanged(orgs: int, payers: int) -> Condition:
    """The condition with so many parameters."""
    times = case((ConfigVersion.scope == _EVERY, bindparam("orgs", type_=BigInteger)), else_=1)
    total = select(func.coalesce(func.sum(ConfigVersion.number * times), 0))
    named = [ConfigVersion.scope == bindparam(f"org_{place}") for place in range(orgs)]
    found = total.where(or_(ConfigVersion.scope == _EVERY, *named)).scalar_subquery()
    same = found == bindparam("total", type_=BigInteger)
    if not payers:
        return Condition(lambda: same)
    payer = or_(*(Organisation.id == bindparam(f"payer_{place}") for place in range(payers)))
    broke = select(Organisation.id).where(payer, Organisation.balance_micros <= 0)
    return Condition(lambda: and_(same, ~broke.exists()))


def known(db: Database, org_id: str, load: Callable[[OrgScope], R]) -> Known[R]:
    """What `load` gives for an organisation: from memory, or read in a snapshot of its own."""
    found = db.memory.get(org_id, load)
    if found is not None:
        return found
    with db.read() as conn:
        # First the number: what is read after it may be newer, and is found to be outdated then, but is never older.
        found = Known(numbers(conn, [org_id])[org_id], load(OrgScope(conn, org_id)))
    db.memory.put(org_id, load, found)
    return found
