"""Suspicion: a worker's process died; which of the runs in it is to blame, and who pays? Pure.

A process that dies takes every run in it along, and most of them have done nothing. So a death alone is charged to
no run. It makes the runs that were executing suspects, by steps: a run whose process died twice without progress
executes in the worker's quarantine process, where it is known which run was executing when
the process died. Where that is not known, each suspect gets a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

#: Attempts after which progress no longer clears a run: one that dies after each step would go on for ever.
MOST_ATTEMPTS: Final = 25
#: Times others may interrupt a run before it finishes a step; then it gets a process of its own.
MOST_INTERRUPTIONS: Final = 3
#: Losses of its worker that a run in another process is not charged for: as a rule, another run of that worker is the
#: cause. Something has to bound the attempts of one that ends the worker from there.
MOST_LOSSES: Final = 5


class Suspicion(IntEnum):
    """How a run is executed, stored with the task."""

    NONE = 0  # among the others
    LOST_ONCE = 1  # among the others; its worker was lost once
    SUSPECT = 2  # in the quarantine process, among suspects
    ISOLATED = 3  # in a process of its own


class Loss(StrEnum):
    """How a run lost the process that executed it."""

    SILENT = "silent"  # the lease ran out: killed, crashed, cut off, or the host is gone
    CRASHED = "crashed"  # the process was seen to end by itself, or to be killed for its memory
    SUSPECTED = "suspected"  # the quarantine process died, and this run may have been the cause
    CROWDED = "crowded"  # another run was the cause
    MOVED = "moved"  # the process ended in order


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a loss means for one run: its suspicion from now on, whether a retry is charged for it, and how often others
    have interrupted it since it got on."""

    suspicion: Suspicion
    charged: bool = False
    interrupted: int = 0


def judge(suspicion: int, loss: Loss, progressed: bool, attempt: int, interrupted: int = 0) -> Judgement:
    """Judge the loss of a worker's process for a run that was executing in it or in a process it had started.

    `progressed`: the attempt finished a step; a run that gets on is not what ends its process. Only a
    suspect pays, and only when its worker was lost together with its quarantine process `MOST_LOSSES` times. A run
    that others have interrupted several times gets a process of its own, where nothing does.
    """
    now = Suspicion(min(max(suspicion, Suspicion.NONE), Suspicion.ISOLATED))
    if loss is Loss.SUSPECTED:
        return Judgement(Suspicion.ISOLATED)
    if loss is Loss.CROWDED and not progressed:
        again = interrupted + 1
        return (
            Judgement(Suspicion.ISOLATED)
            if again >= MOST_INTERRUPTIONS
            else Judgement(now, interrupted=again)
        )
    if loss in (Loss.MOVED, Loss.CROWDED) or (progressed and attempt < MOST_ATTEMPTS):
        return Judgement(now)
    if now >= Suspicion.SUSPECT:
        losses = interrupted + 1
        return Judgement(Suspicion.ISOLATED, charged=losses > MOST_LOSSES, interrupted=losses)
    if loss is Loss.CRASHED or now is Suspicion.LOST_ONCE:
        return Judgement(Suspicion.SUSPECT)
    return Judgement(Suspicion.LOST_ONCE)
