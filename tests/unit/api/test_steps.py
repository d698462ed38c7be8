"""Where a step ends in agentbase's stream: behind the answers of its tools."""

from __future__ import annotations

from typing import Any

from runyard_api.surfaces.agentbase.steps import Steps


class Log:
    """A run's log, as it becomes events; an event is its entry's type and number."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.sent: list[str] = []

    def add(self, type_: str, number: str = "", **data: Any) -> None:
        """One more entry: of a call or a result `number` is its id."""
        made = [{"type": f"{type_} {number}"}]
        self.sent += [e["type"] for e in self.steps.ordered(type_, {"id": number, **data}, made)]

    def close(self) -> list[str]:
        """What comes at the end."""
        return [event["type"] for event in self.steps.close()]


def test_a_step_ends_behind_the_answers_of_all_its_tools() -> None:
    log = Log()
    for entry in [
        "message 1", "tool_call a", "tool_call b", "model_turn 1", "tool_result b", "progress 1", "tool_result a",
        "message 2", "model_turn 2",
    ]:  # fmt: skip
        log.add(*entry.split())

    assert log.sent == [
        "message 1", "tool_call a", "tool_call b", "tool_result b", "progress 1", "tool_result a", "model_turn 1",
        "message 2", "model_turn 2",
    ]  # fmt: skip
    assert log.close() == []


def test_a_call_that_waits_lets_its_step_end_when_the_run_rests() -> None:
    log = Log()
    log.add("tool_call", "a")
    log.add("model_turn", "1")

    assert log.close() == ["model_turn 1"]
    log.add("tool_result", "a")
    log.add("message", "2")
    assert log.sent == ["tool_call a", "tool_result a", "message 2"]


def test_a_call_that_was_never_answered_holds_nothing_up() -> None:
    log = Log()
    log.add("tool_call", "a")
    log.add("model_turn", "1")
    log.add("message", "2")
    log.add("model_turn", "2")

    assert log.sent == ["tool_call a", "model_turn 1", "message 2", "model_turn 2"]


def test_the_steps_of_a_workflow_are_kept_apart() -> None:
    log = Log()
    log.add("tool_call", "a", workflow="w", step="s1")
    log.add("model_turn", "1", workflow="w", step="s1")
    log.add("model_turn", "2", workflow="w", step="s2")
    log.add("tool_result", "a", workflow="w", step="s1")

    assert log.sent == ["tool_call a", "model_turn 2", "tool_result a", "model_turn 1"]
