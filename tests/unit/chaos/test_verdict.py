"""Each promise that a storm can break is found in the facts that show it, and in no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from tests.chaos.evidence import Evidence, Exit, Run
from tests.chaos.findings import Rules
from tests.chaos.ledger import BEGIN, END, ENTER, LEAVE, TICK, Act, by_task
from tests.chaos.orders import Order
from tests.chaos.verdict import judge
from tests.fakes.receiver import Received

RULES = Rules(lease=3.0)
STEPS = Order(0, "steps", "@chaos/mixed", {})
STATUS = {"submit": "pending", "claim": "running", "finish": "completed", "fail": "failed", "rescue": "queued",
          "release": "queued", "admit": "pending"}  # fmt: skip


def event(type_: str, attempt: int, at: float, **data: Any) -> dict[str, Any]:
    """An entry of a log, as yet without its number."""
    return {
        "type": type_,
        "attempt": attempt,
        "at": at,
        "data": {"status": STATUS.get(type_, "running")} | data,
    }


def act(phase: str, at: float, attempt: int = 1, life: str = "", step: str = "-") -> Act:
    """A line of the ledger."""
    return Act(at, "t", attempt, life or f"life-{attempt}", 100 + attempt, False, phase, step)


#: A run of one step, as it should be.
LOG = (
    event("submit", 0, 0.0),
    event("claim", 1, 1.0),
    event("step", 1, 2.0, name="one"),
    event("finish", 1, 3.0),
)
ACTS = (act(ENTER, 1.1), act(BEGIN, 1.2, step="one"), act(END, 1.9, step="one"), act(LEAVE, 2.9))


def found(
    log: tuple[Mapping[str, Any], ...] = LOG,
    acts: tuple[Act, ...] = ACTS,
    order: Order = STEPS,
    rules: Rules = RULES,
    *,
    row: Mapping[str, Any] | None = None,
    **more: Any,
) -> set[str]:
    """The kinds of findings of one run with this log, these acts and these columns."""
    events = [dict(entry) | {"seq": number} for number, entry in enumerate(log, 1)]
    columns: dict[str, Any] = {field.name: None for field in fields(Task)} | {
        "id": "t", "agent_name": order.agent, "status": Status(events[-1]["data"]["status"]),
        "attempt": max(entry["attempt"] for entry in events), "last_seq": len(events), "has_callback": False,
    }  # fmt: skip
    run = Run(Task(**columns | dict(row or {})), events, by_task(acts).get("t", []), order)
    given: dict[str, Any] = {"orders": {"t": order}, "runs": {"t": run}, "worker_ids": frozenset({"w"})}
    return set(judge(Evidence(**given | more), rules).kinds)


def test_a_run_that_kept_every_promise_has_no_findings() -> None:
    assert found() == set()


def test_an_accepted_run_without_a_row_is_lost() -> None:
    assert found(orders={"t": STEPS, "other": STEPS}) == {"lost"}


def test_an_order_that_is_never_accepted_is_found() -> None:
    assert found(refused=["order 7"]) == {"never accepted"}


def test_a_running_run_whose_owner_has_no_row_has_no_worker_to_look_at_it() -> None:
    running = {"status": Status.RUNNING, "lease_owner": "gone"}
    assert found(LOG[:2], ACTS[:1], row=running) == {"unfinished", "without owner"}
    assert found(LOG[:2], ACTS[:1], row=running | {"lease_owner": "w"}) == {"unfinished"}


def test_two_terminal_events_are_found() -> None:
    assert found((*LOG, event("finish", 1, 3.5))) == {"two ends"}


def test_a_number_missing_in_a_log_is_found() -> None:
    assert found(row={"last_seq": 5}) == {"gaps in the log"}


AGAIN = (event("submit", 0, 0.0), event("claim", 1, 1.0), event("step", 1, 2.0, name="one"),
         event("rescue", 1, 8.0, worker="w"), event("claim", 2, 9.0), event("finish", 2, 12.0))  # fmt: skip


def test_a_step_that_a_later_attempt_executes_again_is_repeated() -> None:
    second = (act(ENTER, 9.1, 2), act(LEAVE, 11.9, 2))
    assert found(AGAIN, (*ACTS[:3], *second)) == set()
    assert found(AGAIN, (*ACTS[:3], *second, act(BEGIN, 9.2, 2, step="one"))) == {"step repeated"}


def test_a_step_that_an_earlier_attempt_executes_after_another_has_finished_it_is_repeated() -> None:
    log = (*AGAIN[:2], event("rescue", 1, 3.0, worker="w"), event("claim", 2, 4.0), event("step", 2, 5.0, name="one"),
           event("finish", 2, 12.0))  # fmt: skip
    acts = (act(ENTER, 1.1), act(ENTER, 4.1, 2), act(BEGIN, 4.2, 2, step="one"), act(END, 4.9, 2, step="one"),
            act(LEAVE, 11.9, 2))  # fmt: skip
    assert found(log, acts) == set()
    assert found(log, (*acts, act(BEGIN, 7.0, 1, step="one"))) == {"step repeated", "two lives"}


def test_an_irreversible_step_that_begins_twice_is_found_against_the_log() -> None:
    acts = (act(ENTER, 1.1), act(BEGIN, 1.2, step="pay0"), act(BEGIN, 1.3, step="pay0"), act(LEAVE, 2.9))
    assert "irreversible twice" in found(LOG[:2] + LOG[3:], acts)


def test_a_life_that_goes_on_for_longer_than_a_lease_beside_its_successor_is_found() -> None:
    log = (*AGAIN[:2], event("rescue", 1, 3.0, worker="w"), event("claim", 2, 4.0), event("finish", 2, 12.0))
    acts = (act(ENTER, 1.1), act(ENTER, 4.1, 2), act(LEAVE, 11.9, 2))
    assert found(log, (*acts, act(TICK, 6.0, 1))) == set()
    assert found(log, (*acts, act(TICK, 9.0, 1))) == {"two lives"}


def test_two_lives_of_one_attempt_are_distinct() -> None:
    acts = (*ACTS, act(ENTER, 1.5, life="twin"), act(BEGIN, 1.6, life="twin", step="two"), act(TICK, 1.7))
    assert found(acts=acts) == set()
    assert found(acts=(*acts, act(BEGIN, 1.8, step="three"))) == {"two lives"}


def test_a_lost_claim_lets_its_life_begin_one_more_step_within_a_lease() -> None:
    acts = (*ACTS, act(ENTER, 1.5, life="twin"), act(BEGIN, 1.8, step="three"))
    assert found(acts=acts, rules=replace(RULES, lost_claims=True)) == set()


def test_an_event_of_an_attempt_after_a_later_claim_is_a_stale_write() -> None:
    assert found((*AGAIN[:-1], event("log", 1, 10.0), event("finish", 2, 12.0)),
                 (*ACTS[:3], act(ENTER, 9.1, 2), act(LEAVE, 11.9, 2))) == {"stale write"}  # fmt: skip


def test_a_step_on_record_as_the_work_of_an_attempt_that_had_not_done_it_is_a_stale_write() -> None:
    log = (*AGAIN[:2], event("rescue", 1, 3.0, worker="w"), event("claim", 2, 4.0), event("step", 2, 4.3, name="one"),
           event("finish", 2, 12.0))  # fmt: skip
    acts = (act(ENTER, 1.1), act(BEGIN, 1.2, step="one"), act(END, 4.2, step="one"), act(ENTER, 4.1, 2),
            act(LEAVE, 11.9, 2))  # fmt: skip
    assert found(log, acts) == {"stale write"}


def test_a_moment_over_a_limit_is_found() -> None:
    assert found(rules=replace(RULES, limits={"@chaos/mixed": 1})) == set()
    assert found(rules=replace(RULES, limits={"@chaos/mixed": 0})) == {"over a limit"}


FAILED = (event("submit", 0, 0.0), event("claim", 1, 1.0), event("fail", 1, 3.0))
ERROR = {"code": "worker_lost", "cause": "infrastructure"}


def test_an_innocent_that_fails_is_found() -> None:
    assert found(FAILED, ACTS[:1], row={"error": ERROR}) == {"innocent failed"}
    declared = replace(STEPS, kind="declared")
    kinds = {"innocent failed", "declared retries not recovered"}
    assert found(FAILED, ACTS[:1], declared, row={"error": ERROR}) == kinds


def test_an_innocent_pays_for_one_loss_at_most_and_for_those_that_the_storm_caused() -> None:
    acts = (*ACTS[:3], act(ENTER, 9.1, 2), act(LEAVE, 11.9, 2))
    assert found(AGAIN, acts, row={"retries": {"infrastructure": 1}}) == set()
    assert found(AGAIN, acts, row={"retries": {"infrastructure": 2}}) == {"innocent charged"}
    assert found(AGAIN, acts, row={"retries": {"infrastructure": 2}}, struck={"w": 7.0}) == set()


def test_poison_has_to_end_as_its_kind_must() -> None:
    poison = Order(0, "exit", "@chaos/poison", {}, poison="exit")
    own = {"code": "agent_error", "cause": "agent"}
    assert found(FAILED, ACTS[:1], poison, row={"error": own}) == set()
    assert found(FAILED, ACTS[:1], poison, row={"error": ERROR}) == {"wrong end of poison"}
    lives = tuple(act(ENTER, 1.0 + n, life=f"life-{n}") for n in range(9))
    assert found(FAILED, lives, poison, row={"error": own}) == {"wrong end of poison"}


def test_a_loop_that_is_blocked_for_more_than_two_leases_is_found() -> None:
    poison = Order(0, "spins", "@chaos/poison", {}, poison="spins")
    row = {"error": {"code": "agent_blocked_loop", "cause": "agent"}}
    assert found(FAILED, ACTS[:1], poison, row=row) == set()
    late = (*FAILED[:2], event("fail", 1, 9.0))
    assert found(late, ACTS[:1], poison, row=row) == {"loop blocked too long"}


def test_releases_without_progress_and_hot_loops_are_bounded() -> None:
    idle = [event("release", n, 1.0 + n, reason="orphaned") for n in range(1, 8)]
    assert found((*LOG[:2], *idle, event("finish", 7, 12.0)), (act(ENTER, 1.1, 7), act(LEAVE, 11.0, 7))) == {
        "released without progress"
    }
    assert found(row={"attempt": 100}) == {"hot loop"}


def delivery(number: int, state: str = "success", type_: str = "agent_step") -> Any:
    """A row of the outbox."""

    class Row:
        task_id, event_id, event_type = "t", f"evt_{number}", type_
        order_key, order_seq, error = "cb:t", number, None

    row: Any = Row()
    row.state = state
    return row


def received(number: int) -> Received:
    """What the receiver took."""
    return Received(0.0, "/ok", {"webhook-id": f"evt_{number}", "webhook-attempt": "1"}, "{}", True)


@pytest.mark.parametrize(
    ("rows", "requests", "kinds"),
    [
        ([delivery(1), delivery(2, type_="run.completed")], [received(1), received(1), received(2)], set()),
        ([delivery(2, type_="run.completed")], [], {"callback not delivered"}),
        ([delivery(2, "pending", "run.completed")], [received(2)], {"callback not delivered"}),
        ([delivery(2, "dead", "run.completed")], [], set()),
        ([delivery(1)], [received(1)], {"callback not delivered"}),
        ([delivery(1), delivery(2, type_="run.completed")], [received(2), received(1)], {"callbacks out of order"}),
    ],
    ids=["delivered, one twice", "never taken", "pending", "visibly dead", "the end was not promised", "disordered"],
)  # fmt: skip
def test_every_callback_is_taken_in_order_or_visibly_dead(
    rows: list[Any], requests: list[Received], kinds: set[str]
) -> None:
    assert found(row={"has_callback": True}, deliveries=rows, received=requests) == kinds


def test_a_process_that_ends_by_itself_or_not_in_order_is_found() -> None:
    assert found(exits=[Exit("worker-1", -9, "killed"), Exit("worker-1", 0, "ordered")]) == set()
    assert found(exits=[Exit("worker-1", 1, "ordered")]) == {"process ended"}
    assert found(exits=[Exit("worker-1", 1, "itself")]) == {"process ended"}
    assert found(exits=[Exit("worker-1", 1, "itself")], rules=replace(RULES, deadly=True)) == set()
    assert found(exits=[Exit("api-1", 1, "itself")], rules=replace(RULES, deadly=True)) == {"process ended"}


def test_a_worker_that_was_suspended_for_long_may_end_when_it_goes_on() -> None:
    ended = [Exit("worker-1", 1, "itself", pid=7)]
    assert found(exits=ended, resumed=[(7, 5.0)]) == set()
    assert found(exits=ended, resumed=[(8, 5.0)]) == {"process ended"}
    assert found(exits=[Exit("worker-1", 71, "itself", pid=7)], resumed=[(7, 5.0)]) == {"process ended"}


def test_an_orderly_stop_leaves_no_run_to_be_found() -> None:
    acts = (*ACTS[:3], act(ENTER, 9.1, 2), act(LEAVE, 11.9, 2))
    assert found(AGAIN, acts, rules=replace(RULES, orderly=True)) == {"left behind by an orderly stop"}
    drained = tuple(event("release", 1, 8.0, reason="drain") if e["type"] == "rescue" else e for e in AGAIN)
    assert found(drained, acts, rules=replace(RULES, orderly=True)) == set()
