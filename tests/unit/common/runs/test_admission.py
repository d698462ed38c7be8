"""Admission: which limits a task counts against, and when one holds it back."""

from __future__ import annotations

from runyard_common.runs.rules.admission import Facts, Gate, Kind, Load, Rule, Strategy, decide, gates, label

ORG = "org-1"
FACTS = Facts(ORG, "@demo/echo", end_user="eu_1", session="s-1", model="m", args={"customer": {"id": 7}})


def rule(kind: Kind, selector: str = "*", **options: object) -> Rule:
    return Rule(str(options.pop("id", "r1")), str(options.pop("org_id", ORG)), kind, selector, **options)  # type: ignore[arg-type]


def test_a_task_without_rules_passes_no_gate_but_its_session() -> None:
    assert [gate.key for gate in gates([], FACTS)] == [f"{ORG}|session:s-1"]


def test_a_session_runs_one_task_at_a_time() -> None:
    (gate,) = gates([], FACTS)
    assert gate.max_concurrent == 1


def test_a_task_counts_against_every_limit_at_once() -> None:
    rules = [rule(Kind.AGENT), rule(Kind.ORGANISATION), rule(Kind.END_USER), rule(Kind.MODEL)]
    labels = {label(gate.key) for gate in gates(rules, FACTS)}
    assert labels == {"agent:@demo/echo", f"organisation:{ORG}", "end_user:eu_1", "model:m", "session:s-1"}


def test_a_selector_that_names_another_agent_does_not_bind() -> None:
    assert gates([rule(Kind.AGENT, "@demo/other", max_concurrent=1)], Facts(ORG, "@demo/echo")) == []


def test_a_key_limit_takes_its_value_from_the_input() -> None:
    (gate,) = gates([rule(Kind.KEY, "/customer/id", max_concurrent=2)], Facts(ORG, "a", args=FACTS.args))
    assert label(gate.key) == "key:r1:7"


def test_a_key_limit_whose_pointer_finds_nothing_does_not_bind() -> None:
    assert gates([rule(Kind.KEY, "/customer/name", max_concurrent=2)], Facts(ORG, "a", args=FACTS.args)) == []


def test_two_rules_of_one_key_become_the_tightest() -> None:
    rules = [rule(Kind.AGENT, max_concurrent=5), rule(Kind.AGENT, "@demo/echo", id="r2", max_concurrent=2)]
    (gate,) = gates(rules, Facts(ORG, "@demo/echo"))
    assert gate.max_concurrent == 2


def test_the_operators_limit_is_counted_over_every_organisation() -> None:
    (gate,) = gates([rule(Kind.MODEL, org_id="*", max_concurrent=5)], Facts(ORG, "a", model="m"))
    assert gate.key == "*|model:m"


def test_gates_come_in_the_order_in_which_they_are_locked() -> None:
    keys = [gate.key for gate in gates([rule(Kind.ORGANISATION), rule(Kind.AGENT)], FACTS)]
    assert keys == sorted(keys)


def test_a_full_limit_holds_the_task_and_is_named() -> None:
    gate = Gate("o|agent:a", max_concurrent=2)
    assert decide([gate], {gate.key: Load(held=1)}).admitted
    assert decide([gate], {gate.key: Load(held=2)}).full is gate


def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    gate = Gate("o|agent:a", max_concurrent=2)
    waiting = {gate.key: Load(held=1, waiting=True)}
    assert not decide([gate], waiting).admitted
    assert decide([gate], waiting, queue_jump=True).admitted


def test_a_start_rate_holds_what_comes_too_fast() -> None:
    gate = Gate("o|agent:a", rates=((3, 60.0),))
    assert decide([gate], {gate.key: Load(starts={60.0: 2})}).admitted
    assert not decide([gate], {gate.key: Load(starts={60.0: 3})}).admitted


def test_a_models_tokens_per_minute_hold_new_starts() -> None:
    gate = Gate("o|model:m", tokens_per_minute=1000)
    assert not decide([gate], {gate.key: Load(tokens=1000)}).admitted


def test_very_long_values_make_short_keys() -> None:
    (gate,) = gates([rule(Kind.KEY, "/k", max_concurrent=1)], Facts(ORG, "a", args={"k": "x" * 10_000}))
    assert len(gate.key) < 200


def test_the_sessions_strategy_is_its_gates() -> None:
    facts = Facts(ORG, "a", session="s", session_strategy=Strategy.INTERRUPT)
    assert gates([], facts)[0].strategy is Strategy.INTERRUPT
