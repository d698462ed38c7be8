"""What follows a commit: others are woken where this process does not do the work itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runyard_common.commit_hooks import CommitHooks, Local
from runyard_common.runs.rules.blocked_by import BlockedBy


def noted(**fields: Any) -> Any:
    """A transaction that has noted these fields."""
    nothing = {"events": [], "cancelled": [], "woken": 0, "deliveries": 0, "freed": set()}
    return SimpleNamespace(**nothing | fields)


class Others:
    """The live stream and the notifier, as a list of what they were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.asked.append(name)


def test_nothing_follows_a_commit_that_noted_nothing() -> None:
    others: Any = Others()
    CommitHooks(others, others, others.admit)(noted())
    assert others.asked == []


def test_each_fact_has_its_follower() -> None:
    others: Any = Others()
    local = Local(publish=others.publish_here, wake=others.wake_here)
    freed = {BlockedBy.limit("o|agent:a")}
    tx = noted(events=["event"], cancelled=[("worker", "task")], woken=2, deliveries=1, freed=freed)
    CommitHooks(others, others, others.admit, local)(tx)
    assert others.asked == [
        "publish", "publish_here", "cancel", "notify", "wake_here", "notify_deliveries", "admit",
    ]  # fmt: skip


@pytest.mark.parametrize(("made_here", "asked"), [(True, []), (False, ["notify_deliveries"])])
def test_callbacks_wake_others_unless_this_process_makes_them(made_here: bool, asked: list[str]) -> None:
    others: Any = Others()
    CommitHooks(others, others, others.admit, Local(deliver=lambda: made_here))(noted(deliveries=1))
    assert others.asked == asked
