"""Plans of storms: what runs, what is struck, and how it is judged. The named ones are each tuned to one promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.chaos.blows import BLOWS
from tests.chaos.findings import Rules
from tests.chaos.installation import Shape
from tests.chaos.orders import INNOCENT
from tests.chaos.poison import DEADLY, ENDS

#: The agent that has a limit in every storm.
LIMITED: Final = "@chaos/mixed"


@dataclass(frozen=True)
class Plan:
    """One storm. Times are seconds; `patience` is how long nothing may end once nothing is struck.

    `wave`: every order is accepted first, while a limit holds all of them back; they are let go together, and
    the first blow comes with the first claim.
    """

    shape: Shape = field(default_factory=Shape)
    runs: int = 2000
    seconds: float = 240.0
    every: float = 3.0
    blows: Sequence[str] = tuple(BLOWS)
    poison: float = 0.0
    poisons: Sequence[str] = ()
    kinds: Sequence[str] = tuple(INNOCENT)
    callbacks: float = 0.2
    receiver: str = "/flaky/20"  # how the receiver behaves, see `tests.fakes.receiver`
    pause: float = 0.1
    limit: int = 40
    patience: float = 180.0
    seed: int = 1
    wave: bool = False
    rules: Rules = field(default_factory=Rules)

    @property
    def judged_by(self) -> Rules:
        """The rules, with what follows from the plan."""
        stepped = "clock-step" in self.blows and self.shape.clocks and self.shape.database == "sqlite"
        return replace(
            self.rules,
            lease=self.shape.lease,
            limits={LIMITED: self.limit},
            wall_clock=not stepped,
            deadly=any(kind in DEADLY for kind in self.poisons),
        )


_SMALL: Final = Shape(workers=2, apis=1, schedulers=1, lease=6.0)
#: Heartbeats are so far apart that nothing but a fence ends a life whose claim was lost.
_DEFAULT_LEASE: Final = replace(_SMALL, lease=10.0)
_EMBEDDED: Final = replace(_SMALL, database="sqlite", workers=1)
_SHORT: Final = Plan(_SMALL, receiver="/ok", patience=90)

#: Poison that ends in its run's own failure at once.
QUICK: Final = tuple(kind for kind in ENDS if kind not in DEADLY)

PLANS: Final[dict[str, Plan]] = {
    # Runs that ask or wait for a child come back: nothing they did may be done again.
    "resumed": replace(_SHORT, shape=_EMBEDDED, runs=20, seconds=10, blows=(), kinds=("ask", "child"), wave=True),
    "limited": replace(
        _SHORT, shape=_EMBEDDED, runs=40, seconds=10, blows=(), kinds=("steps",), limit=4, pause=0.05, wave=True
    ),
    # A suspended worker wakes with a step under way, whose run belongs to another by then.
    "suspended": replace(
        _SHORT, runs=50, seconds=16, every=8, blows=("worker-stop",), kinds=("slow", "slow", "writer"), callbacks=0,
        wave=True,
    ),
    "claim-crashed": replace(
        _SHORT, shape=_DEFAULT_LEASE, runs=30, seconds=5, every=60, blows=("database-crash",),
        kinds=("irreversible",), pause=0.2, wave=True,
    ),
    # A failover to a replica that lacks the claims: what was accepted long before is there, they are not.
    "failed-over": replace(
        _SHORT, shape=replace(_DEFAULT_LEASE, forgets=True), runs=30, seconds=5, every=60, blows=("database-crash",),
        kinds=("irreversible",), pause=0.2, wave=True, rules=Rules(lost_claims=True),
    ),
    "deployed": replace(
        _SHORT, runs=150, seconds=20, every=5, blows=("worker-leave-in-claim", "worker-leave"),
        kinds=("steps", "writer", "irreversible", "stepless"), pause=0.2, rules=Rules(orderly=True),
    ),
    "row-lost": replace(
        _SHORT, runs=40, seconds=6, every=60, blows=("worker-row-lost",), kinds=("stepless", "steps"), pause=0.5,
        wave=True,
    ),
    "killed": replace(
        _SHORT, shape=replace(_SMALL, broker="rabbitmq"), runs=40, seconds=12, every=2.0, wave=True,
        blows=("worker-kill", "worker-leave-in-claim", "api-kill", "scheduler-kill", "broker-kill", "database-crash"),
    ),
    "poisoned": replace(_SHORT, shape=_EMBEDDED, runs=70, seconds=20, blows=(), poison=0.4, poisons=QUICK),
    "deadly": replace(
        _SHORT, shape=_EMBEDDED, runs=30, seconds=30, blows=(), poison=0.07, poisons=("os_exit", "blocks_loop"),
        kinds=("stepless", "declared", "steps"), patience=60,
    ),
}  # fmt: skip
