"""Budgets: poor hosts never take what good ones need, and no host takes all."""

from __future__ import annotations

from runyard_common.webhooks.rules.delivery_budget import (
    BUDGETS,
    HORIZON,
    PER_HOST,
    Allowance,
    Head,
    HostCapacity,
    Kind,
    pace,
    share,
)


def head(name: str, next_at: float = 0.0, host: str | None = None) -> Head:
    return Head(f"wh_{name}", "org", host or f"{name}.example", next_at)


def test_an_unknown_host_is_tried_a_few_times_at_once() -> None:
    assert share([head("a")], Allowance(), 1.0) == {"wh_a": PER_HOST[Kind.NEW]}


def test_what_is_not_due_or_asked_to_be_left_alone_is_left_alone() -> None:
    allowance = Allowance(paused={"wh_b": 5.0})
    assert share([head("a", 2.0), head("b")], allowance, 1.0) == {}
    assert share([head("a", 2.0), head("b")], allowance, 6.0) == {"wh_a": 4, "wh_b": 4}


def test_a_hundred_poor_hosts_leave_the_good_ones_their_whole_budget() -> None:
    heads = [head(f"poor{n:03}") for n in range(100)] + [head("good", 0.5)]
    hosts = {h.key: HostCapacity(Kind.POOR, PER_HOST[Kind.POOR]) for h in heads}
    hosts[head("good").key] = HostCapacity(Kind.GOOD, PER_HOST[Kind.GOOD])
    wanted = share(heads, Allowance(hosts), 1.0)
    assert wanted.pop("wh_good") == PER_HOST[Kind.GOOD]
    assert sum(wanted.values()) == BUDGETS[Kind.POOR]
    assert max(wanted.values()) == 1, "each gets a turn before any gets two"


def test_endpoints_of_one_host_share_what_it_may_get() -> None:
    heads = [head("a", host="shared.example"), head("b", host="shared.example")]
    assert sum(share(heads, Allowance(), 1.0).values()) == PER_HOST[Kind.NEW]


def test_no_room_means_none() -> None:
    a = head("a")
    assert share([a], Allowance({a.key: HostCapacity(Kind.POOR, 0)}), 1.0) == {}
    assert share([a], Allowance(left=dict.fromkeys(Kind, 0)), 1.0) == {}


def test_calls_are_spaced_evenly_and_not_taken_far_ahead() -> None:
    assert pace(None, 100.0, 50.0, 3) == [0.0, 0.01, 0.02]
    assert pace(50.1, 100.0, 50.0, 2) == [50.1 - 50.0, 50.1 - 50.0 + 0.01]
    assert pace(50.0 + HORIZON + 0.01, 100.0, 50.0, 2) == []
    assert len(pace(None, 8.0, 50.0, 10)) == 3
