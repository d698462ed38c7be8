"""Declared agents through the engine: turns, tools, people, streams, sessions, failures of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runyard.tools import tool
from runyard_common.agents.rules.manifests import parse
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.sessions.queries import sessions
from runyard_common.values.errors import InvalidRequest
from runyard_scheduler.duties import Admit, Expire
from tests.declared import BOT, Declared, declared_agents
from tests.fakes.model_server import Reply, calls, fail, reply, results_of, system_of, text_of

pytestmark = pytest.mark.anyio
made: list[str] = []


@tool(effect="read")
async def order_status(order: str) -> dict[str, str]:
    """Where an order is."""
    made.append(order)
    return {"order": order, "state": "shipped"}


@tool(effect="irreversible")
def refund(order: str, amount: float, idempotency_key: str) -> dict[str, Any]:
    """Pay money back."""
    made.append(f"refund {order} {amount} {idempotency_key}")
    return {"refunded": amount}


@tool()
async def broken_tool() -> None:
    """Fails."""
    raise KeyError("no such thing")


@pytest.fixture
async def declared(database_url: str, tmp_path: Path) -> AsyncIterator[Declared]:
    made.clear()
    async with declared_agents(
        database_url, tmp_path / "home", model_prices='{"test-model":{"input":1,"output":10}}'
    ) as d:
        yield d


async def test_a_chat_agent_answers_with_text_after_using_a_tool(declared: Declared) -> None:
    declared.publish(tools=["order_status"], instructions="Be kind.")
    declared.server.answer(
        calls(text="Let me look.", order_status={"order": "A1"}), reply("It is on its way.")
    )
    task = await declared.completed("Where is A1?")
    assert task.output == "It is on its way."
    first, second = declared.server.requests
    assert system_of(first) == "Be kind."
    assert text_of(first["messages"][-1]) == "Where is A1?"
    assert results_of(second) == ['{"order":"A1","state":"shipped"}']
    assert declared.site.events(task.id) == [
        *("submit", "claim", "message", "tool_call", "model_turn", "tool_result", "message", "model_turn"),
        "finish",
    ]


async def test_usage_and_cost_are_counted_once_per_turn(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    used = {"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020}
    cached = used | {"prompt_tokens_details": {"cached_tokens": 600}}
    declared.server.answer(
        Reply(tool_calls=(("c1", "order_status", '{"order": "A1"}'),), usage=used),
        Reply(text="Sent.", usage=cached),
    )
    task = await declared.completed("Where is A1?")
    assert task.usage == {
        "input_tokens": 2000,
        "output_tokens": 40,
        "cached_tokens": 600,
        "total_tokens": 2040,
        "turns": 2,
        "model": "test-model",
    }
    assert task.cost_micros == 2 * (1000 + 200)
    assert [e["cost_micros"] for e in declared.events(task, "model_turn")] == [1200, 1200]


async def test_parallel_calls_are_made_side_by_side_and_each_answered(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    declared.server.answer(
        calls(("order_status", {"order": "A1"}), ("order_status", {"order": "B2"})), reply("Both are sent.")
    )
    await declared.completed("Where are they?")
    assert sorted(made) == ["A1", "B2"]
    assert results_of(declared.server.requests[1]) == [
        '{"order":"A1","state":"shipped"}',
        '{"order":"B2","state":"shipped"}',
    ]


async def test_call_ids_that_a_server_repeats_do_not_mix_up_results(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    twice = (("x", "order_status", '{"order": "A1"}'), ("x", "order_status", '{"order": "B2"}'))
    declared.server.answer(Reply(tool_calls=twice), Reply(tool_calls=(twice[0],)), reply("Done."))
    await declared.completed("Where?")
    assert sorted(made) == ["A1", "A1", "B2"]


async def test_arguments_of_a_functional_agent_are_the_prompt_and_its_output_fits_the_schema(
    declared: Declared,
) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
    declared.publish(output={"schema": schema})
    declared.server.answer(calls(final_result={"total": 12.5}))
    task = await declared.completed(args={"lines": [{"price": 12.5}]})
    assert task.output == {"total": 12.5}
    assert '"price": 12.5' in text_of(declared.server.requests[0]["messages"][-1])
    assert declared.lines(task)[-1] == ("agent_response", {"total": 12.5})


async def test_an_output_that_breaks_its_schema_is_repaired_by_asking_again(declared: Declared) -> None:
    declared.publish(
        output={
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 5}},
                "required": ["n"],
            }
        }
    )
    declared.server.answer(calls(final_result={"n": "x"}), reply("n is seven"), reply('{"n": 7}'))
    task = await declared.completed("Count.")
    assert task.output == {"n": 7}
    (invalid,) = declared.events(task, "output_invalid")
    assert invalid["violations"][0]["field"] == "output.n"
    assert "output.n" in str(declared.server.requests[1]["messages"])


async def test_an_output_that_never_fits_fails_with_its_violations(declared: Declared) -> None:
    declared.publish(output={"schema": {"type": "object", "required": ["total"]}})
    declared.server.answer(*(calls(final_result={"sum": 1}) for _ in range(5)))
    task = await declared.run("Add up.")
    assert task.status is Status.FAILED
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("output_invalid", "agent")
    assert task.error["details"]["violations"][0]["field"] == "output.total"
    assert len(declared.server.requests) == 4  # once, and three repairs


async def test_what_a_tool_raises_is_what_the_agent_sees(declared: Declared) -> None:
    declared.publish(tools=["broken_tool"])
    declared.server.answer(calls(broken_tool={}), reply("It is broken."))
    task = await declared.completed("Try it.")
    assert "KeyError" in results_of(declared.server.requests[1])[0]
    assert declared.events(task, "tool_result")[0]["outcome"] == "failed"


async def test_wrong_arguments_are_the_models_to_correct(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    declared.server.answer(
        calls(order_status={"ordr": 1}), calls(order_status={"order": "A1"}), reply("Sent.")
    )
    await declared.completed("Where?")
    assert made == ["A1"]
    assert "arguments.order" in results_of(declared.server.requests[1])[0]


async def test_a_question_suspends_the_run_and_its_answer_resumes_it(declared: Declared) -> None:
    declared.publish(tools=["ask_user", "order_status"])
    declared.server.answer(
        calls(ask_user={"question": "Which order?", "options": ["A1", "B2"]}, order_status={"order": "C3"}),
        reply("A1 it is."),
    )
    task_id = await declared.submit("Cancel my order.")
    question = await declared.asked(task_id)
    assert question.payload["text"] == "Which order?"
    assert question.payload["options"] == ["A1", "B2"]
    declared.post(task_id, "A1")
    task = await declared.site.ended(task_id)
    assert task.output == "A1 it is."
    assert made == ["C3"]  # the call beside the question ran once
    assert results_of(declared.server.requests[1]) == ["A1", '{"order":"C3","state":"shipped"}']
    assert [type_ for type_, _ in declared.lines(task)][:3] == ["user_message", "agent_tool_use", "question"]


@pytest.mark.parametrize(
    ("ask", "outcome"),
    [
        ({"default": "A1"}, "Done."),
        ({"on_timeout": "default"}, "Done."),
        ({}, "answer_timeout"),
        ({"on_timeout": "fail"}, "answer_timeout"),
    ],
)
async def test_a_question_without_an_answer_ends_as_the_manifest_has_it(
    declared: Declared, ask: dict[str, Any], outcome: str
) -> None:
    declared.publish(tools=["ask_user"], config={"ask": {"timeout": 0.05} | ask})
    declared.server.answer(calls(ask_user={"question": "Which order?"}), reply("Done."))
    task_id = await declared.submit("Cancel my order.")
    await declared.asked(task_id)
    await asyncio.sleep(0.06)
    await asyncio.to_thread(Expire(declared.site.store).run_once)
    task = await declared.site.ended(task_id)
    assert (task.error["code"] if task.error else task.output) == outcome
    if task.error is None:
        assert results_of(declared.server.requests[1]) == [ask.get("default", "The user did not answer.")]


@pytest.mark.parametrize("ask", [{"on_timeout": "fail", "default": "A1"}, {"on_timeout": "reject"}])
def test_a_manifest_whose_question_contradicts_itself_is_refused(ask: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="ask: on_timeout") as refused:
        parse({"name": "@test/asks", "config": {"ask": {"timeout": 5} | ask}})
    assert (refused.value.code, refused.value.field) == ("invalid_manifest", "config")


@pytest.mark.parametrize("by", ["agent", "tool"])
async def test_a_reviewed_call_waits_for_approval(declared: Declared, by: str) -> None:
    listed: dict[str, Any] = {"tools": ["refund"], "review": ["refund"]}
    declared.publish(**(listed if by == "agent" else {"tools": [{"name": "refund", "review": True}]}))
    declared.server.answer(calls(refund={"order": "A1", "amount": 5}), reply("Paid."))
    task_id = await declared.submit("Refund A1.")
    review = await declared.asked(task_id)
    assert (review.kind, review.payload["arguments"]) == ("review", {"order": "A1", "amount": 5})
    assert not made
    declared.decide(task_id, "approve")
    assert (await declared.site.ended(task_id)).output == "Paid."
    assert len(made) == 1


async def test_a_reviewed_call_is_made_as_a_person_edited_it(declared: Declared) -> None:
    declared.publish(tools=["refund"], review=["refund"])
    declared.server.answer(calls(refund={"order": "A1", "amount": 500}), reply("Paid five."))
    task_id = await declared.submit("Refund A1.")
    await declared.asked(task_id)
    declared.decide(task_id, "edit", arguments={"order": "A1", "amount": 5})
    await declared.site.ended(task_id)
    assert made[0].startswith("refund A1 5")
    assert results_of(declared.server.requests[1]) == ['{"refunded":5.0}']


async def test_a_rejected_call_is_not_made_and_the_agent_hears_why(declared: Declared) -> None:
    declared.publish(tools=["refund"], review=["refund"])
    declared.server.answer(calls(refund={"order": "A1", "amount": 5}), reply("I may not."))
    task_id = await declared.submit("Refund A1.")
    await declared.asked(task_id)
    declared.decide(task_id, "reject", reason="too late")
    assert (await declared.site.ended(task_id)).output == "I may not."
    assert not made
    assert "too late" in results_of(declared.server.requests[1])[0]


async def test_tokens_stream_live_and_fold_into_one_event(declared: Declared) -> None:
    declared.publish()
    declared.server.answer(Reply(text="One two three.", reasoning="Hm, let me see."))
    task = await declared.completed("Count.", streaming_tokens=True)
    tokens = [t for t in declared.site.recorder.tokens if t["task_id"] == task.id]
    assert "".join(t["text"] for t in tokens if t["kind"] == "text") == "One two three."
    assert "".join(t["text"] for t in tokens if t["kind"] == "thinking") == "Hm, let me see."
    assert [e["text"] for e in declared.events(task, "message")] == ["One two three."]
    assert [e["text"] for e in declared.events(task, "thinking")] == ["Hm, let me see."]
    assert declared.server.requests[0]["stream"] is True


async def test_without_streaming_no_tokens_are_sent(declared: Declared) -> None:
    declared.publish()
    declared.server.answer(reply("One two three."))
    await declared.completed("Count.")
    assert not declared.site.recorder.tokens
    assert not declared.server.requests[0].get("stream")


@pytest.mark.parametrize("quietly", [True, False])
async def test_a_stream_that_is_cut_is_no_answer_and_is_asked_again(
    declared: Declared, quietly: bool
) -> None:
    declared.publish(retries={"provider": {"budget": 3, "base_s": 0, "cap_s": 0}})
    declared.server.answer(
        Reply(text="It costs 100 euros.", cut_after=3, cut_quietly=quietly), reply("It costs 100 euros.")
    )
    task = await declared.completed("What does it cost?", streaming_tokens=True)
    assert task.output == "It costs 100 euros."
    assert task.retries == {"provider": 1}


async def test_rate_limits_are_waited_out_under_the_provider_budget(declared: Declared) -> None:
    declared.publish(retries={"provider": {"budget": 5, "base_s": 0, "cap_s": 1}})
    declared.server.answer(fail(429, retry_after=0.2), fail(503), fail(429), reply("Here."))
    task_id = await declared.submit("Hello?")
    async with asyncio.timeout(50):
        while (await asyncio.to_thread(declared.site.task, task_id)).finished_at is None:
            await asyncio.to_thread(Admit(declared.site.store).run_once)
            await asyncio.sleep(0.05)
    task = declared.site.task(task_id)
    assert (task.status, task.output, task.retries) == (Status.COMPLETED, "Here.", {"provider": 3})


async def test_a_request_the_provider_refuses_is_not_tried_again(declared: Declared) -> None:
    declared.publish()
    declared.server.answer(fail(401))
    task = await declared.run("Hello?")
    assert task.error is not None
    assert (task.error["code"], task.error["cause"], task.attempt) == ("model_key_refused", "provider", 1)


async def test_messages_sent_while_the_run_is_under_way_are_read_at_the_next_turn(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    task_ids: list[str] = []

    def respond(request: dict[str, Any]) -> Reply:
        if len(declared.server.requests) == 1:
            declared.post(task_ids[0], "Make it quick.")
            return calls(order_status={"order": "A1"})
        return reply("Quickly then.")

    declared.server.respond = respond
    spec = declared.site.spec(BOT, None, "Where is A1?")
    task_ids.append(spec.task_id)
    from runyard_common.runs.service import submissions

    await declared.site.writer.call(submissions.submit, spec)
    task = await declared.site.ended(spec.task_id)
    assert task.output == "Quickly then."
    assert text_of(declared.server.requests[1]["messages"][-1]) == "Make it quick."
    assert [e["content"] for e in declared.events(task, "user_message")] == ["Make it quick."]


async def test_a_message_that_comes_with_the_last_answer_is_answered_too(declared: Declared) -> None:
    declared.publish()
    spec = declared.site.spec(BOT, None, "Hello?")

    def respond(request: dict[str, Any]) -> Reply:
        if len(declared.server.requests) == 1:
            declared.post(spec.task_id, "And goodbye.")
            return reply("Hello!")
        return reply("Goodbye!")

    declared.server.respond = respond
    from runyard_common.runs.service import submissions

    await declared.site.writer.call(submissions.submit, spec)
    task = await declared.site.ended(spec.task_id)
    assert task.output == "Goodbye!"
    assert [m["role"] for m in declared.server.requests[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


async def test_a_session_continues_the_conversation_with_its_tools(declared: Declared) -> None:
    declared.publish(tools=["order_status"])
    session = declared.site.transact(lambda tx: sessions.ensure(tx, declared.site.org, "chat-1"))
    declared.server.answer(
        calls(order_status={"order": "A1"}), reply("A1 is shipped."), reply("You asked about A1.")
    )
    await declared.completed("Where is A1?", session_id=session)
    await declared.completed("What did I ask?", session_id=session)
    history = declared.server.requests[2]["messages"]
    assert [m["role"] for m in history] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert text_of(history[1]) == "Where is A1?"
    assert text_of(history[4]) == "A1 is shipped."


async def test_demonstrations_temperature_and_max_tokens_reach_the_model(declared: Declared) -> None:
    shown = [{"user_input": "2+2", "model_output": "four"}]
    declared.publish(demonstrations=shown, temperature=0.3, max_tokens=50)
    declared.server.answer(reply("six"))
    await declared.completed("3+3")
    request = declared.server.requests[0]
    assert request["temperature"] == 0.3
    assert (request.get("max_completion_tokens") or request.get("max_tokens")) == 50
    assert [text_of(m) for m in request["messages"][1:]] == ["2+2", "four", "3+3"]


async def test_an_agent_that_never_answers_is_ended_at_its_turn_limit(declared: Declared) -> None:
    declared.publish(tools=["order_status"], config={"max_turns": 3})
    declared.server.respond = lambda request: calls(order_status={"order": "A1"})
    task = await declared.run("Where?")
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("turn_limit", "limit")
    assert len(declared.server.requests) == 3
