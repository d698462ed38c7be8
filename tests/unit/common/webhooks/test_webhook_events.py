"""Which event a change of state is, in each style, and who asked for it."""

from __future__ import annotations

import pytest

from runyard_api.surfaces.appstrate import surface as appstrate
from runyard_common import surfaces
from runyard_common.runs.rules.lifecycle import TRANSITIONS, Event, Status
from runyard_common.values.errors import InvalidRequest
from runyard_common.webhooks.rules.webhook_events import NATIVE, check_events, type_of, wants


def test_every_transition_is_a_native_event() -> None:
    for event, status in {(event, status) for (_, event), status in TRANSITIONS.items()}:
        assert type_of(event, status, 1, None) in NATIVE
    assert {type_of(e, s, 1, None) for (_, e), s in TRANSITIONS.items()} == set(NATIVE)


@pytest.mark.parametrize(
    ("event", "status", "attempt", "code", "expected"),
    [
        (Event.CLAIM, Status.RUNNING, 1, None, "run.started"),
        (Event.CLAIM, Status.RUNNING, 2, None, None),
        (Event.FINISH, Status.COMPLETED, 1, None, "run.completed"),
        (Event.FAIL, Status.FAILED, 1, "agent_error", "run.failed"),
        (Event.FAIL, Status.FAILED, 1, "timeout", "run.timeout"),
        (Event.EXPIRE, Status.FAILED, 1, "deadline_exceeded", "run.timeout"),
        (Event.EXPIRE, Status.FAILED, 0, "ttl_expired", "run.failed"),
        (Event.CANCEL, Status.STOPPED, 1, "stopped", "run.cancelled"),
        (Event.ASK, Status.WAITING_FOR_INPUT, 1, None, None),
        (Event.RETRY, Status.QUEUED, 1, "x", None),
    ],
)
def test_appstrate_names_five_of_them(
    event: Event, status: Status, attempt: int, code: str | None, expected: str | None
) -> None:
    assert appstrate.type_of(event, status, attempt, {"code": code} if code else None) == expected
    assert expected is None or expected in appstrate.EVENTS


def test_filters() -> None:
    assert wants(["run.failed"], "run.failed")
    assert not wants(["run.failed"], "run.completed")
    assert wants(["*"], "run.completed")
    assert wants(["run.*"], "run.completed")
    assert check_events(["run.failed", "*", "run.failed"], NATIVE) == ["run.failed", "*"]


@pytest.mark.parametrize(
    ("events", "style", "field"),
    [
        ([], "native", "events"),
        (["*", "run.done"], "native", "events[1]"),
        (["run.queued"], "appstrate", "events[0]"),
    ],
)
def test_an_unknown_event_is_refused_with_those_that_are_known(
    events: list[str], style: str, field: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"run\.completed") as caught:
        check_events(events, surfaces.webhook_styles()[style].events)
    assert (caught.value.code, caught.value.field) == ("invalid_events", field)
