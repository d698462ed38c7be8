"""The kit for authors: agents of each kind run in the test's own process, with scripted models and people."""

from __future__ import annotations

from typing import Any

import pytest

from runyard import Context, ProviderError, agent
from runyard.testing import Prompt, approve, arun, call, edit, reject, run, skip
from runyard.tools import tool

counted: list[str] = []


@tool(name="kit_lookup", effect="read")
async def lookup(order: str) -> dict[str, str]:
    """Where an order is."""
    counted.append(order)
    return {"order": order, "state": "shipped"}


@tool(name="kit_charge", effect="irreversible", review=True)
async def charge(amount: float) -> str:
    """Take money."""
    counted.append(f"charge {amount:g}")
    return f"charged {amount:g}"


@agent("@kit/buyer", output={"type": "object", "required": ["paid"]})
async def buyer(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Buys."""

    async def price() -> float:
        counted.append("price")
        return 5.0

    amount = await ctx.step("price", price)
    colour = await ctx.ask("Which colour?")
    approved = await ctx.review("pay", {"amount": amount})
    return {"paid": approved["amount"], "colour": colour}


DECLARED: dict[str, Any] = {
    "name": "@kit/support",
    "instructions": "Help.",
    "tools": ["kit_lookup", "kit_charge", "ask_user"],
}


@pytest.fixture(autouse=True)
def _uncounted() -> None:
    counted.clear()


@agent("@kit/annotated")
async def annotated(ctx: Context, args: dict[str, int]) -> int:
    """Counts what it is given."""
    return len(args)


@pytest.mark.parametrize(("given", "kind"), [([1], "list"), ("text", "str"), (3, "int")])
def test_an_agent_annotated_with_a_dict_fails_clearly_on_anything_else(given: Any, kind: str) -> None:
    error = run(annotated, given).error
    assert error is not None
    assert error["code"] == "invalid_input"
    assert error["message"] == f"The arguments do not fit @kit/annotated: it takes an object, not {kind}."
    assert run(annotated, {"a": "1"}).output == 1, "its values are the agent's own to judge"
    assert run(annotated, None, message="hi").output == 0


def test_a_python_agent_runs_with_answers_in_order() -> None:
    result = run(buyer, {}, answers=["red", edit({"amount": 4.0})])
    assert (result.status, result.output) == ("completed", {"paid": 4.0, "colour": "red"})
    assert result.asked == ("Which colour?", "Approve: pay")
    assert counted == ["price"]  # resumed twice, and yet


def test_answers_may_be_given_by_their_question() -> None:
    result = run(buyer, answers={"Approve: pay": approve(), "Which colour?": "blue"})
    assert result.output == {"paid": 5.0, "colour": "blue"}


def test_a_rejection_is_what_the_agent_gets() -> None:
    result = run(buyer, answers=["red", reject("too dear")])
    assert result.status == "failed"
    assert result.error is not None
    assert (result.error["code"], result.error["message"]) == ("rejected", "too dear")


def test_a_question_without_an_answer_fails_the_test_naming_it() -> None:
    with pytest.raises(AssertionError, match="Which colour"):
        run(buyer)


def test_a_declared_agent_runs_on_a_script() -> None:
    result = run(
        DECLARED,
        message="Where is A1?",
        model=[[call("kit_lookup", order="A1"), call("kit_lookup", order="B2")], _sums_up],
        options={"streaming_tokens": True},
    )
    assert result.output == "2 orders"
    assert sorted(counted) == ["A1", "B2"]
    assert result.prompts[0].system == "Help."
    assert result.prompts[0].text == "Where is A1?"
    assert "".join(result.tokens) == "2 orders"
    assert [event["tool"] for event in result.of_type("tool_call")] == ["kit_lookup", "kit_lookup"]


def _sums_up(prompt: Prompt) -> str:
    return f"{len(prompt.results)} orders"


def test_a_declared_agent_with_an_output_schema_answers_with_the_object() -> None:
    manifest = {**DECLARED, "output": {"schema": {"type": "object", "required": ["state"]}}}
    result = run(manifest, {"order": "A1"}, model=[{"stat": "x"}, {"state": "shipped"}])
    assert result.output == {"state": "shipped"}
    assert len(result.of_type("output_invalid")) == 1


def test_of_a_review_and_a_question_in_one_turn_the_review_is_decided_first() -> None:
    both = [call("ask_user", question="Which card?"), call("kit_charge", amount=5)]
    result = run(DECLARED, message="Charge 5.", model=[both, "Charged."], answers=[approve(), "the blue one"])
    assert (result.status, result.output) == ("completed", "Charged.")
    assert result.asked == ("Approve the call of kit_charge.", "Which card?")
    assert counted == ["charge 5"]


@pytest.mark.parametrize("writes", range(1, 8))
def test_a_crash_after_any_write_repeats_nothing(writes: int) -> None:
    script = [call("kit_charge", amount=5), "Charged."]
    result = run(DECLARED, message="Charge 5.", model=script, answers=_decide, crash_after=[writes])
    assert (result.status, result.output) == ("completed", "Charged.")
    assert counted == ["charge 5"]
    assert result.usage["turns"] == 2


class _Decide(dict[str, Any]):
    """An operator who approves, and knows that what was under way has happened."""

    def __contains__(self, text: object) -> bool:
        return True

    def __getitem__(self, text: str) -> Any:
        if "It is not known" not in text:
            return approve()
        return skip("charged 5") if counted else redo_it()


def redo_it() -> Any:
    from runyard.testing import redo

    return redo()


_decide = _Decide()


def test_a_providers_failure_is_tried_again_without_waiting() -> None:
    result = run(DECLARED, message="Hello", model=[ProviderError("busy"), "Hello!"])
    assert (result.output, result.attempts) == ("Hello!", 2)


def test_a_script_that_ends_too_soon_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no answer for turn 2"):
        run(DECLARED, message="Where?", model=[call("kit_lookup", order="A1")])


def test_history_and_files_reach_the_agent() -> None:
    earlier = [
        {"role": "user", "type": "user_message", "content": "I am Ada."},
        {"role": "assistant", "type": "agent_response", "content": "Hello Ada."},
    ]
    result = run(
        DECLARED, message="Who am I?", model=["Ada."], history=earlier, files={"note.txt": b"a note"}
    )
    assert result.output == "Ada."
    assert "a note" in result.prompts[0].text


def test_what_a_child_asks_is_answered_too() -> None:
    @agent("@kit/asks")
    async def asks(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.ask(f"q{args['n']}")

    @agent("@kit/has_two_ask")
    async def has_two_ask(ctx: Context, args: dict[str, Any]) -> Any:
        found = await ctx.gather(*(ctx.run(asks, {"n": n}) for n in (1, 2)))
        return [*found, await ctx.ask("and?")]

    outcome = run(has_two_ask, answers={"q1": "a", "q2": "b", "and?": "c"})
    assert outcome.error is None
    assert outcome.output == ["a", "b", "c"]
    with pytest.raises(AssertionError, match="No answer to 'q2'"):
        run(has_two_ask, answers={"q1": "a"})


def test_a_child_agent_runs_too() -> None:
    @agent("@kit/parent")
    async def parent(ctx: Context, args: dict[str, Any]) -> Any:
        return await ctx.run("@kit/child", {"n": 2})

    child = {"name": "@kit/child", "instructions": "Double."}
    assert run(parent, agents=[child], model=["four"]).output == "four"


@pytest.mark.anyio
async def test_it_works_inside_a_running_loop_too() -> None:
    result = await arun(DECLARED, message="Hello", model=["Hi."])
    assert result.output == "Hi."
