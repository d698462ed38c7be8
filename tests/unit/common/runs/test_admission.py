"""Admission: which limits a task counts against, and when one blocks it."""

from __future__ import annotations

import pytest

from runyard_common.runs.rules.admission import (
    AdmissionContext,
    Kind,
    LimitCheck,
    Rule,
    Strategy,
    Usage,
    check_of,
    free,
    full_limit,
    limit_checks,
)

ORG = "org-1"
CONTEXT = AdmissionContext(
    ORG, "@demo/echo", end_user="eu_1", session="s-1", model="m", args={"customer": {"id": 7}}
)


def rule(kind: Kind, selector: str = "*", **options: object) -> Rule:
    return Rule(str(options.pop("id", "r1")), str(options.pop("org_id", ORG)), kind, selector, **options)  # type: ignore[arg-type]


def test_a_task_without_rules_passes_no_limit_but_its_session() -> None:
    assert [check.key for check in limit_checks([], CONTEXT)] == [f"{ORG}|session:s-1"]


def test_a_session_runs_one_task_at_a_time() -> None:
    (check,) = limit_checks([], CONTEXT)
    assert check.max_concurrent == 1


def test_a_task_counts_against_every_limit_at_once() -> None:
    rules = [rule(Kind.AGENT), rule(Kind.ORGANISATION), rule(Kind.END_USER), rule(Kind.MODEL)]
    labels = {check.blocked_by.label for check in limit_checks(rules, CONTEXT)}
    assert labels == {"agent:@demo/echo", f"organisation:{ORG}", "end_user:eu_1", "model:m", "session:s-1"}


def test_a_selector_that_names_another_agent_does_not_bind() -> None:
    assert (
        limit_checks([rule(Kind.AGENT, "@demo/other", max_concurrent=1)], AdmissionContext(ORG, "@demo/echo"))
        == []
    )


def test_a_key_limit_takes_its_value_from_the_input() -> None:
    (check,) = limit_checks(
        [rule(Kind.KEY, "/customer/id", max_concurrent=2)], AdmissionContext(ORG, "a", args=CONTEXT.args)
    )
    assert check.blocked_by.label == "key:r1:7"


def test_a_key_limit_whose_pointer_finds_nothing_does_not_bind() -> None:
    assert (
        limit_checks(
            [rule(Kind.KEY, "/customer/name", max_concurrent=2)],
            AdmissionContext(ORG, "a", args=CONTEXT.args),
        )
        == []
    )


def test_two_rules_of_one_key_become_the_tightest() -> None:
    rules = [rule(Kind.AGENT, max_concurrent=5), rule(Kind.AGENT, "@demo/echo", id="r2", max_concurrent=2)]
    (check,) = limit_checks(rules, AdmissionContext(ORG, "@demo/echo"))
    assert check.max_concurrent == 2


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("queueing", "rejecting", "strategy"),
    [(1, 1, Strategy.REJECT), (2, 1, Strategy.REJECT), (1, 2, Strategy.ENQUEUE)],
)
def test_of_two_rules_of_one_key_the_lower_bound_has_its_strategy(
    order: int, queueing: int, rejecting: int, strategy: Strategy
) -> None:
    rules = [
        rule(Kind.AGENT, max_concurrent=queueing),
        rule(Kind.AGENT, "@demo/echo", id="r2", max_concurrent=rejecting, strategy=Strategy.REJECT),
    ]
    (check,) = limit_checks(rules[::order], AdmissionContext(ORG, "@demo/echo"))
    assert check.strategy is strategy


def test_the_check_of_a_key_is_that_of_its_tasks() -> None:
    rules = [rule(kind, max_concurrent=3) for kind in (Kind.AGENT, Kind.SESSION, Kind.END_USER)]
    rules += [
        rule(Kind.KEY, "/customer/id", max_concurrent=2),
        rule(Kind.MODEL, org_id="*", rate_count=1, rate_seconds=5.0),
    ]
    rules += [rule(Kind.AGENT, "@demo/echo", max_concurrent=2)]
    for check in limit_checks(rules, CONTEXT):
        assert check_of(rules, check.key) == check
    assert check_of([], "*|agent:gone") == LimitCheck("*|agent:gone")


def test_free_starts_are_those_of_the_tightest_bound() -> None:
    check = LimitCheck("o|agent:a", 5, rates=((3, 60.0),))
    assert free(check, Usage(2, starts={60.0: 1}), 100) == 2
    assert free(check, Usage(4), 100) == 1
    assert free(check, Usage(9), 100) == 0
    assert free(LimitCheck("o|agent:a"), Usage(9), 100) == 100


def test_the_operators_limit_is_counted_over_every_organisation() -> None:
    (check,) = limit_checks(
        [rule(Kind.MODEL, org_id="*", max_concurrent=5)], AdmissionContext(ORG, "a", model="m")
    )
    assert check.key == "*|model:m"


def test_checks_come_in_the_order_in_which_they_are_locked() -> None:
    keys = [check.key for check in limit_checks([rule(Kind.ORGANISATION), rule(Kind.AGENT)], CONTEXT)]
    assert keys == sorted(keys)


def test_a_full_limit_blocks_the_task_and_is_named() -> None:
    check = LimitCheck("o|agent:a", max_concurrent=2)
    assert full_limit([check], {check.key: Usage(in_use=1)}) is None
    assert full_limit([check], {check.key: Usage(in_use=2)}) is check


def test_of_several_full_limits_one_that_rejects_is_named() -> None:
    first, last = LimitCheck("o|agent:a", 1), LimitCheck("o|model:m", 1)
    rejecting = LimitCheck("o|key:k", 1, strategy=Strategy.REJECT)
    full = {check.key: Usage(in_use=1) for check in (first, rejecting, last)}
    assert full_limit([first, rejecting, last], full) is rejecting
    assert full_limit([first, last], full) is first


def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    check = LimitCheck("o|agent:a", max_concurrent=2)
    waiting = {check.key: Usage(in_use=1, waiting=True)}
    assert full_limit([check], waiting)
    assert full_limit([check], waiting, queue_jump=True) is None


def test_a_start_rate_holds_what_comes_too_fast() -> None:
    check = LimitCheck("o|agent:a", rates=((3, 60.0),))
    assert full_limit([check], {check.key: Usage(starts={60.0: 2})}) is None
    assert full_limit([check], {check.key: Usage(starts={60.0: 3})})


def test_a_models_tokens_per_minute_hold_new_starts() -> None:
    check = LimitCheck("o|model:m", tokens_per_minute=1000)
    assert full_limit([check], {check.key: Usage(tokens=1000)})


def test_very_long_values_make_short_keys() -> None:
    (check,) = limit_checks(
        [rule(Kind.KEY, "/k", max_concurrent=1)], AdmissionContext(ORG, "a", args={"k": "x" * 10_000})
    )
    assert len(check.key) < 200


def test_the_sessions_strategy_is_its_checks() -> None:
    context = AdmissionContext(ORG, "a", session="s", session_strategy=Strategy.INTERRUPT)
    assert limit_checks([], context)[0].strategy is Strategy.INTERRUPT
