"""Recorded conversations with models: asked once, answered from the file since, and refused where they are others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runyard import Context, agent
from runyard.testing import Outcome, approve, crashes, recorded, run
from runyard.tools import tool
from tests.fakes.model_server import ModelServer, calls, fail, reply

KEY = "sk-test-0123456789abcdef0123"
SECRET = "correct-horse-battery"
states: dict[str, str] = {}


@tool(name="recorded_lookup", effect="read")
async def lookup(order: str) -> dict[str, Any]:
    """Where an order is."""
    return {
        "order": order,
        "state": states.get(order, "shipped"),
        "request": str(uuid4()),
        "password": SECRET,
    }


AGENT: dict[str, Any] = {
    "name": "@recorded/support",
    "instructions": "Help.\nBe brief.",
    "tools": ["recorded_lookup"],
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """The provider, whom RUNYARD_MODEL names."""
    states.clear()
    monkeypatch.delenv("RUNYARD_RECORD", raising=False)
    with ModelServer() as server:
        for name, value in {
            "MODEL": "test-model",
            "MODEL_BASE_URL": server.url,
            "MODEL_API_KEY": KEY,
        }.items():
            monkeypatch.setenv(f"RUNYARD_{name}", value)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Takes the provider and its keys away."""

    def cut() -> None:
        for name in ("RUNYARD_MODEL", "RUNYARD_MODEL_BASE_URL", "RUNYARD_MODEL_API_KEY", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)

    return cut


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the conversation is recorded."""
    return tmp_path / "conversations" / "support.json"


def support(
    file: Path, manifest: dict[str, Any] = AGENT, message: str = "Where is A1?", **more: Any
) -> Outcome:
    """A customer asks."""
    model = recorded(file, record=more.pop("record", None))
    return run(manifest, message=message, model=model, secrets={"password": SECRET}, **more)


def record(server: ModelServer, file: Path) -> Outcome:
    """Ask the real model."""
    server.answer(calls(recorded_lookup={"order": "A1"}, text="Let me look."), reply("It is on its way."))
    return support(file)


def test_a_conversation_is_recorded_once_and_answers_without_a_request_since(
    server: ModelServer, file: Path, offline: Any
) -> None:
    live = record(server, file)
    assert (live.status, live.output, len(server.requests)) == ("completed", "It is on its way.", 2), (
        live.error
    )
    offline()
    again = support(file)
    assert (again.status, again.output) == ("completed", live.output), again.error
    assert len(server.requests) == 2
    assert (again.usage, again.cost, "".join(again.tokens)) == (live.usage, live.cost, "".join(live.tokens))
    assert [p.tools for p in again.prompts] == [p.tools for p in live.prompts]
    assert [e["tool"] for e in again.of_type("tool_call")] == ["recorded_lookup"]


def test_the_file_is_stable_and_readable_and_has_no_credentials(server: ModelServer, file: Path) -> None:
    record(server, file)
    text = file.read_text()
    assert KEY not in text
    assert SECRET not in text
    assert "authorization" not in text.lower()
    first, second = json.loads(text)["turns"]
    assert first["asked"]["system"] == ["Help.", "Be brief."]
    assert first["asked"]["messages"] == [{"user": "Where is A1?"}]
    assert list(first["asked"]["tools"]) == ["recorded_lookup"]
    assert first["answer"]["parts"][1] == {"call": "recorded_lookup", "arguments": {"order": "A1"}}
    result = {"order": "A1", "state": "shipped", "request": "<id 1>", "password": "[redacted]"}
    assert second["asked"]["messages"] == [{"result_of": "recorded_lookup", "result": result}]
    server.answer(calls(recorded_lookup={"order": "A1"}, text="Let me look."), reply("It is on its way."))
    support(file, record=True)
    assert file.read_text() == text


CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"instructions": "Help.\nBe kind."}, ['- "Be brief."', '+ "Be kind."']),
    ({"tools": ["recorded_lookup", "ask_user"]}, ['+ "ask_user":']),
    ({"model": "test-model"}, ['+ "model": "test-model"']),
    ({"temperature": 0.3}, ['+ "temperature": 0.3']),
]


def test_another_request_names_the_turn_and_shows_what_differs(server: ModelServer, file: Path) -> None:
    record(server, file)
    for change, shown in CHANGES:
        with pytest.raises(AssertionError, match="Turn 1 is another than in") as caught:
            support(file, AGENT | change)
        for line in (*shown, "RUNYARD_RECORD=1"):
            assert line in " ".join(str(caught.value).split())
    assert len(server.requests) == 2


def test_another_result_of_a_tool_names_its_turn(server: ModelServer, file: Path) -> None:
    record(server, file)
    states["A1"] = "lost"
    with pytest.raises(AssertionError, match="Turn 2 is another") as caught:
        support(file)
    assert '"state": "shipped"' in str(caught.value)
    assert '"state": "lost"' in str(caught.value)


def test_more_turns_and_fewer_turns_than_recorded_are_errors(server: ModelServer, file: Path) -> None:
    record(server, file)
    document = json.loads(file.read_text())
    whole = document["turns"]
    file.write_text(json.dumps(document | {"turns": whole[:1]}))
    with pytest.raises(AssertionError, match=r"asked for turn 2, and .* has 1"):
        support(file)
    file.write_text(json.dumps(document | {"turns": [*whole, whole[1]]}))
    with pytest.raises(AssertionError, match="ended before turn 3"):
        support(file)


def test_what_earlier_runs_of_the_session_had_is_part_of_the_first_turn(
    server: ModelServer, file: Path
) -> None:
    def history(answer: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "type": "user_message", "content": "Hello."},
            {"role": "assistant", "type": "agent_response", "content": answer},
        ]

    server.answer(reply("It is on its way."))
    support(file, history=history("Good day."))
    assert support(file, history=history("Good day.")).output == "It is on its way."
    with pytest.raises(AssertionError, match="Turn 1 is another"):
        support(file, history=history("Good evening."))


def test_lost_at_every_write_it_answers_each_turn_from_the_file(
    server: ModelServer, file: Path, offline: Any
) -> None:
    record(server, file)
    offline()
    count = 0
    for outcome in crashes(AGENT, message="Where is A1?", model=recorded(file), secrets={"password": SECRET}):
        assert outcome.output == "It is on its way."
        count += 1
    assert count > 3


def test_a_recording_across_a_crash_is_the_same(server: ModelServer, file: Path) -> None:
    record(server, file)
    text = file.read_text()
    server.answer(calls(recorded_lookup={"order": "A1"}, text="Let me look."), reply("It is on its way."))
    support(file, record=True, crash_after=[3, 2])
    assert file.read_text() == text


def test_a_conversation_that_the_provider_cut_short_is_not_recorded(server: ModelServer, file: Path) -> None:
    server.answer(calls(recorded_lookup={"order": "A1"}), fail(400))
    assert support(file).status == "failed"
    assert not file.exists()
    server.answer(fail(503), reply("It is on its way."))
    assert support(file).status == "completed"
    assert len(json.loads(file.read_text())["turns"]) == 1


def test_a_recording_that_must_be_there_is_missed_at_once(file: Path) -> None:
    with pytest.raises(AssertionError, match="There is no recording"):
        recorded(file, record=False)
    file.parent.mkdir()
    with pytest.raises(AssertionError, match="is a folder"):
        recorded(file.parent)
    file.write_text("[]")
    with pytest.raises(AssertionError, match="is no recorded conversation"):
        support(file)


@agent("@recorded/own")
async def own(ctx: Context, args: dict[str, Any]) -> str:
    """Asks by a client of its own."""
    client = ctx.client("openai")
    texts = []
    for question in args["questions"]:
        approved = await ctx.review("ask", {"question": question})
        message = {"role": "user", "content": approved["question"]}
        answer = await client.chat.completions.create(model="gpt-4o", messages=[message])
        texts.append(answer.choices[0].message.content)
    return " ".join(texts)


def test_a_loop_of_ones_own_gets_its_turns_in_order(server: ModelServer, file: Path, offline: Any) -> None:
    server.answer(reply("One."), reply("Two."))
    questions = {"questions": ["a", "b"]}
    live = run(own, questions, model=recorded(file), answers=[approve(), approve()])
    assert live.output == "One. Two.", live.error
    assert KEY not in file.read_text()
    offline()
    again = run(own, questions, model=recorded(file), answers=[approve(), approve()], crash_after=[4])
    assert (again.output, again.usage, len(server.requests)) == ("One. Two.", live.usage, 2)
    with pytest.raises(AssertionError, match="asked for turn 3"):
        run(own, {"questions": ["a", "b", "c"]}, model=recorded(file), answers=[approve()] * 3)
    with pytest.raises(AssertionError, match="ended before turn 2"):
        run(own, {"questions": ["a"]}, model=recorded(file), answers=[approve()])
