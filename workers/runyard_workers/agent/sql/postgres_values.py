"""Values of PostgreSQL that Python's types do not cover: infinite and ancient dates, 24:00, intervals, ranges.

They are read as the text that the server writes, so that no row fails for one of its values.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader
from psycopg.types.datetime import DateLoader, TimeLoader, TimestampLoader, TimestamptzLoader, TimetzLoader

#: Python's timedelta has no months and years, and a range of what has no Python value is none either.
_TEXTS: Final = (
    "interval",
    *(
        f"{kind}{what}"
        for kind in ("int4", "int8", "num", "date", "ts", "tstz")
        for what in ("range", "multirange")
    ),
)


class TextLoader(Loader):
    """Reads a value as the text that it is."""

    def load(self, data: Buffer) -> Any:
        """The text."""
        return bytes(data).decode(errors="replace")


def _or_text(base: type[Loader]) -> type[Loader]:
    """A loader that gives the text where `base` has no value for it."""

    class OrText(base):  # type: ignore[valid-type, misc]
        def load(self, data: Buffer) -> Any:
            try:
                return super().load(data)
            except (psycopg.Error, ValueError, OverflowError):
                return bytes(data).decode(errors="replace")

    return OrText


_LOADERS: Final[dict[str, type[Loader]]] = {
    "date": _or_text(DateLoader),
    "time": _or_text(TimeLoader),
    "timetz": _or_text(TimetzLoader),
    "timestamp": _or_text(TimestampLoader),
    "timestamptz": _or_text(TimestamptzLoader),
    **dict.fromkeys(_TEXTS, TextLoader),
}


def read_as_text(adapters: AdaptersMap) -> None:
    """Register the loaders with the adapters of a connection; arrays use them for their members."""
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)
