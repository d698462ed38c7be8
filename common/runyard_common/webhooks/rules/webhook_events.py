"""The events that webhooks may ask for, and which of them a change of a task's state is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.values.errors import InvalidRequest

#: What a test delivery is called; it needs no filter.
TEST: Final = "test.ping"
#: The native ones: one for every state a task can be in.
NATIVE: Final = tuple(f"run.{status.value}" for status in Status)

_EVERY: Final = frozenset({"*", "run.*"})


def type_of(event: Event, status: Status, attempt: int, error: Mapping[str, Any] | None) -> str | None:
    """What the native style calls this change of state.

    `attempt` and `error` are the task's after the change. A surface's own names may leave out changes: None.
    """
    return f"run.{status.value}"


def wants(filters: Sequence[str], type_: str) -> bool:
    """Whether an endpoint with these filters hears of this event."""
    return type_ in filters or not _EVERY.isdisjoint(filters)


def check_events(events: Sequence[str], names: Sequence[str]) -> list[str]:
    """The filters without repeats; `InvalidRequest` invalid_events for none, or one not among `names`."""
    if not events:
        raise InvalidRequest(
            f"Name at least one event: {', '.join(names)}, or * for all.",
            code="invalid_events",
            field="events",
        )
    for index, name in enumerate(events):
        if name not in names and name not in _EVERY:
            raise InvalidRequest(
                f"There is no event {name[:64]!r}. Known: {', '.join(names)}, or * for all.",
                code="invalid_events",
                field=f"events[{index}]",
            )
    return list(dict.fromkeys(events))
