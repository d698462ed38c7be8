"""What a fire does while an earlier run of its schedule goes on."""

from __future__ import annotations

import pytest

from runyard_common.schedules.rules.policies import MAX_QUEUED, Overlap, OverlapDecision, decide_overlap


@pytest.mark.parametrize("policy", list(Overlap))
def test_with_nothing_running_every_policy_starts(policy: Overlap) -> None:
    assert decide_overlap(policy, active=0) is OverlapDecision.START


@pytest.mark.parametrize(
    ("policy", "decision"),
    [
        (Overlap.SKIP, OverlapDecision.SKIP),
        (Overlap.QUEUE, OverlapDecision.QUEUE),
        (Overlap.ALLOW, OverlapDecision.START),
        (Overlap.STOP_RUNNING, OverlapDecision.STOP_AND_START),
    ],
)
def test_with_a_run_going_on_the_policy_decides(policy: Overlap, decision: OverlapDecision) -> None:
    assert decide_overlap(policy, active=1) is decision


def test_a_queued_fire_never_overtakes_the_ones_that_wait() -> None:
    assert decide_overlap(Overlap.QUEUE, active=0, queued=1) is OverlapDecision.QUEUE


def test_a_full_queue_skips() -> None:
    assert decide_overlap(Overlap.QUEUE, active=1, queued=MAX_QUEUED - 1) is OverlapDecision.QUEUE
    assert decide_overlap(Overlap.QUEUE, active=1, queued=MAX_QUEUED) is OverlapDecision.SKIP
    assert decide_overlap(Overlap.QUEUE, active=1, queued=1, max_queued=1) is OverlapDecision.SKIP
