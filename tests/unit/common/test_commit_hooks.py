"""What follows a commit: others are woken where this process does not do the work itself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runyard_common.commit_hooks import CommitHooks, Local
from runyard_common.metrics.points import POINTS
from runyard_common.runs.rules.blocked_by import BlockedBy


def noted(**fields: Any) -> Any:
    """A transaction that has noted these fields."""
    nothing = {"events": [], "over": [], "cancelled": [], "woken": 0, "deliveries": 0, "freed": set()}
    return SimpleNamespace(**nothing | fields)


class Others:
    """The live stream and the notifier, as a list of what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def wake(self, kind: str, otherwise: Callable[[], object]) -> None:
        self.asked.append(f"wake for {kind}, else")
        otherwise()

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.asked.append(name)


def test_nothing_follows_a_commit_that_noted_nothing() -> None:
    others: Any = Others()
    CommitHooks(others, others, others.admit)(noted())
    assert others.asked == []


def test_each_fact_has_its_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(POINTS, "events", None)  # an api of this process may count
    others: Any = Others()
    local = Local(publish=others.publish_here, wake=others.wake_here)
    freed = {BlockedBy.limit("o|agent:a")}
    tx = noted(events=["event"], cancelled=[("worker", "task")], woken=2, deliveries=1, freed=freed)
    CommitHooks(others, others, others.admit, local)(tx)
    assert others.asked == [
        "wake for runs, else", "notify", "wake_here", "publish", "publish_here", "cancel",
        "wake for deliveries, else", "notify_deliveries", "admit",
    ]  # fmt: skip


@pytest.mark.parametrize("made_here", [True, False])
def test_callbacks_wake_others_unless_this_process_makes_them(made_here: bool) -> None:
    others: Any = Others()
    CommitHooks(others, others, others.admit, Local(deliver=lambda: made_here))(noted(deliveries=1))
    assert ("notify_deliveries" in others.asked) is not made_here
