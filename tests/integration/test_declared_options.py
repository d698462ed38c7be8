"""Every option of a run request changes what the agent does; each test fails when its option is ignored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runyard.tools import tool
from runyard_common.files import FileStore, open_files
from runyard_common.runs.rules.lifecycle import Status
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import Reply, calls, fail, last_user, reply, system_of, text_of, tools_of
from tests.unit.workers.documents import documents

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
PRICES = '{"test-model": {"input": 0, "output": 1000000}}'  # a dollar for each output token


@tool(name="options_peek", effect="read")
async def peek() -> str:
    """Peek."""
    return "seen"


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    models: dict[str, Any] = {"model_flash": "tiny-model", "model_max": "grand-model"}
    async with declared_agents(url, tmp_path / "home", model_prices=PRICES, **models) as declared:
        declared.publish()
        yield declared


async def test_a_system_prompt_replaces_the_agents_own(declared: Declared) -> None:
    declared.server.answer(reply("Arr."))
    await declared.completed("Hello", system="You are a pirate.")
    assert system_of(declared.server.requests[0]) == "You are a pirate."


async def test_rules_are_sent_to_the_model(declared: Declared) -> None:
    declared.server.answer(reply("Ok."))
    await declared.completed("Hello", rules=["Never promise refunds.", "Answer in French."])
    shown = system_of(declared.server.requests[0])
    assert "You are a test agent." in shown
    assert "- Never promise refunds.\n- Answer in French." in shown


@pytest.mark.parametrize(
    ("mode", "model"),
    [("flash", "tiny-model"), ("fast", "test-model"), ("base", "test-model"), ("max", "grand-model")],
)
async def test_the_mode_chooses_the_model(declared: Declared, mode: str, model: str) -> None:
    declared.server.answer(reply("Ok."))
    await declared.completed("Hello", mode=mode)
    assert declared.server.requests[0]["model"] == model


async def test_the_mode_sets_how_many_turns_a_run_may_take(declared: Declared) -> None:
    declared.publish("@test/peeker", tools=["options_peek"])
    declared.server.respond = lambda request: calls(options_peek={})
    task = await declared.run("Look", agent="@test/peeker", mode="flash")
    assert task.error is not None
    assert (task.error["code"], len(declared.server.requests)) == ("turn_limit", 10)


async def test_the_conversation_is_handed_to_an_adhoc_specialist(declared: Declared) -> None:
    declared.server.answer(
        calls(transfer_to_billing={"reason": "an invoice"}), reply("Your invoice is paid.")
    )
    task = await declared.completed(
        "Is my invoice paid?", agents=[{"name": "billing", "description": "Knows invoices."}]
    )
    assert task.output == "Your invoice is paid."
    first, second = declared.server.requests
    assert "Knows invoices." in tools_of(first)["transfer_to_billing"]["description"]
    assert "You are billing, a specialist. Knows invoices." in system_of(second)
    assert "Is my invoice paid?" in str(second["messages"])  # the conversation moved
    (handoff,) = declared.events(task, "handoff")
    assert (handoff["from"], handoff["to"], handoff["reason"]) == ("@test/bot", "billing", "an invoice")
    assert declared.events(task, "message")[0]["agent"] == "billing"


async def test_the_conversation_is_handed_to_a_registered_agent_with_its_own_tools(
    declared: Declared,
) -> None:
    declared.publish(
        "@test/legal", instructions="You are the legal desk.", tools=["options_peek"], model="law-model"
    )
    declared.server.answer(calls(transfer_to_legal={}), calls(options_peek={}), reply("It is legal."))
    task = await declared.completed("Legal?", agents=[{"name": "@test/legal", "description": "Law."}])
    assert task.output == "It is legal."
    second = declared.server.requests[1]
    assert "You are the legal desk." in system_of(second)
    assert second["model"] == "law-model"
    assert "options_peek" in tools_of(second)
    assert "options_peek" not in tools_of(declared.server.requests[0])


async def test_another_agent_can_be_a_tool_whose_run_is_a_child_task(declared: Declared) -> None:
    declared.publish(
        "@test/adder", input={"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    )
    declared.publish("@test/boss", tools=["@test/adder"])
    declared.server.when(lambda request: '"n": 4' in last_user(request), reply("five"))
    declared.server.answer(calls(adder={"n": 4}), reply("It is five."))
    task = await declared.completed("4 + 1?", agent="@test/boss")
    assert task.output == "It is five."
    assert "wait" in declared.site.events(task.id)  # the parent held no slot meanwhile


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]},
        '{"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}',
        '{"total": "number"}',
    ],
)
async def test_an_output_config_binds_the_output_whichever_way_its_schema_is_given(
    declared: Declared, schema: Any
) -> None:
    declared.server.answer(calls(final_result={"total": "twelve"}), calls(final_result={"total": 12}))
    task = await declared.completed(
        "Add up.", output_config={"output_schema": schema, "instructions": "In euros."}
    )
    assert task.output == {"total": 12}
    assert "In euros." in system_of(declared.server.requests[0])
    assert len(declared.server.requests) == 2


async def test_an_output_config_in_prose_asks_for_an_object_of_that_shape(declared: Declared) -> None:
    declared.server.answer(reply("twelve"), calls(final_result={"sum": 12}))
    task = await declared.completed(
        "Add up.", output_config={"output_schema": "an object with the sum in euros"}
    )
    assert task.output == {"sum": 12}
    assert "an object with the sum in euros" in system_of(declared.server.requests[0])


async def test_a_schema_that_is_no_object_is_bound_and_unwrapped(declared: Declared) -> None:
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    declared.server.answer(calls(final_result={"result": []}), calls(final_result={"result": ["a", "b"]}))
    assert (await declared.completed("List.", output_config={"output_schema": schema})).output == ["a", "b"]


async def test_a_final_output_is_taken_from_the_whole_conversation(declared: Declared) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    declared.server.answer(
        reply("All is well."), calls(verdict={"mood": "fine"}), calls(verdict={"mood": "good"})
    )
    task = await declared.completed(
        "How is it?", final_output={"name": "verdict", "strict": True, "schema": schema}
    )
    assert task.output == {"mood": "good"}
    (final,) = declared.events(task, "final_output")
    assert (final["name"], final["content"]) == ("verdict", {"mood": "good"})
    assert declared.events(task, "message")[0]["text"] == "All is well."
    asked = declared.server.requests[1]
    assert "All is well." in str(asked["messages"])
    assert tools_of(asked)["verdict"]["strict"] is True


async def test_files_reach_the_model_as_text_and_a_bad_one_reports_why(declared: Declared) -> None:
    store = open_files(str(declared.site.files))
    pdf = documents.pdf("The total is 42 euros.")
    files = [_stored(store, "invoice.pdf", pdf), _stored(store, "broken.pdf", pdf[: len(pdf) // 2])]
    declared.server.answer(reply("42."))
    task = await declared.completed("What is the total?", files=files)
    asked = text_of(declared.server.requests[0]["messages"][-1])
    assert "invoice.pdf" in asked
    assert "The total is 42 euros." in asked
    assert "broken.pdf could not be read" in asked
    assert {e["file"]: e["state"] for e in declared.events(task, "attachment")} == {
        "invoice.pdf": "read",
        "broken.pdf": "failed",
    }


async def test_every_kind_of_file_is_read_and_what_cannot_be_stops_nothing(declared: Declared) -> None:
    store = open_files(str(declared.site.files))
    good = {
        "letter.docx": documents.docx("Dear Ada,"),
        "sums.xlsx": documents.xlsx([["total", 4711]]),
        "rows.csv": b"name;plan\nBob;gold\n",
        "note.txt": "Grüße".encode(),
    }
    bad = {
        "locked.pdf": documents.encrypted(documents.pdf("Secret."), "password"),
        "bomb.xlsx": documents.sheet_of_megabytes(100, varied=False),
    }
    declared.server.answer(reply("Read."))
    files = [_stored(store, name, data) for name, data in (good | bad).items()]
    task = await declared.completed("Read these.", files=files)
    asked = text_of(declared.server.requests[0]["messages"][-1])
    assert all(text in asked for text in ("Dear Ada,", "4711", "Bob,gold", "Grüße"))
    assert "Secret." not in asked
    shown = {event["file"]: event for event in declared.events(task, "attachment")}
    assert {name for name, event in shown.items() if event["state"] == "read"} == set(good)
    assert {name for name, event in shown.items() if event["state"] == "failed" and event["error"]} == set(
        bad
    )


async def test_the_agents_own_model_is_asked_unless_the_run_names_another(declared: Declared) -> None:
    declared.publish("@test/own", model="own-model", config={"max_turns": 1})
    declared.server.answer(reply("Ok."), reply("Ok."))
    await declared.completed("Hello", agent="@test/own")
    await declared.completed("Hello", agent="@test/own", model="named-model")
    assert [request["model"] for request in declared.server.requests] == ["own-model", "named-model"]


async def test_a_refusal_and_broken_arguments_are_the_models_and_no_crash(declared: Declared) -> None:
    declared.publish("@test/peeker", tools=["options_peek"])
    declared.server.answer(Reply(tool_calls=(("c1", "options_peek", '{"a": '),)), reply("I cannot."))
    task = await declared.completed("Look", agent="@test/peeker")
    assert (task.output, len(declared.server.requests)) == ("I cannot.", 2)
    declared.server.answer(Reply(refusal="I will not do that."))
    refused = await declared.run("Look", agent="@test/peeker")
    assert "I will not do that." in str(refused.output or refused.error)


async def test_images_are_shown_to_models_that_see_also_after_a_suspension(declared: Declared) -> None:
    store = open_files(str(declared.site.files))
    declared.publish("@test/seer", tools=["ask_user"])
    declared.server.answer(calls(ask_user={"question": "Which corner?"}), reply("Red."))
    file = _stored(store, "photo.png", documents.image("PNG"))
    task_id = await declared.submit("Which colour?", agent="@test/seer", files=[file])
    await declared.asked(task_id)
    declared.post(task_id, "top left")
    await declared.site.ended(task_id)
    shown = [_images(request) for request in declared.server.requests]
    assert len(shown[0]) == 1
    assert shown[0] == shown[1]
    journaled = str(declared.site.journal(task_id))
    assert shown[0][0].partition("base64,")[2][:200] not in journaled  # named there, not copied


async def test_a_model_that_does_not_see_is_sent_a_note_on_the_image(declared: Declared) -> None:
    store = open_files(str(declared.site.files))
    declared.publish("@test/blind", config={"vision": False})
    declared.server.answer(reply("I cannot see it."))
    await declared.completed(
        "Colour?", agent="@test/blind", files=[_stored(store, "photo.png", documents.image("PNG"))]
    )
    assert not _images(declared.server.requests[0])
    assert "cannot see images" in str(declared.server.requests[0]["messages"])


async def test_a_spent_budget_parks_the_run_until_it_is_topped_up(declared: Declared) -> None:
    declared.publish("@test/peeker", tools=["options_peek"])
    used = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    declared.server.answer(
        Reply(tool_calls=(("c1", "options_peek", "{}"),), usage=used), Reply(text="Done.", usage=used)
    )
    task_id = await declared.submit("Look", agent="@test/peeker", budget=2.0)
    review = await declared.asked(task_id)
    assert (review.payload["kind"], review.payload["spent"]) == ("budget", 3.0)
    assert len(declared.server.requests) == 1
    declared.decide(task_id, "approve")
    task = await declared.site.ended(task_id)
    assert (task.output, task.cost_micros) == ("Done.", 6_000_000)


async def test_a_budget_that_is_not_topped_up_ends_the_run(declared: Declared) -> None:
    declared.publish("@test/peeker", tools=["options_peek"])
    declared.server.answer(calls(options_peek={}))
    task_id = await declared.submit("Look", agent="@test/peeker", budget=0.5)
    await declared.asked(task_id)
    declared.decide(task_id, "reject", reason="enough")
    task = await declared.site.ended(task_id)
    assert task.error is not None
    assert (task.error["code"], task.error["message"], task.error["cause"]) == (
        "budget_exhausted",
        "enough",
        "limit",
    )


async def test_a_balance_that_runs_out_mid_run_parks_it_until_there_is_money(declared: Declared) -> None:
    declared.publish("@test/peeker", tools=["options_peek"])
    declared.site.transact(lambda tx: _balance(tx, declared.site.org, 1_000_000))
    used = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    declared.server.answer(
        Reply(
            tool_calls=(("c1", "options_peek", "{}"),),
            usage=used,
        ),
        reply("Done."),
    )
    task_id = await declared.submit("Look", agent="@test/peeker")
    review = await declared.asked(task_id)
    assert review.payload["kind"] == "balance"
    assert declared.events(task_id, "model_turn")[0]["balance_micros"] == -1_000_000
    declared.decide(task_id, "approve")
    assert (await declared.asked(task_id)).key == "balance#2"  # there is still no money
    declared.site.transact(lambda tx: _balance(tx, declared.site.org, 5_000_000))
    declared.decide(task_id, "approve")
    assert (await declared.site.ended(task_id)).status is Status.COMPLETED


async def test_a_fallback_model_answers_when_the_first_is_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with declared_agents(url, tmp_path / "home", model_fallbacks="second-model") as declared:
        declared.publish()
        declared.server.when(lambda request: request["model"] == "test-model", fail(503))
        declared.server.answer(reply("Here I am."))
        task = await declared.completed("Hello?")
        assert task.output == "Here I am."
        assert declared.events(task, "model_turn")[0]["model"] == "second-model"


async def test_without_any_model_the_run_names_what_to_configure(tmp_path: Path) -> None:
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home", model="", model_base_url=""
    ) as declared:
        declared.publish()
        task = await declared.run("Hello?")
        assert task.error is not None
        assert task.error["code"] == "model_not_configured"
        assert "RUNYARD_MODEL" in task.error["message"]


async def test_an_unknown_tool_or_bad_option_is_the_callers_fault_with_its_field(declared: Declared) -> None:
    declared.publish("@test/odd", tools=["no_such_tool"])
    task = await declared.run("Hello?", agent="@test/odd")
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("unknown_tool", "input")
    bad = await declared.run(
        "Hello?", output_config={"output_schema": {"type": "objet", "properties": {"a": {}}}}
    )
    assert bad.error is not None
    assert (bad.error["code"], bad.error["details"]["field"]) == (
        "invalid_schema",
        "output_config.output_schema",
    )


def _stored(store: FileStore, name: str, data: bytes) -> dict[str, Any]:
    kind, sha256 = _TYPES.get(name[-3:], "application/octet-stream"), store.put(data).sha256
    return {"id": f"file-{name}", "name": name, "media_type": kind, "size": len(data), "sha256": sha256}


_TYPES = {"pdf": "application/pdf", "png": "image/png"}


def _images(request: dict[str, Any]) -> list[str]:
    parts = [p for m in request["messages"] if isinstance(m.get("content"), list) for p in m["content"]]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def _balance(tx: Any, org_id: str, micros: int) -> None:
    from runyard_common.identity.queries import identity

    if identity.organisation(tx.conn, org_id) is None:
        identity.insert_organisation(tx, "test", org_id)
    tx.conn.execute(
        text("UPDATE organisations SET balance_micros = :m WHERE id = :i"), {"m": micros, "i": org_id}
    )
