"""What a storm orders: a mix of innocent runs with a share of poison, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.poison import agent_of

#: Innocent kinds, their agents, and how many of a hundred runs are of each.
INNOCENT: dict[str, tuple[str, int]] = {
    "steps": ("@chaos/mixed", 20),
    "ask": ("@chaos/mixed", 10),
    "review": ("@chaos/mixed", 10),
    "child": ("@chaos/mixed", 10),
    "irreversible": ("@chaos/payer", 15),
    "plain": ("@chaos/plain", 8),
    "declared": ("@chaos/declared", 12),
    "stepless": ("@chaos/stepless", 8),
    "writer": ("@chaos/writer", 7),
    "slow": ("@chaos/slow", 4),
}


@dataclass(frozen=True)
class Order:
    """One run to submit. `poison` is None for an innocent one."""

    number: int
    kind: str
    agent: str
    args: dict[str, Any]
    poison: str | None = None
    callback: bool = False


def mix(
    count: int,
    seed: int,
    *,
    poison: float = 0.0,
    poisons: Sequence[str] = (),
    kinds: Sequence[str] = tuple(INNOCENT),
    callbacks: float = 0.2,
    pause: float = 0.1,
) -> list[Order]:
    """`count` orders, a `poison` share of them of the `poisons` in turn; agents sleep for about `pause` seconds."""
    chance = random.Random(seed)
    bad = set(chance.sample(range(count), round(count * poison))) if poisons else set()
    weights = [INNOCENT[kind][1] for kind in kinds]
    made = []
    for turn, number in enumerate(sorted(bad)):
        kind = poisons[turn % len(poisons)]
        made.append(Order(number, kind, agent_of(kind), {"kind": kind}, poison=kind))
    for number in range(count):
        if number in bad:
            continue
        (kind,) = chance.choices(kinds, weights)
        args = {"kind": kind, "pause": round(pause * chance.uniform(0.7, 4.0), 3)}
        made.append(Order(number, kind, INNOCENT[kind][0], args, callback=chance.random() < callbacks))
    return sorted(made, key=lambda order: order.number)
