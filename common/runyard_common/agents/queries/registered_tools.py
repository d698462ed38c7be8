"""The tools that workers have registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, insert, select, update

from runyard_common.database import advisory
from runyard_common.database.transaction import Tx
from runyard_common.tables.query import RegisteredTool

_TOOL = RegisteredTool.__table__.c


@dataclass(frozen=True, slots=True)
class Tool:
    """What the api needs to know of a tool. `public`: every organisation's agents may use it."""

    name: str
    public: bool
    effect: str
    review: bool


def named(conn: Connection, names: Sequence[str]) -> dict[str, Tool]:
    """Those of these tools that are known, by name."""
    query = select(_TOOL.name, _TOOL.public, _TOOL.effect, _TOOL.review).where(_TOOL.name.in_(list(names)))
    return {row.name: Tool(row.name, row.public, row.effect, row.review) for row in conn.execute(query)}


def are_there(conn: Connection) -> bool:
    """Whether workers have registered any."""
    return conn.execute(select(_TOOL.name).limit(1)).first() is not None


def save(tx: Tx, tools: Sequence[Tool]) -> None:
    """Store these tools as they are now; those that are not among them stay."""
    advisory.lock(tx, ["registered_tools"])  # workers that start together have the same ones
    known = named(tx.conn, [tool.name for tool in tools])
    for tool in tools:
        values = asdict(tool) | {"updated_at": tx.now}
        if tool.name not in known:
            tx.conn.execute(insert(RegisteredTool), values)
        elif known[tool.name] != tool:
            tx.conn.execute(update(RegisteredTool).where(_TOOL.name == tool.name).values(values))
