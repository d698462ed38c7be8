"""agentbase's final_output: what `strict` and `name` mean (cases s-03 and s-11), and how its steps are numbered."""

from __future__ import annotations

import uuid
from typing import Any

import httpx2
import pytest

from tests.contract.frames import Frames, run
from tests.contract.live import Live
from tests.fakes.model_server import Reply, calls, reply, text_of, tools_of

pytestmark = pytest.mark.timeout(300)

SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "outcome": {"type": "string"}},
    "required": ["summary", "outcome"],
    "additionalProperties": False,
}
GUIDES: list[dict[str, Any]] = [{}, {"strict": False}, {"strict": None}]


def finally_(live: Live, admin: httpx2.Client, *given: Reply, forever: bool = False, **wanted: Any) -> Frames:
    """A run whose final output the model answers like this."""
    name, question = wanted.setdefault("name", f"n{uuid.uuid4().hex[:8]}"), uuid.uuid4().hex
    wanted.setdefault("schema", SCHEMA)
    live.model.when(question, reply("The answer."))
    live.model.when(lambda request: _asks_for(request, name), *given, forever=forever)
    return run(admin, question, final_output=wanted)


def _asks_for(request: dict[str, Any], name: str) -> bool:
    """Whether a request is for the final output, be it for the first time or for its correction."""
    return any(f"Now give {name}:" in text_of(message) for message in request["messages"])


def final(frames: Frames) -> dict[str, Any]:
    [event] = [event for event in frames.events if event["type"] == "agent_final_output"]
    return event


def sent(live: Live, name: str) -> dict[str, Any]:
    """The tool for the output, as the model was given it."""
    return next(tools_of(one)[name] for one in live.model.requests if name in tools_of(one))


@pytest.mark.parametrize("strictness", GUIDES)
def test_a_schema_that_is_a_guide_gives_the_closest_object_and_the_run_completes(
    admin: httpx2.Client, live: Live, strictness: dict[str, Any]
) -> None:
    name = f"f{uuid.uuid4().hex[:8]}"

    frames = finally_(live, admin, calls((name, {"summary": "x"})), forever=True, name=name, **strictness)

    assert final(frames)["content"] == {"summary": "x"}
    assert [one["field"] for one in final(frames)["violations"]] == ["output.outcome"]
    assert frames.types[-1] == "agent_completed"
    assert "agent_error" not in frames.types
    assert live.task(frames.events[0]["task_id"])["status"] == "completed"
    assert not sent(live, name).get("strict")


def test_a_strict_schema_is_enforced(admin: httpx2.Client, live: Live) -> None:
    name = f"f{uuid.uuid4().hex[:8]}"

    frames = finally_(live, admin, calls((name, {"summary": "x"})), forever=True, name=name, strict=True)

    assert frames.events[-1]["code"] == "output_invalid"
    assert "agent_final_output" not in frames.types
    assert sent(live, name)["strict"] is True


@pytest.mark.parametrize("strictness", [*GUIDES, {"strict": True}])
def test_an_object_that_fits_is_delivered_without_violations(
    admin: httpx2.Client, live: Live, strictness: dict[str, Any]
) -> None:
    name, fits = f"f{uuid.uuid4().hex[:8]}", {"summary": "x", "outcome": "y"}

    frames = finally_(live, admin, calls((name, fits)), name=name, **strictness)

    assert final(frames)["content"] == final(frames)["final_output"] == fits
    assert "violations" not in final(frames)


def test_the_closest_of_several_objects_is_delivered(admin: httpx2.Client, live: Live) -> None:
    name = f"f{uuid.uuid4().hex[:8]}"
    given = [calls((name, one)) for one in ({}, {"summary": "near"}, {"x": 1}, {"y": 2})]
    frames = finally_(live, admin, *given, name=name)

    assert final(frames)["content"] == {"summary": "near"}


def test_a_model_that_gives_no_object_ends_no_run_whose_schema_is_a_guide(
    admin: httpx2.Client, live: Live
) -> None:
    name = f"f{uuid.uuid4().hex[:8]}"
    frames = finally_(live, admin, reply("No."), forever=True, name=name)

    assert final(frames)["content"] is None
    assert final(frames)["violations"][0]["message"]
    assert frames.types[-1] == "agent_completed"
    assert frames.text() == "The answer."
    assert live.task(frames.events[0]["task_id"])["output"] == "The answer."


@pytest.mark.parametrize("name", ["résumé", "итог", "x y z", "a.b", "l" * 80, "итог.", "ok_name"])
def test_the_event_has_the_callers_own_name(admin: httpx2.Client, live: Live, name: str) -> None:
    frames = finally_(live, admin, reply('{"summary": "x", "outcome": "y"}'), name=name, strict=True)

    assert final(frames)["name"] == name
    log = admin.get(
        f"/api/v1/tasks/{frames.events[0]['task_id']}/events", headers={"accept": "application/json"}
    )
    assert [e["data"]["name"] for e in log.json()["data"] if e["type"] == "final_output"] == [name]


def test_steps_have_numbers_of_their_own_and_inner_ones_name_their_workflow_and_step(
    admin: httpx2.Client, live: Live
) -> None:
    name, question = f"f{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    steps = [
        {"id": id_, "name": id_, "description": f"{id_} {question}", "depends_on": needs}
        for id_, needs in (("one", []), ("two", ["one"]))
    ]
    for step in steps:
        live.model.when(str(step["description"]), reply("stepped"))
    live.model.when(f"Now give {name}:", reply('{"summary": "x", "outcome": "y"}'))
    live.model.when(question, reply("ok"))
    flow = {"id": "w", "name": "w", "description": "w", "steps": steps}

    frames = run(admin, question, workflows=[flow], final_output={"name": name, "schema": SCHEMA})

    numbered = [event for event in frames.events if "stepNumber" in event]
    assert [event["stepNumber"] for event in numbered] == [1, 2, 3, 4]
    assert [event["step"] for event in numbered] == ["1", "2", "3", "4"]
    assert [event.get("within") for event in numbered] == [
        {"workflow": "w", "step": "one"},
        {"workflow": "w", "step": "two"},
        None,
        {"phase": "final_output"},
    ]
