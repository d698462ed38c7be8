"""Workflows of a run: run by the engine, side by side where free, retried, skipped, resumed, told as events."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from tests.declared import Desk, desk
from tests.fakes.model_server import Reply, calls, fail, last_user, say, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as office:
        office.publish(tools=["ask_user"])
        yield office


def step(id_: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "name": id_, "description": f"Do <{id_}>", "depends_on": list(depends_on)} | more


def flow(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"id": "onboard", "name": "Onboarding", "description": "Bring somebody in.", "steps": list(steps)}


def does(name: str) -> Any:
    """Whether a request is for this step."""
    return lambda request: any(
        f"Do <{name}>" in text_of(m) for m in request["messages"] if m["role"] == "user"
    )


def states(office: Desk, task: Any, name: str) -> list[str]:
    return [e["state"] for e in office.events(task, "workflow_step") if e["step"] == name]


async def test_steps_run_in_order_of_their_dependencies_and_the_agent_answers_with_their_results(
    office: Desk,
) -> None:
    for name in ("a", "b"):
        office.server.when(does(name), say(f"{name} is done"))
    office.server.answer(say("Welcome!"))
    task = await office.completed("Onboard Ada.", workflows=[flow(step("b", "a"), step("a"))])
    assert task.output == "Welcome!"
    first, second, last = office.server.requests
    assert "Do <a>" in str(first)
    assert "Onboard Ada." in str(first)
    assert "a is done" in str(second)
    assert "b is done" in str(last)
    assert "Onboard Ada." in str(last)
    assert [
        (e["type"], e.get("step"), e["state"]) for e in office.events(task) if "workflow" in e["type"]
    ] == [
        ("workflow", None, "started"),
        ("workflow_step", "a", "started"),
        ("workflow_step", "a", "completed"),
        ("workflow_step", "b", "started"),
        ("workflow_step", "b", "completed"),
        ("workflow", None, "completed"),
    ]
    assert {e["step"] for e in office.events(task, "model_turn") if "step" in e} == {"a", "b"}


async def test_steps_that_do_not_depend_on_each_other_run_at_the_same_time(office: Desk) -> None:
    both = threading.Event()
    came: list[str] = []

    def respond(request: dict[str, Any]) -> Reply | None:
        for name in ("a", "b"):
            if does(name)(request):
                came.append(name)
                if len(came) == 2:
                    both.set()
                return Reply(text="done", hold=both)  # one alone would wait for half a minute
        return None

    office.server.respond = respond
    office.server.answer(say("Both."))
    task = await office.completed("Go.", workflows=[flow(step("a"), step("b"))])
    assert task.output == "Both."
    assert sorted(came) == ["a", "b"]
    assert office.server.arrivals[1] - office.server.arrivals[0] < 15


async def test_a_step_is_retried_with_backoff_and_its_failure_told(office: Desk) -> None:
    office.server.when(does("a"), fail(400), say("at last"))
    office.server.answer(say("Done."))
    policy = {"max_attempts": 3, "backoff": "linear"}
    task = await office.completed("Go.", workflows=[flow(step("a", retry_policy=policy))])
    assert states(office, task, "a") == ["started", "retrying", "completed"]
    (retrying,) = [e for e in office.events(task, "workflow_step") if e["state"] == "retrying"]
    assert (retrying["attempt"], retrying["delay_s"]) == (1, 1.0)
    assert office.server.arrivals[1] - office.server.arrivals[0] >= 1.0


async def test_an_optional_step_that_fails_is_skipped_and_what_depends_on_it_goes_on(office: Desk) -> None:
    office.server.when(does("a"), fail(400))
    office.server.when(does("b"), say("without a"))
    office.server.answer(say("Done."))
    task = await office.completed("Go.", workflows=[flow(step("a", optional=True), step("b", "a"))])
    assert states(office, task, "a") == ["started", "skipped"]
    assert states(office, task, "b") == ["started", "completed"]
    assert '"status":"skipped"' in str(office.server.requests[1]["messages"])


async def test_a_required_step_that_fails_fails_the_run_naming_it(office: Desk) -> None:
    office.server.when(does("a"), fail(400))
    task = await office.run("Go.", workflows=[flow(step("a"), step("b", "a"))])
    assert task.error is not None
    assert task.error["code"] == "workflow_step_failed"
    assert task.error["details"]["step"] == "a"
    assert states(office, task, "b") == []


async def test_a_steps_output_fits_its_schema(office: Desk) -> None:
    schema = {"type": "object", "properties": {"risk": {"type": "integer"}}, "required": ["risk"]}
    office.server.when(does("a"), calls(final_result={"risk": "high"}), calls(final_result={"risk": 3}))
    office.server.answer(say("Risk is 3."))
    task = await office.completed("Go.", workflows=[flow(step("a", output_schema=schema))])
    (completed,) = [e for e in office.events(task, "workflow_step") if e["state"] == "completed"]
    assert completed["output"] == {"risk": 3}


async def test_questions_of_parallel_steps_are_asked_together_and_done_steps_stay_done(office: Desk) -> None:
    office.server.when(does("a"), calls(ask_user={"question": "A?"}), say("a with answer"))
    office.server.when(does("b"), calls(ask_user={"question": "B?"}), say("b with answer"))
    office.server.when(does("c"), say("c alone"))
    office.server.answer(say("All done."))
    task_id = await office.submit("Go.", workflows=[flow(step("a"), step("b"), step("c"))])
    await office.shop.until(task_id, Status.WAITING_FOR_INPUT)
    open_ = {q["payload"]["text"]: q["id"] for q in office.shop.questions(task_id)}
    assert set(open_) == {"A?", "B?"}
    office.say(task_id, {open_["A?"]: "yes", open_["B?"]: "no"})
    task = await office.shop.ended(task_id)
    assert (task.status, task.output) == (Status.COMPLETED, "All done.")
    assert states(office, task, "c") == ["started", "completed"]
    assert sum(does("c")(request) for request in office.server.requests) == 1
    assert len(office.server.requests) == 6
    assert last_user(office.server.requests[-1])


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (flow(step("a", "b"), step("b", "a")), "workflows[0].steps"),
        (flow(step("a", "x")), "workflows[0].steps[0].depends_on[0]"),
        (flow(step("a"), step("a")), "workflows[0].steps[1].id"),
    ],
)
async def test_a_workflow_that_is_no_graph_is_the_callers_fault(office: Desk, bad: Any, field: str) -> None:
    task = await office.run("Go.", workflows=[bad])
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("invalid_workflow", "input")
    assert task.error["details"]["field"] == field
    assert not office.server.requests
