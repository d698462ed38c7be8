"""What a process learns of hosts: kinds, circuits, and how much each may get."""

from __future__ import annotations

import time

import pytest

from runyard_common.webhooks.rules.breaker import BreakerPolicy
from runyard_common.webhooks.rules.delivery_budget import BUDGETS, PER_HOST, SLOW, Kind
from runyard_workers.webhooks.hosts import LONGEST_HOLD, Hosts

KEY = ("org", "a.example")


def called(hosts: Hosts, *, status: int | None = None, error: str | None = None, times: int = 1) -> None:
    for n in range(times):
        hosts.begin(KEY, str(n))
        hosts.end(KEY, str(n), status=status, error=error)


def test_a_host_is_new_until_it_answers_and_good_when_it_answers_soon() -> None:
    hosts = Hosts()
    hosts.begin(KEY, "1")
    assert hosts.allowance().hosts[KEY].kind is Kind.NEW
    assert hosts.allowance().left[Kind.NEW] == BUDGETS[Kind.NEW] - 1
    hosts.end(KEY, "1", status=200)
    capacity = hosts.allowance().hosts[KEY]
    assert (capacity.kind, capacity.free) == (Kind.GOOD, PER_HOST[Kind.GOOD])


def test_a_quick_refusal_does_not_make_a_host_poor() -> None:
    hosts = Hosts()
    called(hosts, status=500, times=10)
    assert hosts.allowance().hosts[KEY].kind is Kind.GOOD


def test_silence_makes_a_host_poor_and_then_opens_its_circuit() -> None:
    hosts = Hosts(BreakerPolicy(failures=3, pause=30.0))
    called(hosts, status=200)
    called(hosts, error="connect_failed")
    capacity = hosts.allowance().hosts[KEY]
    assert (capacity.kind, capacity.free) == (Kind.POOR, PER_HOST[Kind.POOR])
    called(hosts, error="read_timeout", times=2)
    assert hosts.allowance().hosts[KEY].free == 0
    assert 0 < (hosts.wait_s() or 0) <= 30


def test_one_call_tries_whether_an_open_circuit_may_close() -> None:
    hosts = Hosts(BreakerPolicy(failures=1, pause=0.0))
    called(hosts, error="connect_failed")
    assert hosts.allowance().hosts[KEY].free == 1
    hosts.begin(KEY, "trial")
    assert hosts.allowance().hosts[KEY].free == 0
    hosts.end(KEY, "trial", status=200)
    assert hosts.allowance().hosts[KEY].kind is Kind.GOOD


@pytest.mark.parametrize("error", [None, "seal_broken", "internal_error"])
def test_a_trial_that_never_reached_the_host_holds_no_other_up(error: str | None) -> None:
    hosts = Hosts(BreakerPolicy(failures=1, pause=0.0, trial=3600.0))
    called(hosts, error="connect_failed")
    called(hosts, error=error)
    assert hosts.allowance().hosts[KEY].free == 1, (
        "the next call tries at once, not when the trial counts as lost"
    )


def test_a_call_that_takes_long_makes_its_host_poor_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts()
    hosts.begin(KEY, "1")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SLOW + 0.1)
    assert hosts.allowance().hosts[KEY].kind is Kind.POOR
    assert hosts.allowance().left == dict(BUDGETS) | {Kind.POOR: BUDGETS[Kind.POOR] - 1}
    hosts.end(KEY, "1", status=200)
    assert hosts.allowance().hosts[KEY].kind is Kind.POOR, "slow answers count"


def test_a_call_that_was_called_off_teaches_nothing() -> None:
    hosts = Hosts()
    called(hosts)
    assert hosts.allowance().hosts[KEY].kind is Kind.NEW


def test_a_receiver_that_asks_for_peace_gets_it_for_an_hour_at_most() -> None:
    hosts = Hosts()
    hosts.hold("wh_1", 1e9)
    assert hosts.allowance().paused["wh_1"] <= time.time() + LONGEST_HOLD
    hosts.hold("wh_1", -1)
    assert hosts.allowance().paused == {}
