"""Retention: what an organisation sets, what it leaves out, what it cannot mean."""

from __future__ import annotations

import math
from typing import Any

import pytest

from runyard_common.identity.rules.retention import DAY_S, USAGE_DAYS, Retention, check_retention
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.errors import InvalidRequest


def test_what_is_left_out_is_kept_the_default() -> None:
    given: list[Any] = [None, {}, {"retention": {}}, {"retention": 5}]
    for settings in given:
        kept = Retention.of(settings, 30.0)
        assert set(kept.by_status.values()) == {30 * DAY_S}
        assert kept.sessions == 30 * DAY_S


def test_days_by_status_and_null_for_ever() -> None:
    kept = Retention.of({"retention": {"completed": 0.5, "failed": None, "sessions": 90}}, 30.0)
    assert kept.by_status == {
        Status.COMPLETED: DAY_S / 2,
        Status.FAILED: None,
        Status.STOPPED: 30 * DAY_S,
    }
    assert kept.sessions == 90 * DAY_S


@pytest.mark.parametrize("days", [0, -1, "7", True, math.nan, math.inf, 1e9])
def test_what_is_no_number_of_days_is_refused_and_deletes_nothing_early(days: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_retention({"failed": days})
    assert (refused.value.code, refused.value.field) == ("invalid_retention", "retention.failed")
    assert Retention.of({"retention": {"failed": days}}, 30.0).by_status[Status.FAILED] == 30 * DAY_S


def test_unknown_names_are_refused() -> None:
    for value in ({"running": 5}, ["failed"], None):
        with pytest.raises(InvalidRequest):
            check_retention(value)
    assert check_retention({"failed": 5, "completed": None}) == {"failed": 5, "completed": None}


def test_usage_is_kept_for_the_books_unless_the_organisation_sets_it() -> None:
    assert Retention.of(None, 30.0).usage == USAGE_DAYS * DAY_S
    assert Retention.of(None, 1000.0).usage == 1000 * DAY_S, "not shorter than the tasks"
    assert Retention.of({"retention": {"usage": 90}}, 30.0).usage == 90 * DAY_S
    assert Retention.of({"retention": {"usage": None}}, 30.0).usage is None


def test_it_is_shown_in_days() -> None:
    shown = Retention.of({"retention": {"failed": None, "completed": 7}}, 30.0).to_json()
    assert shown == {"completed": 7, "failed": None, "stopped": 30, "sessions": 30, "usage": USAGE_DAYS}
