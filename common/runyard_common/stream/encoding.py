"""Channels of the live stream and the JSON of its messages.

What an agent or a model produced may have no JSON form: it must not end the stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

import orjson

from runyard_common.values.logged_event import LoggedEvent

ALL: Final = "runyard:all"
ORG: Final = "runyard:org:"
TASK: Final = "runyard:task:"
WORKER: Final = "runyard:worker:"
#: A list, followed by what waits for a worker and the id of the installation.
WAKE: Final = "runyard:wake:"
#: Without subscribers: readiness checks publish here.
PROBE: Final = "runyard:probe"

#: A Redis that does not answer for this long is treated as away, in seconds.
TIMEOUT: Final = 2.0


class Published(Protocol):
    """A committed event, as the store's transactions note it."""

    @property
    def org_id(self) -> str:
        """The organisation whose followers hear of it."""

    def to_json(self) -> LoggedEvent:
        """The event, as followers get it."""


def encode(value: Any) -> bytes:
    """The value as JSON. Half surrogate pairs become U+FFFD, whole ones that were split are joined.

    Raises TypeError or ValueError where it has no JSON form at all.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_repaired(value), option=orjson.OPT_NON_STR_KEYS)


def encode_each(values: Iterable[Any]) -> tuple[list[bytes], int]:
    """The JSON of each value that has one, and how many have none."""
    found: list[bytes] = []
    dropped = 0
    for value in values:
        try:
            found.append(encode(value))
        except Exception:  # noqa: BLE001 - a value's own __str__ or __iter__ may raise anything
            dropped += 1
    return found, dropped


def _repaired(value: Any, depth: int = 0) -> Any:
    if depth > 100:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_repaired(k, depth + 1): _repaired(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_repaired(item, depth + 1) for item in value]
    return value
