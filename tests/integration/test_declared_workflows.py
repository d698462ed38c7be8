"""Workflows of a run: run by the engine, side by side where free, retried, skipped, resumed, logged as events."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import Reply, calls, fail, last_user, reply, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    async with declared_agents(f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home") as declared:
        declared.publish(tools=["ask_user"])
        yield declared


def step(id_: str, *depends_on: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "name": id_, "description": f"Do <{id_}>", "depends_on": list(depends_on)} | more


def flow(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"id": "onboard", "name": "Onboarding", "description": "Bring a person in.", "steps": list(steps)}


def does(name: str) -> Any:
    """Whether a request is for this step."""
    return lambda request: any(
        f"Do <{name}>" in text_of(m) for m in request["messages"] if m["role"] == "user"
    )


def states(declared: Declared, task: Any, name: str) -> list[str]:
    return [e["state"] for e in declared.events(task, "workflow_step") if e["step"] == name]


async def test_steps_run_in_order_of_their_dependencies_and_the_agent_answers_with_their_results(
    declared: Declared,
) -> None:
    for name in ("a", "b"):
        declared.server.when(does(name), reply(f"{name} is done"))
    declared.server.answer(reply("Welcome!"))
    task = await declared.completed("Onboard Ada.", workflows=[flow(step("b", "a"), step("a"))])
    assert task.output == "Welcome!"
    first, second, last = declared.server.requests
    assert "Do <a>" in str(first)
    assert "Onboard Ada." in str(first)
    assert "a is done" in str(second)
    assert "b is done" in str(last)
    assert "Onboard Ada." in str(last)
    assert [
        (e["type"], e.get("step"), e["state"]) for e in declared.events(task) if "workflow" in e["type"]
    ] == [
        ("workflow", None, "started"),
        ("workflow_step", "a", "started"),
        ("workflow_step", "a", "completed"),
        ("workflow_step", "b", "started"),
        ("workflow_step", "b", "completed"),
        ("workflow", None, "completed"),
    ]
    assert {e["step"] for e in declared.events(task, "model_turn") if "step" in e} == {"a", "b"}


async def test_steps_that_do_not_depend_on_each_other_run_at_the_same_time(declared: Declared) -> None:
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

    declared.server.respond = respond
    declared.server.answer(reply("Both."))
    task = await declared.completed("Go.", workflows=[flow(step("a"), step("b"))])
    assert task.output == "Both."
    assert sorted(came) == ["a", "b"]
    assert declared.server.arrivals[1] - declared.server.arrivals[0] < 15


async def test_a_step_is_retried_with_backoff_and_its_failure_logged(declared: Declared) -> None:
    declared.server.when(does("a"), fail(400), reply("at last"))
    declared.server.answer(reply("Done."))
    policy = {"max_attempts": 3, "backoff": "linear"}
    task = await declared.completed("Go.", workflows=[flow(step("a", retry_policy=policy))])
    assert states(declared, task, "a") == ["started", "retrying", "completed"]
    (retrying,) = [e for e in declared.events(task, "workflow_step") if e["state"] == "retrying"]
    assert (retrying["attempt"], retrying["delay_s"]) == (1, 1.0)
    assert declared.server.arrivals[1] - declared.server.arrivals[0] >= 1.0


async def test_an_optional_step_that_fails_is_skipped_and_what_depends_on_it_goes_on(
    declared: Declared,
) -> None:
    declared.server.when(does("a"), fail(400))
    declared.server.when(does("b"), reply("without a"))
    declared.server.answer(reply("Done."))
    task = await declared.completed("Go.", workflows=[flow(step("a", optional=True), step("b", "a"))])
    assert states(declared, task, "a") == ["started", "skipped"]
    assert states(declared, task, "b") == ["started", "completed"]
    assert '"status":"skipped"' in str(declared.server.requests[1]["messages"])


async def test_a_required_step_that_fails_fails_the_run_naming_it(declared: Declared) -> None:
    declared.server.when(does("a"), fail(400))
    task = await declared.run("Go.", workflows=[flow(step("a"), step("b", "a"))])
    assert task.error is not None
    assert task.error["code"] == "workflow_step_failed"
    assert task.error["details"]["step"] == "a"
    assert states(declared, task, "b") == []


async def test_a_steps_output_fits_its_schema(declared: Declared) -> None:
    schema = {"type": "object", "properties": {"risk": {"type": "integer"}}, "required": ["risk"]}
    declared.server.when(does("a"), calls(final_result={"risk": "high"}), calls(final_result={"risk": 3}))
    declared.server.answer(reply("Risk is 3."))
    task = await declared.completed("Go.", workflows=[flow(step("a", output_schema=schema))])
    (completed,) = [e for e in declared.events(task, "workflow_step") if e["state"] == "completed"]
    assert completed["output"] == {"risk": 3}


async def test_questions_of_parallel_steps_are_asked_together_and_done_steps_stay_done(
    declared: Declared,
) -> None:
    declared.server.when(does("a"), calls(ask_user={"question": "A?"}), reply("a with answer"))
    declared.server.when(does("b"), calls(ask_user={"question": "B?"}), reply("b with answer"))
    declared.server.when(does("c"), reply("c alone"))
    declared.server.answer(reply("All done."))
    task_id = await declared.submit("Go.", workflows=[flow(step("a"), step("b"), step("c"))])
    await declared.site.until(task_id, Status.WAITING_FOR_INPUT)
    open_ = {q.payload["text"]: q.id for q in declared.site.questions(task_id)}
    assert set(open_) == {"A?", "B?"}
    declared.post(task_id, {open_["A?"]: "yes", open_["B?"]: "no"})
    task = await declared.site.ended(task_id)
    assert (task.status, task.output) == (Status.COMPLETED, "All done.")
    assert states(declared, task, "c") == ["started", "completed"]
    assert sum(does("c")(request) for request in declared.server.requests) == 1
    assert len(declared.server.requests) == 6
    assert last_user(declared.server.requests[-1])


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (flow(step("a", "b"), step("b", "a")), "workflows[0].steps"),
        (flow(step("a", "x")), "workflows[0].steps[0].depends_on[0]"),
        (flow(step("a"), step("a")), "workflows[0].steps[1].id"),
    ],
)
async def test_a_workflow_that_is_no_graph_is_the_callers_fault(
    declared: Declared, bad: Any, field: str
) -> None:
    task = await declared.run("Go.", workflows=[bad])
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("invalid_workflow", "input")
    assert task.error["details"]["field"] == field
    assert not declared.server.requests
