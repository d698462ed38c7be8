"""An open question or review, as the native API shows it."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_api.native.runs.task_view import question
from runyard_common.human_tasks.rules import Question


def _row(payload: dict[str, Any] | None) -> Question:
    return Question("q", "o", "t", "key", "review", payload, None, None, 0.0)


@pytest.mark.parametrize("cause", ["unknown_outcome", "budget", "balance"])
def test_a_review_the_engine_asks_for_names_its_cause_and_stays_a_review(cause: str) -> None:
    shown = question(_row({"kind": cause, "action": "pay"}))
    assert (shown["kind"], shown["cause"], shown["action"]) == ("review", cause, "pay")


def test_a_review_the_agent_asks_for_has_no_cause() -> None:
    assert question(_row({"action": "pay"}))["cause"] is None
    assert question(_row(None))["cause"] is None
