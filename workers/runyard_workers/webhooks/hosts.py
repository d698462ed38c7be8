"""The hosts a process calls: their circuit breakers, how long they take, what is under way to them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from runyard_common.webhooks.rules import breaker
from runyard_common.webhooks.rules.breaker import Breaker, BreakerPolicy, Circuit, blames_host
from runyard_common.webhooks.rules.delivery_budget import (
    BUDGETS,
    PER_HOST,
    SLOW,
    Allowance,
    HostCapacity,
    Kind,
)

Key = tuple[str, str]  # organisation, host

#: Hosts remembered; beyond, those without a failure or a call are forgotten.
_MOST: Final = 5_000
#: How much the last answer's time counts against those before.
_WEIGHT: Final = 0.3
#: The longest a receiver is not called because it asked for a pause, in seconds.
LONGEST_HOLD: Final = 3600.0


@dataclass(slots=True)
class _Host:
    breaker: Breaker = field(default_factory=Breaker)
    seconds: float | None = None  # smoothed; None: has not answered yet
    began: dict[str, float] = field(default_factory=dict)  # calls under way -> when, on the monotonic clock

    def kind(self, now: float) -> Kind:
        oldest = min(self.began.values(), default=now)
        if self.breaker != Breaker() or (self.seconds or 0.0) > SLOW or now - oldest > SLOW:
            return Kind.POOR
        return Kind.NEW if self.seconds is None else Kind.GOOD


class Hosts:
    """Belongs to the deliverer's loop. Nothing here is stored: a new process starts without it."""

    def __init__(
        self, policy: BreakerPolicy = breaker.DEFAULT, clock: Callable[[], float] = time.time
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._hosts: dict[Key, _Host] = {}
        self._paused: dict[str, float] = {}  # receiver -> until, in epoch seconds

    def allowance(self) -> Allowance:
        """What may be taken on now."""
        wall, now = self._clock(), time.monotonic()
        self._paused = {receiver: until for receiver, until in self._paused.items() if until > wall}
        used: Counter[Kind] = Counter()
        hosts: dict[Key, HostCapacity] = {}
        for key, host in self._hosts.items():
            kind = host.kind(now)
            used[kind] += len(host.began)
            hosts[key] = HostCapacity(kind, self._capacity(host, kind, wall))
        left = {kind: max(0, most - used[kind]) for kind, most in BUDGETS.items()}
        return Allowance(hosts, left, self._paused)

    def _capacity(self, host: _Host, kind: Kind, wall: float) -> int:
        if host.breaker.circuit is not Circuit.CLOSED:
            trial = breaker.admit(host.breaker, wall, self._policy).allowed
            return 1 if trial and not host.began else 0
        return max(0, PER_HOST[kind] - len(host.began))

    def wait_s(self) -> float | None:
        """Seconds until an open circuit may be tried again."""
        wall = self._clock()
        times = [h.breaker.retry_at for h in self._hosts.values() if h.breaker.circuit is not Circuit.CLOSED]
        return min((max(0.0, at - wall) for at in times if at > wall), default=None)

    def begin(self, key: Key, call_id: str) -> None:
        """A call starts."""
        host = self._hosts.setdefault(key, _Host())
        host.breaker = breaker.admit(host.breaker, self._clock(), self._policy).breaker
        host.began[call_id] = time.monotonic()

    def end(self, key: Key, call_id: str, *, status: int | None = None, error: str | None = None) -> None:
        """A call has ended in a status or an error code; neither: it was called off."""
        host = self._hosts[key]
        took = time.monotonic() - host.began.pop(call_id)
        if (status is not None or error is not None) and blames_host(status, error):
            host.breaker = breaker.fail(host.breaker, self._clock(), self._policy)
        elif status is None:  # called off, or never sent: it is no sign against the host
            host.breaker = breaker.call_off(host.breaker, self._clock())
        else:
            host.breaker = breaker.succeed(host.breaker)
        if status is not None:
            host.seconds = took if host.seconds is None else host.seconds + _WEIGHT * (took - host.seconds)
        if len(self._hosts) > _MOST:
            self._forget()

    def hold(self, receiver: str, seconds: float) -> None:
        """Leave a receiver alone for so long: it asked for it."""
        self._paused[receiver] = self._clock() + min(seconds, LONGEST_HOLD)

    def _forget(self) -> None:
        self._hosts = {k: h for k, h in self._hosts.items() if h.began or h.breaker != Breaker()}
