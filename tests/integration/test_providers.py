"""Each provider by its own protocol, through the whole engine: the library's client against a strict server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runyard.tools import tool
from runyard_common.files import open_files
from runyard_common.runs.rules.lifecycle import Status
from tests.declared import Declared, admitting, declared_agents
from tests.fakes.model_server import calls, fail, reply, results_of, system_of, text_of, tools_of
from tests.unit.workers.documents import documents

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
SCHEMA = {"type": "object", "required": ["state"], "properties": {"state": {"type": "string"}}}
PRICES = '{"%s": {"input": 2, "output": 10, "cached": 1}}'
USED = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 40},
}
MODELS = {
    "openai": "openai:gpt-4o",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-pro",
}
EAGER = {"budget": 3, "base_s": 0, "cap_s": 5}
#: What each provider answers when it is busy or broken, beside 429.
AWAY = {"openai": fail(503), "anthropic": fail(529), "google": fail(503)}


@tool(name="provider_look", effect="read")
async def look(where: str) -> str:
    """Look somewhere."""
    return f"a cat in the {where}"


@pytest.fixture(params=["openai", "anthropic", "google"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(provider: str) -> str:
    """A name whose abilities the library knows: this one takes a temperature."""
    return MODELS[provider]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key-a")
    monkeypatch.setenv("GOOGLE_API_KEY", "key-g")
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)


@pytest.fixture
async def declared(tmp_path: Path, model: str) -> AsyncIterator[Declared]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    given: dict[str, Any] = {"model": model, "model_prices": PRICES % model, "model_api_key": "key-o"}
    async with declared_agents(url, tmp_path / "home", **given) as declared:
        declared.publish(
            tools=["provider_look", "ask_user"], temperature=0.5, max_tokens=321, retries={"provider": EAGER}
        )
        async with admitting(declared):
            yield declared


async def test_a_conversation_with_tools_is_held_and_paid_for(
    declared: Declared, model: str, provider: str
) -> None:
    both = calls(("provider_look", {"where": "attic"}), ("provider_look", {"where": "yard"}), text="Looking.")
    declared.server.answer(replace(both, usage=USED), replace(reply("Two cats."), usage=USED))
    task = await declared.completed("Where are the cats?")
    assert task.output == "Two cats."
    asked, answered = declared.server.requests
    assert (asked["model"], system_of(asked)) == (model.partition(":")[2], "You are a test agent.")
    assert (text_of(asked["messages"][-1]), asked["temperature"]) == ("Where are the cats?", 0.5)
    assert 321 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    assert tools_of(asked)["provider_look"]["description"] == "Look somewhere."
    assert tools_of(asked)["provider_look"]["parameters"]["required"] == ["where"]
    assert ["attic" in result for result in results_of(answered)] == [True, False]
    assert "a cat in the yard" in results_of(answered)[1]
    assert "Looking." in str(answered["messages"])
    used = task.usage or {}
    assert (used["input_tokens"], used["output_tokens"], used["cached_tokens"]) == (200, 14, 80)
    assert task.cost_micros == 2 * (60 * 2 + 40 * 1 + 7 * 10)
    assert {event["model"] for event in declared.events(task, "model_turn")} == {model}
    header = "x-goog-api-key" if provider == "google" else "authorization"
    assert declared.server.headers[0][header].endswith(f"key-{provider[0]}")


async def test_an_answer_streams_with_its_thoughts_and_its_calls(declared: Declared, provider: str) -> None:
    look = calls(provider_look={"where": "attic"}, text="I shall look there.")
    thoughts = "Cats like warmth."
    declared.server.answer(replace(look, reasoning=thoughts), reply("In the attic, both of them."))
    task = await declared.completed("Where?", streaming_tokens=True)
    assert all(request["stream"] for request in declared.server.requests)
    tokens = declared.site.recorder.tokens

    def heard(turn: int, kind: str) -> str:
        return "".join(t["text"] for t in tokens if (t["turn"], t["kind"]) == (turn, kind))

    assert heard(1, "text") == "I shall look there."
    assert heard(1, "thinking") == thoughts
    assert heard(2, "text") == "In the attic, both of them."
    assert len([t for t in tokens if t["turn"] == 2]) >= 3
    if provider != "google":  # which sends a call whole
        assert '"attic"' in heard(1, "arguments")
    assert [event["text"] for event in declared.events(task, "thinking")] == [thoughts]
    assert [event["arguments"] for event in declared.events(task, "tool_call")] == [{"where": "attic"}]


async def test_a_suspended_conversation_resumes_in_the_protocols_own_order(declared: Declared) -> None:
    asks = calls(provider_look={"where": "attic"}, ask_user={"question": "Which cat?"}, text="Let me see.")
    declared.server.answer(asks, reply("Found her."))
    task_id = await declared.submit("Find my cat.")
    assert (await declared.asked(task_id)).payload["text"] == "Which cat?"
    declared.post(task_id, "The grey one.")
    task = await declared.site.ended(task_id)
    assert (task.status, task.output) == (Status.COMPLETED, "Found her.")
    results = results_of(declared.server.requests[1])  # the server refuses calls without their results
    assert ("attic" in results[0], "The grey one." in results[1]) == (True, True)


async def test_an_output_is_bound_to_its_schema(declared: Declared) -> None:
    declared.server.respond = lambda request: calls((_output_tool(request), {"state": "fine"}))
    task = await declared.completed("State?", output_config={"output_schema": SCHEMA})
    assert task.output == {"state": "fine"}


async def test_an_image_is_shown_to_the_model(declared: Declared) -> None:
    store = open_files(str(declared.site.files))
    data = documents.image("PNG")
    file = {"id": "f1", "name": "photo.png", "media_type": "image/png", "size": len(data)}
    declared.server.answer(reply("Red."))
    await declared.completed("Colour?", files=[file | {"sha256": store.put(data).sha256}])
    parts = [
        p
        for m in declared.server.requests[0]["messages"]
        if isinstance(m["content"], list)
        for p in m["content"]
    ]
    (url,) = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert url.startswith("data:image/png;base64,")


async def test_a_busy_provider_is_waited_for_as_long_as_it_asks(declared: Declared, provider: str) -> None:
    declared.server.answer(fail(429, retry_after=1), AWAY[provider], reply("Here."))
    task = await declared.completed("Hello?")
    assert declared.server.arrivals[1] - declared.server.arrivals[0] >= 1
    assert (len(declared.server.requests), task.attempt) == (3, 3)
    codes = [event["error"]["code"] for event in declared.events(task) if event.get("error")]
    assert codes[0] == "model_rate_limited"


async def test_a_provider_that_does_not_answer_in_time_is_asked_again(declared: Declared) -> None:
    declared.publish("@test/hasty", config={"request_timeout": 2.0}, retries={"provider": EAGER})
    declared.server.answer(reply("Too late.", delay=30), reply("In time."))
    task = await declared.completed("Hello?", agent="@test/hasty")
    assert (task.output, task.attempt) == ("In time.", 2)
    codes = [event["error"]["code"] for event in declared.events(task) if event.get("error")]
    assert codes == ["model_timeout"]


async def test_the_provider_budget_ends(declared: Declared, provider: str) -> None:
    declared.publish("@test/brief", retries={"provider": EAGER | {"budget": 1}})
    declared.server.answer(AWAY[provider], AWAY[provider])
    task = await declared.run("Hello?", agent="@test/brief")
    assert task.error is not None
    assert (task.status, task.error["cause"], len(declared.server.requests)) == (Status.FAILED, "provider", 2)
    assert task.error["code"] in ("model_unavailable", "model_server_error")


@pytest.mark.parametrize(("status", "code"), [(401, "model_key_refused"), (404, "model_not_found")])
async def test_what_a_provider_refuses_is_not_asked_again(declared: Declared, status: int, code: str) -> None:
    declared.server.answer(fail(status))
    task = await declared.run("Hello?")
    assert task.error is not None
    assert (task.error["code"], len(declared.server.requests)) == (code, 1)


async def test_a_stream_that_breaks_is_asked_again(declared: Declared) -> None:
    cut = replace(reply("This answer goes on and"), cut_after=4, cut_quietly=True)
    broken = reply("This one is broken off", breaks=True)
    declared.server.answer(cut, broken, reply("Whole."))
    task = await declared.completed("Hello?", streaming_tokens=True)
    assert (task.output, len(declared.server.requests)) == ("Whole.", 3)
    assert [event["text"] for event in declared.events(task, "message")] == ["Whole."]


async def test_another_provider_replaces_one_that_is_away(tmp_path: Path) -> None:
    names: dict[str, Any] = {"model": MODELS["anthropic"], "model_fallbacks": f"{MODELS['google']},plain"}
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home", **names
    ) as declared:
        declared.publish(tools=["provider_look"])
        declared.server.when(lambda request: request["model"].startswith("claude"), fail(529), fail(529))
        declared.server.when(
            lambda request: request["model"].startswith("gemini"),
            calls(provider_look={"where": "attic"}),
            fail(503),
        )
        declared.server.answer(reply("Here."))
        task = await declared.completed("Hello?")
        assert task.output == "Here."
        models = [event["model"] for event in declared.events(task, "model_turn")]
        assert (models, task.attempt) == (["gemini-2.5-pro", "plain"], 1)


def _output_tool(request: dict[str, Any]) -> str:
    (name,) = [name for name in tools_of(request) if name not in ("provider_look", "ask_user")]
    return name
