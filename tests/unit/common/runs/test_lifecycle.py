"""The lifecycle table: every (state, event) pair, its derived sets, and the document that describes it."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from runyard_common.runs.rules.lifecycle import (
    ACTIVE,
    INITIAL,
    OCCUPIES_SLOTS,
    SUSPENDED,
    TERMINAL,
    TRANSITIONS,
    Event,
    Status,
    apply,
    sources,
)
from runyard_common.values.errors import IllegalTransition

DOCUMENT = Path(__file__).parents[4] / "docs" / "lifecycle.md"

#: Written out by hand, apart from the table: what a task may do in each state.
LEGAL = {
    Status.PENDING: {Event.CLAIM: Status.RUNNING},
    Status.QUEUED: {Event.ADMIT: Status.PENDING},
    Status.RUNNING: {
        Event.ASK: Status.WAITING_FOR_INPUT,
        Event.REVIEW: Status.AWAITING_REVIEW,
        Event.WAIT: Status.QUEUED,
        Event.RETRY: Status.QUEUED,
        Event.RESCUE: Status.QUEUED,
        Event.RELEASE: Status.QUEUED,
        Event.FINISH: Status.COMPLETED,
    },
    Status.WAITING_FOR_INPUT: {Event.ANSWER: Status.QUEUED},
    Status.AWAITING_REVIEW: {Event.DECIDE: Status.QUEUED},
    Status.COMPLETED: {},
    Status.FAILED: {},
    Status.STOPPED: {},
}
ENDINGS = {
    Event.FAIL: Status.FAILED,
    Event.EXPIRE: Status.FAILED,
    Event.CANCEL: Status.STOPPED,
    Event.COMPENSATE: Status.QUEUED,
}


@pytest.mark.parametrize(("status", "event"), list(product(Status, Event)))
def test_every_pair_of_state_and_event_is_either_the_one_legal_move_or_refused(
    status: Status, event: Event
) -> None:
    expected = (LEGAL[status] | (ENDINGS if status in ACTIVE else {})).get(event)
    if expected is None:
        with pytest.raises(IllegalTransition) as refusal:
            apply(status, event)
        assert refusal.value.code == "illegal_transition"
        assert refusal.value.details["task_status"] == status.value
    else:
        assert apply(status, event) is expected


def test_no_event_leaves_a_terminal_state() -> None:
    assert not [pair for pair in TRANSITIONS if pair[0] in TERMINAL]


def test_every_state_can_be_reached_and_every_active_state_left() -> None:
    reached = set(TRANSITIONS.values()) | set(INITIAL.values())
    assert reached == set(Status)
    assert {status for status, _ in TRANSITIONS} == ACTIVE


def test_a_stop_is_legal_in_every_active_state() -> None:
    assert sources(Event.CANCEL) == ACTIVE


def test_suspended_and_queued_tasks_hold_no_slot() -> None:
    assert not OCCUPIES_SLOTS & (SUSPENDED | TERMINAL | {Status.QUEUED})


@pytest.mark.documents
def test_the_document_has_exactly_the_table() -> None:
    rows = re.findall(r"^\| (\(new\)|`\w+`) \| `(\w+)` \| `(\w+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {(source.strip("`"), event, target) for source, event, target in rows}
    table = {(status.value, event.value, target.value) for (status, event), target in TRANSITIONS.items()}
    table |= {("(new)", event.value, target.value) for event, target in INITIAL.items()}
    assert documented == table


@pytest.mark.documents
def test_the_document_describes_every_state() -> None:
    described = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| (?:yes|no) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert described == {status.value for status in Status}
