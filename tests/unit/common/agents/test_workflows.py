"""Workflows: what is a graph and what is not, which steps may start, how long a retry waits."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.agents.rules.workflows import LONGEST_BACKOFF, Step, parse
from runyard_common.values.errors import InvalidRequest


def given(*steps: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "w", "name": "w", "description": "", "steps": list(steps)}]


def test_steps_are_ready_once_what_they_depend_on_has_ended() -> None:
    (flow,) = parse(given({"id": "a"}, {"id": "b"}, {"id": "c", "depends_on": ["a", "b"]}))
    assert [s.id for s in flow.ready(set(), set())] == ["a", "b"]
    assert [s.id for s in flow.ready({"a"}, {"a", "b"})] == []
    assert [s.id for s in flow.ready({"a", "b"}, {"a", "b"})] == ["c"]


@pytest.mark.parametrize(
    ("steps", "field"),
    [
        ([{"id": "a", "depends_on": ["a"]}], "workflows[0].steps"),
        ([{"id": "a", "depends_on": ["b"]}, {"id": "b", "depends_on": ["a"]}], "workflows[0].steps"),
        ([{"id": "a", "depends_on": ["z"]}], "workflows[0].steps[0].depends_on[0]"),
        ([{"id": "a"}, {"id": "a"}], "workflows[0].steps[1].id"),
        ([{"id": "a", "output_schema": {"type": "objet"}}], "workflows[0].steps[0].output_schema"),
        (
            [{"id": "a", "retry_policy": {"max_attempts": 0}}],
            "workflows[0].steps[0].retry_policy.max_attempts",
        ),
        ([], "workflows[0].steps"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_place(steps: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(given(*steps))
    assert caught.value.field == field


def test_backoff_grows_as_declared_and_is_bounded() -> None:
    exponential, linear = Step("a", "a", "a"), Step("a", "a", "a", backoff="linear")
    assert [exponential.delay(n) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert [linear.delay(n) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert exponential.delay(99) == LONGEST_BACKOFF


@pytest.mark.parametrize(("backoff", "delays"), [("linear", [1, 2, 3]), ("exponential", [1, 2, 4])])
def test_a_steps_retry_policy_is_the_one_given(backoff: str, delays: list[int]) -> None:
    (flow,) = parse(given({"id": "a", "retry_policy": {"max_attempts": 3, "backoff": backoff}}))
    (step,) = flow.steps
    assert [step.delay(n) for n in (1, 2, 3)] == delays
