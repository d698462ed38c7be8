"""A hand-off lasts as long as its session, and has a way back for any number of specialists (case s-14)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx2
import pytest

from tests.contract.frames import Frames, run
from tests.contract.live import Live, unique
from tests.fakes.model_server import calls, reply, results_of, system_of, tools_of

pytestmark = pytest.mark.timeout(300)

SALES = {"name": "Sales Agent", "description": "Sells."}
SUPPORT = {"name": "Support Agent", "description": "Helps."}


def handed(admin: httpx2.Client, live: Live, agents: list[dict[str, str]]) -> Frames:
    """A run whose conversation the sales agent takes over."""
    question = unique("buy")
    live.model.when(question, calls(transfer_to_Sales_Agent={"reason": "buying"}), reply("Sales here."))
    return run(admin, question, agents=agents, system="You are the front desk.")


def next_turn(
    admin: httpx2.Client, live: Live, before: Frames, agents: list[dict[str, str]], *replies: Any
) -> tuple[Frames, dict[str, Any]]:
    """The session's next message: its events, and what the model was asked first."""
    question = unique("more")
    live.model.when(question, *(replies or (reply("Yes."),)))
    frames = run(
        admin,
        question,
        params={"session": before.events[0]["session"]},
        agents=agents,
        system="You are the front desk.",
    )
    asked = [r for r in live.model.requests if question in json.dumps(r["messages"])]
    return frames, asked[0]


@pytest.mark.parametrize("agents", [[SALES], [SALES, SUPPORT]])
def test_who_took_over_goes_on_in_the_next_turn_and_can_hand_back(
    admin: httpx2.Client, live: Live, agents: list[dict[str, str]]
) -> None:
    before = handed(admin, live, agents)

    frames, asked = next_turn(admin, live, before, agents)

    assert "You are Sales Agent" in system_of(asked)
    assert "front desk" not in system_of(asked)
    others = {"transfer_to_Support_Agent"} if SUPPORT in agents else set()
    assert set(tools_of(asked)) == {"transfer_to_assistant"} | others
    assert frames.text() == "Yes."


@pytest.mark.parametrize("agents", [[SALES], [SALES, SUPPORT]])
def test_it_is_handed_back_and_stays_there(
    admin: httpx2.Client, live: Live, agents: list[dict[str, str]]
) -> None:
    before = handed(admin, live, agents)

    frames, _ = next_turn(admin, live, before, agents, calls(transfer_to_assistant={}), reply("Front desk."))
    _, asked = next_turn(admin, live, before, agents)

    assert [e["agent"] for e in frames.events if e["type"] == "agent_transfer"] == ["@runyard/assistant"]
    assert "front desk" in system_of(asked)


def test_the_specialist_reads_that_the_conversation_is_its_own(admin: httpx2.Client, live: Live) -> None:
    handed(admin, live, [SALES])

    requests = [r for r in live.model.requests if "Sales Agent" in " ".join(results_of(r))]
    assert results_of(requests[-1])[-1] == (
        "Sales Agent has the conversation now. You are Sales Agent: go on with it."
    )


def test_a_call_without_that_specialist_is_the_main_agents_own(admin: httpx2.Client, live: Live) -> None:
    before = handed(admin, live, [SALES])

    _, asked = next_turn(admin, live, before, [SUPPORT])

    assert "front desk" in system_of(asked)


def test_a_cleared_session_begins_with_the_main_agent(admin: httpx2.Client, live: Live) -> None:
    before = handed(admin, live, [SALES])
    admin.post("/clear-messages", params={"session": before.events[0]["session"]}).raise_for_status()

    _, asked = next_turn(admin, live, before, [SALES])

    assert "front desk" in system_of(asked)


def test_another_session_begins_with_the_main_agent(admin: httpx2.Client, live: Live) -> None:
    handed(admin, live, [SALES])
    question = unique("else")
    live.model.when(question, reply("Hello."))

    run(admin, question, agents=[SALES], system="You are the front desk.")

    assert "front desk" in system_of(live.model.request_about(question))


def test_a_hand_off_whose_arguments_are_refused_hands_nothing_over(admin: httpx2.Client, live: Live) -> None:
    question = unique("odd")
    live.model.when(question, calls(transfer_to_Sales_Agent={"reason": 5}), reply("I stay."))

    frames = run(admin, question, agents=[SALES])

    assert "agent_transfer" not in frames.types
    assert frames.types[1:3] == ["agent_tool_use", "agent_tool_response"]
    assert frames.text() == "I stay."


def test_of_two_hand_offs_in_one_turn_the_first_is_one_and_the_other_is_closed(
    admin: httpx2.Client, live: Live
) -> None:
    question = unique("both")
    both = calls(transfer_to_Sales_Agent={"reason": "a"}, transfer_to_Support_Agent={"reason": "b"})
    live.model.when(question, both, reply("Sales here."))

    frames = run(admin, question, agents=[SALES, SUPPORT])

    assert frames.types.count("agent_transfer") == 1
    assert frames.types.count("agent_tool_use") == frames.types.count("agent_tool_response") == 1
    assert "Sales" in system_of(live.model.requests[-1])


def test_a_hand_off_with_an_argument_that_does_not_exist_hands_nothing_over(
    admin: httpx2.Client, live: Live
) -> None:
    question = unique("context")
    live.model.when(question, calls(transfer_to_Sales_Agent={"context": "x"}), reply("I stay."))

    frames = run(admin, question, agents=[SALES])

    assert "agent_transfer" not in frames.types
    assert frames.types[1:3] == ["agent_tool_use", "agent_tool_response"]


def test_two_specialists_of_one_name_are_refused(admin: httpx2.Client) -> None:
    twice = [SALES, SALES | {"description": "Sells, too."}]
    answer = admin.post("/", json={"message": "hi", "agents": twice})
    assert answer.status_code == 400, answer.text
    assert "agents[1].name" in answer.text


def answered_once(admin: httpx2.Client, frames: Frames) -> list[dict[str, Any]]:
    """The results of the run's calls in its native log, each call having one."""
    task = frames.events[0]["task_id"]
    headers = {"accept": "application/json"}
    log = admin.get(f"/api/v1/tasks/{task}/events", headers=headers).json()["data"]
    made = [one["data"]["id"] for one in log if one["type"] == "tool_call"]
    results = [one["data"] for one in log if one["type"] == "tool_result"]
    assert sorted(made) == sorted(one["id"] for one in results)
    assert frames.types.count("agent_tool_use") == frames.types.count("agent_tool_response") == len(made)
    return results


def twice(name: str) -> Any:
    """A turn that calls the same tool two times."""
    return calls((name, {"reason": "a"}), (name, {"reason": "b"}))


def test_of_two_hand_offs_back_in_one_turn_the_first_is_one(admin: httpx2.Client, live: Live) -> None:
    before = handed(admin, live, [SALES])

    frames, _ = next_turn(admin, live, before, [SALES], twice("transfer_to_assistant"), reply("Front desk."))

    assert [e["agent"] for e in frames.events if e["type"] == "agent_transfer"] == ["@runyard/assistant"]
    assert len(answered_once(admin, frames)) == 1
    assert frames.text() == "Front desk."


def test_a_hand_off_to_itself_is_the_call_of_a_tool_that_is_not_there(
    admin: httpx2.Client, live: Live
) -> None:
    before = handed(admin, live, [SALES])

    frames, _ = next_turn(
        admin, live, before, [SALES], calls(transfer_to_Sales_Agent={"reason": "me"}), reply("Still sales.")
    )

    assert "agent_transfer" not in frames.types
    [result] = answered_once(admin, frames)
    assert (result["tool"], result["outcome"]) == ("transfer_to_Sales_Agent", "failed")
    assert frames.text() == "Still sales."


def registered(admin: httpx2.Client) -> str:
    """A new agent that conversations may be handed to; its name."""
    name = f"@desk/legal{uuid.uuid4().hex[:6]}"
    body = {"name": name, "version": "1.0.0", "instructions": "You are the legal desk."}
    admin.post("/api/v1/agents/manifests", json=body).raise_for_status()
    return name


def test_a_hand_off_to_an_agent_that_is_gone_stays_and_is_reported(admin: httpx2.Client, live: Live) -> None:
    name, question = registered(admin), unique("gone")
    live.model.when(question, calls((f"transfer_to_{name.split('/')[1]}", {})), reply("I stay."))
    admin.delete(f"/api/v1/agents/{name}").raise_for_status()

    frames = run(admin, question, agents=[{"name": name, "description": "Law."}])

    assert "agent_transfer" not in frames.types
    [result] = answered_once(admin, frames)
    assert result["outcome"] == "failed"
    assert f"{name} cannot take over: there is no such agent any more. Go on yourself." in result["result"]
    assert frames.text() == "I stay."


def test_beside_a_hand_off_to_an_agent_that_is_gone_another_is_one(admin: httpx2.Client, live: Live) -> None:
    name, question = registered(admin), unique("gone and there")
    tool = f"transfer_to_{name.split('/')[1]}"
    both = calls((tool, {"reason": "a"}), ("transfer_to_Sales_Agent", {"reason": "b"}))
    live.model.when(question, both, reply("Sales here."))
    admin.delete(f"/api/v1/agents/{name}").raise_for_status()

    frames = run(admin, question, agents=[{"name": name, "description": "Law."}, SALES])

    assert [e["agent"] for e in frames.events if e["type"] == "agent_transfer"] == ["Sales Agent"]
    assert [one["tool"] for one in answered_once(admin, frames)] == [tool]
    assert frames.text() == "Sales here."


def test_specialists_whose_names_resemble_each_other_are_distinct(admin: httpx2.Client, live: Live) -> None:
    question = unique("resemble")
    live.model.when(question, calls(transfer_to_Sales_Agent_2={}), reply("Here."))

    frames = run(admin, question, agents=[SALES, {"name": "Sales.Agent", "description": "Sells more."}])

    assert [e["agent"] for e in frames.events if e["type"] == "agent_transfer"] == ["Sales.Agent"]
    assert frames.text() == "Here."
