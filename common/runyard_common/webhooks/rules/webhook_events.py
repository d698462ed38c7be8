"""The events webhooks may ask for, by payload style, and which of them a change of a task's state is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runyard_common.runs.rules.lifecycle import Event, Status
from runyard_common.values.errors import InvalidRequest

STYLES: Final = ("native", "appstrate")
#: What a test delivery is called; it needs no filter.
TEST: Final = "test.ping"
#: One for every state a task can be in.
NATIVE: Final = tuple(f"run.{status.value}" for status in Status)
#: The appstrate contract's, section 12.
APPSTRATE: Final = ("run.started", "run.completed", "run.failed", "run.timeout", "run.cancelled")
NAMES: Final = {"native": NATIVE, "appstrate": APPSTRATE}

_OUT_OF_TIME: Final = frozenset({"timeout", "deadline_exceeded"})
_EVERY: Final = frozenset({"*", "run.*"})


def type_of(
    style: str, event: Event, status: Status, attempt: int, error: Mapping[str, Any] | None
) -> str | None:
    """What a style calls this change of state; None where it has no name for it.

    `attempt` and `error` are the task's after the change.
    """
    if style == "native":
        return f"run.{status.value}"
    if event is Event.CLAIM:
        return "run.started" if attempt == 1 else None
    if status is Status.COMPLETED:
        return "run.completed"
    if status is Status.STOPPED:
        return "run.cancelled"
    if status is Status.FAILED:
        return "run.timeout" if (error or {}).get("code") in _OUT_OF_TIME else "run.failed"
    return None


def wants(filters: Sequence[str], type_: str) -> bool:
    """Whether an endpoint with these filters hears of this event."""
    return type_ in filters or not _EVERY.isdisjoint(filters)


def check_events(events: Sequence[str], style: str) -> list[str]:
    """The filters without repeats; `InvalidRequest` invalid_events for none or an unknown one."""
    names = NAMES[style]
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
