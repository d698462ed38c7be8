"""Events as the native API shows them, in pages and in streams."""

from __future__ import annotations

from typing import Any, Final

from runyard_api.native.front import when

#: What events may hold for the workers' use, but callers are not shown.
_INTERNAL: Final = frozenset({"worker", "lease_owner"})


def event_json(event: dict[str, Any]) -> dict[str, Any]:
    """A numbered fact in a task's log, from the database or from the live stream."""
    data = event["data"]
    if isinstance(data, dict) and not _INTERNAL.isdisjoint(data):
        data = {name: value for name, value in data.items() if name not in _INTERNAL}
    return {
        "task_id": event["task_id"],
        "seq": event["seq"],
        "type": event["type"],
        "attempt": event["attempt"],
        "at": when(event["at"]),
        "data": data,
    }
