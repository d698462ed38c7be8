"""Who is suspected when a process dies, and who pays."""

from __future__ import annotations

import pytest

from runyard_common.runs.rules.suspicion import (
    MOST_ATTEMPTS,
    MOST_INTERRUPTIONS,
    MOST_LOSSES,
    Judgement,
    Loss,
    Suspicion,
    judge,
)

NONE, ONCE, SUSPECT, ISOLATED = Suspicion.NONE, Suspicion.LOST_ONCE, Suspicion.SUSPECT, Suspicion.ISOLATED


@pytest.mark.parametrize(
    ("before", "loss", "after"),
    [
        (NONE, Loss.SILENT, ONCE),
        (ONCE, Loss.SILENT, SUSPECT),
        (NONE, Loss.CRASHED, SUSPECT),
        (ONCE, Loss.CRASHED, SUSPECT),
        (SUSPECT, Loss.SUSPECTED, ISOLATED),
        (NONE, Loss.MOVED, NONE),
        (SUSPECT, Loss.MOVED, SUSPECT),
    ],
)
def test_a_run_without_progress_is_suspected_by_steps_and_pays_nothing(
    before: Suspicion, loss: Loss, after: Suspicion
) -> None:
    assert judge(before, loss, progressed=False, attempt=1) == Judgement(after)


@pytest.mark.parametrize("loss", [Loss.SILENT, Loss.CRASHED])
def test_a_suspect_pays_when_its_worker_is_lost_with_its_process_again_and_again(loss: Loss) -> None:
    judgement = Judgement(SUSPECT)
    for losses in range(1, MOST_LOSSES + 1):
        judgement = judge(judgement.suspicion, loss, False, losses, judgement.interrupted)
        assert judgement == Judgement(ISOLATED, charged=False, interrupted=losses)
    assert judge(ISOLATED, loss, False, 9, judgement.interrupted).charged


@pytest.mark.parametrize("before", list(Suspicion))
@pytest.mark.parametrize("loss", [Loss.SILENT, Loss.CRASHED])
def test_a_run_that_gets_on_is_not_suspected_further(before: Suspicion, loss: Loss) -> None:
    assert judge(before, loss, progressed=True, attempt=3) == Judgement(before)


def test_progress_does_not_excuse_a_run_that_dies_after_every_step_for_ever() -> None:
    assert judge(ONCE, Loss.SILENT, progressed=True, attempt=MOST_ATTEMPTS).suspicion is SUSPECT


def test_a_suspicion_of_another_version_is_read_as_the_nearest_known() -> None:
    assert judge(9, Loss.MOVED, progressed=False, attempt=1).suspicion is ISOLATED
    assert judge(-1, Loss.MOVED, progressed=False, attempt=1).suspicion is NONE


def test_a_run_that_others_interrupt_again_and_again_gets_a_process_of_its_own() -> None:
    first = judge(NONE, Loss.CROWDED, progressed=False, attempt=1, interrupted=0)
    assert first == Judgement(NONE, interrupted=1)
    last = judge(NONE, Loss.CROWDED, progressed=False, attempt=3, interrupted=MOST_INTERRUPTIONS - 1)
    assert last == Judgement(ISOLATED)
    assert judge(NONE, Loss.CROWDED, progressed=True, attempt=3, interrupted=2) == Judgement(NONE)
