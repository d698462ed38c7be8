"""When a run that waits goes on: as soon as one group has all that it waits for."""

from __future__ import annotations

from runyard_common.runs.rules.blocked_by import CHILDREN, EVENT, SLEEP, BlockedBy
from runyard_common.runs.rules.waits import Group, World, judge, together

NOW = 1000.0


def world(*children: str, failed: str = "", **events: float | None) -> World:
    return World(NOW, frozenset(children), frozenset(failed.split()), events)


def test_a_sleep_goes_on_at_its_time() -> None:
    verdict = judge("t", [Group(until=NOW + 5)], world())
    assert (verdict.ready, verdict.at, verdict.blocked_by) == (False, NOW + 5, SLEEP)
    assert judge("t", [Group(until=NOW)], world()).ready


def test_one_child_is_named_and_several_are_not() -> None:
    assert judge("t", [Group(children=("a",))], world("a")).blocked_by == BlockedBy.child("a")
    assert judge("t", [Group(children=("a", "b"))], world("a", "b")).blocked_by == CHILDREN
    assert judge("t", [Group(children=("a", "b"))], world("b")).blocked_by == BlockedBy.child("b")
    assert judge("t", [Group(children=("a", "b"))], world()).ready


def test_one_complete_group_is_enough() -> None:
    assert judge("t", [Group(children=("a",)), Group(children=("b",))], world("a")).ready


def test_the_first_failure_ends_an_urgent_wait_and_no_other() -> None:
    groups = [Group(children=("a", "b"), urgent=True)]
    assert judge("t", groups, world("a", failed="b")).ready
    assert not judge("t", groups, world("a")).ready
    assert not judge("t", [Group(children=("a", "b"))], world("a", failed="b")).ready


def test_an_event_counts_until_its_deadline() -> None:
    group = [Group(events=("e",))]
    assert judge("t", group, world(e=None)).blocked_by == EVENT
    assert judge("t", group, world(e=None)).at is None
    assert judge("t", group, world(e=NOW + 3)).at == NOW + 3
    assert judge("t", group, world(e=NOW)).ready
    assert judge("t", group, world()).ready, "it came"


def test_time_alone_lets_a_group_go_on_only_where_nothing_else_is_missing() -> None:
    both = Group(children=("a",), until=NOW + 5)
    assert judge("t", [both], world("a")).at is None
    assert judge("t", [both], world()).at == NOW + 5
    assert judge("t", [both, Group(until=NOW + 9)], world("a")).at == NOW + 9
    assert judge("t", [Group(events=("e",), until=NOW + 5)], world(e=NOW + 7)).at == NOW + 7


def test_groups_of_one_name_are_one() -> None:
    several = [Group(children=("a",), name="g"), Group(children=("b",), until=5.0, name="g", urgent=True)]
    one = Group(children=("c",))
    assert together([*several, one, one]) == (
        one,
        Group(children=("a", "b"), until=5.0, name="g", urgent=True),
    )
