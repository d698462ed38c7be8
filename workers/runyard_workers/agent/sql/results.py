"""What a query gives back: rows within caps, in JSON form; or why it failed."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runyard_workers.agent.wire.text import clean

_DEEPEST: Final = 50
_MOST_DIGITS: Final = 100


#: One sentence for a host that is unknown, a port that is closed, silent, or serves something else: the difference
#: would show a caller what runs on others' hosts.
UNREACHABLE: Final = (
    "the database could not be reached; check the host, the port and the network, and that the server speaks the "
    "protocol of the connection string"
)


class QueryFailed(Exception):
    """The query failed; the message is for the agent."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What one query may cost. Beyond `rows` and `characters` the result is cut; `seconds` ends it.

    `bytes` is the most that a database may send for one query, and the longest value that a SQLite file may hold.
    """

    rows: int = 200
    characters: int = 60_000
    cell: int = 4_000
    seconds: float = 15.0
    bytes: int = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Rows:
    """A result. `truncated`: there was more."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the agent gets it: rows as objects."""
        found = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        more = {"truncated": True, "note": f"Only the first {len(found)} rows."} if self.truncated else {}
        return {"rows": found, "row_count": len(found), **more}


def read_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], caps: Caps) -> Rows:
    """Read rows until they end or a cap is reached."""
    kept: list[list[Any]] = []
    left = caps.characters
    names = _unique(columns)
    for row in rows:
        cells = [_cell(value, caps.cell) for value in row]
        left -= sum(len(str(cell)) for cell in cells)
        if len(kept) >= caps.rows or left < 0:
            return Rows(names, kept, truncated=True)
        kept.append(cells)
    return Rows(names, kept)


def _unique(columns: Sequence[str]) -> list[str]:
    """Two columns of one name must both be seen."""
    seen: dict[str, int] = {}
    names = []
    for column in columns:
        seen[column] = seen.get(column, 0) + 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names


def _cell(value: Any, longest: int, depth: int = 0) -> Any:
    """A value of a database in JSON form: numbers where they keep all their digits, else text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value[:longest])
        encoded = base64.b64encode(data[: longest // 4 * 3]).decode()
        return encoded if len(data) <= longest // 4 * 3 else f"{encoded}…"
    if depth < _DEEPEST and isinstance(value, dict):
        return {clean(str(key)): _cell(one, longest, depth + 1) for key, one in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_cell(one, longest, depth + 1) for one in value]
    text = clean(str(value))
    return text if len(text) <= longest else text[:longest] + "…"


def _number(value: decimal.Decimal) -> Any:
    if not value.is_finite():
        return _not_finite(float(value)) if not value.is_snan() else "NaN"
    if abs(value) < 2**53 and value == value.to_integral_value():
        return int(value)
    nearest = float(value)
    if math.isfinite(nearest) and decimal.Decimal(repr(nearest)) == value:
        return nearest
    return format(value, "f") if abs(value.adjusted()) < _MOST_DIGITS else str(value)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
