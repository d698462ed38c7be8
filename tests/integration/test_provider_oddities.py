"""What model providers send against their own documentation, through the whole engine."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from runyard.tools import tool
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.rules.tasks import Task
from tests.declared import Declared, admitting, declared_agents
from tests.fakes.model_server import Reply, calls, fail, odd, raw, reply, results_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
SCHEMA = {"type": "object", "required": ["state"], "properties": {"state": {"type": "string"}}}
BOUND = {"output_schema": SCHEMA}
MODELS = {
    "openai": "openai:gpt-4o",
    "anthropic": "anthropic:claude-haiku-4-5",
    "google": "google:gemini-2.5-pro",
}
EAGER = {"budget": 3, "base_s": 0, "cap_s": 5}
KEY = "sk-proj-aB3dE5fG7hJ9kL1mN"
LENGTH = {"openai": "length", "anthropic": "max_tokens", "google": "MAX_TOKENS"}


@tool(name="oddity_look", effect="read")
async def look(where: str = "nowhere") -> str:
    """Look somewhere."""
    return f"a cat in the {where}"


@pytest.fixture(params=["openai", "anthropic", "google"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streaming(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)


async def opened(tmp_path: Path, provider: str) -> AsyncIterator[Declared]:
    given: dict[str, Any] = {"model": MODELS[provider], "model_api_key": KEY}
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home", **given
    ) as declared:
        declared.publish(tools=["oddity_look"], max_tokens=300, retries={"provider": EAGER})
        async with admitting(declared):
            yield declared


@pytest.fixture
async def declared(tmp_path: Path, provider: str) -> AsyncIterator[Declared]:
    """Each of the providers in turn."""
    async for one in opened(tmp_path, provider):
        yield one


@pytest.fixture
async def compatible(tmp_path: Path) -> AsyncIterator[Declared]:
    """A server that speaks OpenAI's protocol."""
    async for one in opened(tmp_path, "openai"):
        yield one


def errors(declared: Declared, task: Task) -> list[str]:
    """The codes of the failures that the run was retried for."""
    return [event["error"]["code"] for event in declared.events(task) if event.get("error")]


NO_ANSWERS = {
    "an error with status 200": raw('{"error": {"message": "upstream died", "code": 502}}'),
    "an error that is a text": raw('{"error": "upstream died"}'),
    "a detail": raw('{"detail": "upstream died"}'),
    "a web page": raw("<!DOCTYPE html><html><body>Bad gateway</body></html>", "text/html"),
    "an empty body": raw(""),
    "half of an answer": raw('{"choices": [{"mess'),
    "a list": raw("[]"),
    "null": raw("null"),
}


@pytest.mark.parametrize("odd_reply", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_what_is_no_answer_is_the_providers_failure_and_asked_for_again(
    compatible: Declared, odd_reply: Reply, streaming: bool
) -> None:
    compatible.server.answer(odd_reply, reply("Here."))
    task = await compatible.completed("Hello?", streaming_tokens=streaming)
    assert (task.output, task.attempt, errors(compatible, task)) == ("Here.", 2, ["model_server_error"])


async def test_an_error_with_status_200_fails_the_run_in_the_providers_words(
    declared: Declared, provider: str, streaming: bool
) -> None:
    dead = raw('{"error": {"message": "upstream died", "code": 502}}')
    declared.server.answer(*[dead] * 4)
    task = await declared.run("Hello?", streaming_tokens=streaming)
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("model_server_error", "provider")
    assert "502" in task.error["message"]
    assert "upstream died" in task.error["message"]
    assert len(declared.server.requests) == 4


async def test_a_permanent_error_with_status_200_is_not_retried(compatible: Declared) -> None:
    compatible.server.answer(raw('{"error": {"message": "no such option", "type": "invalid_request_error"}}'))
    task = await compatible.run("Hello?")
    assert task.error is not None
    assert (task.error["code"], len(compatible.server.requests)) == ("model_request_rejected", 1)
    assert "no such option" in task.error["message"]


async def test_an_answer_without_choices_is_asked_for_again(declared: Declared, provider: str) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "openai": {"choices": []},
        "anthropic": {"content": None, "stop_reason": None},
        "google": {"candidates": []},
    }
    empty = shapes[provider]
    declared.server.answer(odd(reply("x"), lambda answer: answer | empty), reply("Here."))
    task = await declared.completed("Hello?")
    assert (task.output, errors(declared, task)) == ("Here.", ["model_server_error"])


async def test_another_model_answers_for_one_that_sends_errors_with_status_200(tmp_path: Path) -> None:
    names: dict[str, Any] = {"model": "first", "model_fallbacks": "second"}
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home", **names
    ) as declared:
        declared.publish()
        declared.server.when(lambda request: request["model"] == "first", NO_ANSWERS["a web page"])
        declared.server.answer(reply("Here."))
        task = await declared.completed("Hello?")
        assert (task.output, task.attempt) == ("Here.", 1)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
        {"prompt_tokens": "many", "completion_tokens": -1},
        {"prompt_tokens": 10**30, "completion_tokens": 2.5e300},
        {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}},
        "none",
    ],
)
async def test_a_usage_without_usable_counts_is_no_usage(
    compatible: Declared, usage: Any, streaming: bool
) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"usage": usage} if "usage" in answer else answer

    compatible.server.answer(odd(reply("Here."), change))
    task = await compatible.completed("Hello?", streaming_tokens=streaming)
    assert task.output == "Here."
    assert (task.usage or {}).get("input_tokens", 0) == 0


async def test_null_counts_of_every_provider_are_no_usage(
    declared: Declared, provider: str, streaming: bool
) -> None:
    names = ("usage", "usageMetadata")

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        nulls = {name: dict.fromkeys(answer[name]) for name in names if isinstance(answer.get(name), dict)}
        message = answer.get("message")
        more = {"message": change(message)} if isinstance(message, dict) else {}
        return answer | nulls | more

    declared.server.answer(odd(reply("Here."), change))
    assert (await declared.completed("Hello?", streaming_tokens=streaming)).output == "Here."


async def test_counts_that_are_texts_or_fractions_are_counted(compatible: Declared) -> None:
    usage = {"prompt_tokens": "12", "completion_tokens": 3.0}
    compatible.server.answer(odd(reply("Here."), lambda answer: answer | {"usage": usage}))
    used = (await compatible.completed("Hello?")).usage or {}
    assert (used["input_tokens"], used["output_tokens"]) == (12, 3)


def _with_arguments(arguments: Any) -> Any:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        for choice in answer.get("choices") or []:
            for call in (choice.get("message") or choice.get("delta") or {}).get("tool_calls") or []:
                call["function"]["arguments"] = arguments
        return answer

    return change


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"where": "attic"}, "a cat in the attic"),
        (None, "a cat in the nowhere"),
        ("", "a cat in the nowhere"),
        ('{"where": "att\\ud800ic"}', "a cat in the att\ufffdic"),
        ('{"where": 1180591620717411303424}', "a cat in the 1180591620717411303424"),
    ],
)
async def test_arguments_of_a_call_may_come_as_an_object_or_not_at_all(
    compatible: Declared, arguments: Any, result: str
) -> None:
    compatible.server.answer(odd(calls(oddity_look={}), _with_arguments(arguments)), reply("Found."))
    task = await compatible.completed("Where?")
    assert task.output == "Found."
    assert results_of(compatible.server.requests[1]) == [result]


@pytest.mark.parametrize(
    "arguments", ['{"where": ', "[1]", "NaN", '{"where": ' + "[" * 5000 + "]" * 5000 + "}"]
)
async def test_broken_arguments_are_the_models_to_correct(compatible: Declared, arguments: str) -> None:
    broken = odd(calls(oddity_look={}), _with_arguments(arguments))
    compatible.server.answer(broken, calls(oddity_look={"where": "attic"}), reply("Found."))
    assert (await compatible.completed("Where?")).output == "Found."


async def test_odd_arguments_of_every_provider_are_understood(declared: Declared, provider: str) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(answer)
        for name in ('"input": {}', '"args": {}'):
            text = text.replace(name, name.partition(":")[0] + ": null")
        return dict(json.loads(text))

    declared.server.answer(odd(calls(oddity_look={}), change), reply("Found."))
    assert (await declared.completed("Where?")).output == "Found."


async def test_an_unknown_finish_reason_ends_the_turn(
    declared: Declared, provider: str, streaming: bool
) -> None:
    reason = "GUARDRAIL" if provider == "google" else "guardrail_intervened"
    declared.server.answer(reply("Here.", finish_reason=reason))
    assert (await declared.completed("Hello?", streaming_tokens=streaming)).output == "Here."


@pytest.mark.parametrize("text", [None, "", "  \n"])
async def test_an_empty_answer_is_asked_for_again(declared: Declared, text: str | None) -> None:
    declared.server.answer(reply(text or ""), Reply(text=text), reply("Here."))
    task = await declared.completed("Hello?")
    assert (task.output, len(declared.server.requests), task.attempt) == ("Here.", 3, 1)


@pytest.mark.parametrize("output_config", [None, BOUND], ids=["text", "object"])
async def test_a_model_that_never_answers_fails_with_one_sentence(
    declared: Declared, output_config: Any, streaming: bool
) -> None:
    declared.server.respond = lambda request: reply("")
    task = await declared.run("Hello?", output_config=output_config, streaming_tokens=streaming)
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("model_no_answer", "provider")
    assert task.error["message"] == "The model gave no answer."
    assert (len(declared.server.requests), task.attempt) == (4, 1)


async def test_an_object_cut_off_by_the_limit_is_not_asked_for_again(
    declared: Declared, provider: str, streaming: bool
) -> None:
    declared.server.answer(reply('{"state": "o', finish_reason=LENGTH[provider]))
    task = await declared.run("State?", output_config=BOUND, streaming_tokens=streaming)
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("model_output_truncated", "provider")
    assert task.error["message"] == ("The model's answer was cut off at max_tokens (300); raise max_tokens.")
    assert len(declared.server.requests) == 1
    assert declared.events(task, "model_turn")  # it was paid for


async def test_a_text_cut_off_by_the_limit_completes_and_is_marked(
    declared: Declared, provider: str, streaming: bool
) -> None:
    declared.server.answer(reply("Once upon a", finish_reason=LENGTH[provider]))
    task = await declared.completed("A story?", streaming_tokens=streaming)
    assert task.output == "Once upon a"
    (event,) = declared.events(task, "output_truncated")
    assert (event["turn"], event["max_tokens"]) == (1, 300)
    (message,) = declared.events(task, "message")
    assert message["truncated"] is True


async def test_a_call_cut_off_by_the_limit_is_reported_as_cut(compatible: Declared) -> None:
    cut = odd(replace(calls(oddity_look={}), finish_reason="length"), _with_arguments('{"where": "att'))
    compatible.server.answer(cut)
    task = await compatible.run("Where?")
    assert task.error is not None
    assert task.error["code"] == "model_output_truncated"


async def test_an_object_within_sentences_costs_no_repair(declared: Declared, streaming: bool) -> None:
    declared.server.answer(reply('Here is the JSON:\n\n```json\n{"state": "ok"}\n```\nLet me know!'))
    task = await declared.completed("State?", output_config=BOUND, streaming_tokens=streaming)
    assert (task.output, len(declared.server.requests)) == ({"state": "ok"}, 1)


async def test_unstorable_text_of_a_model_is_replaced(
    declared: Declared, provider: str, streaming: bool
) -> None:
    bad = replace(reply("Half \ud800 a pair\x00."), reasoning="Thinking \udfff hard.")
    declared.server.answer(replace(calls(oddity_look={"where": "\ud83d \x00"}), text="Looking \ud800."), bad)
    task = await declared.completed("Hello?", streaming_tokens=streaming)
    assert task.output == "Half \ufffd a pair\ufffd."
    assert [event["text"] for event in declared.events(task, "thinking")] == ["Thinking \ufffd hard."]
    assert declared.events(task, "tool_call")[0]["arguments"] == {"where": "\ufffd \ufffd"}


async def test_a_surrogate_pair_cut_in_two_by_a_stream_is_joined(compatible: Declared) -> None:
    pieces = [
        {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in ("Smile: \ud83d", "\ude00!")
    ]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in (*pieces, end)) + "data: [DONE]\n\n"
    compatible.server.answer(raw(body, "text/event-stream"))
    task = await compatible.completed("Smile.", streaming_tokens=True)
    assert task.output == "Smile: \U0001f600!"
    assert "".join(token["text"] for token in compatible.site.recorder.tokens) == "Smile: \U0001f600!"


async def test_a_server_that_cannot_stream_is_understood(compatible: Declared) -> None:
    whole = {"choices": [{"message": {"content": "All at once."}, "finish_reason": "stop"}]}
    compatible.server.answer(raw(json.dumps(whole)))
    assert (await compatible.completed("Hello?", streaming_tokens=True)).output == "All at once."


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_not_quoted(declared: Declared, provider: str, status: int) -> None:
    words = f"Incorrect API key provided: {KEY[:9]}********{KEY[-4:]}. Also {KEY} too."
    with capture_logs() as logs:
        declared.server.answer(replace(fail(status), words=words))
        task = await declared.run("Hello?")
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("model_key_refused", "provider")
    assert str(status) in task.error["message"]
    assert "Incorrect" not in task.error["message"]
    (log,) = [entry for entry in logs if entry.get("action") == "model_failed"]
    assert "Incorrect API key provided: [key] Also [key] too" in log["error"]
    assert KEY[-4:] not in log["error"]


async def test_the_words_of_other_refusals_are_shown_with_keys_masked(compatible: Declared) -> None:
    compatible.server.answer(replace(fail(400), words=f"max_tokens is too large (key {KEY})"))
    task = await compatible.run("Hello?")
    assert task.error is not None
    assert "max_tokens is too large (key [key])" in task.error["message"]


@pytest.mark.parametrize(
    "wait",
    ["864000", str(int(time.time()) + 864_000), str(int(time.time() + 864_000) * 1000)],
    ids=["seconds", "epoch", "milliseconds"],
)
async def test_a_run_is_not_parked_for_as_long_as_a_provider_likes(compatible: Declared, wait: str) -> None:
    compatible.server.answer(Reply(status=429, retry_after=wait))
    task = await compatible.run("Hello?")
    assert (task.status, len(compatible.server.requests)) == (Status.FAILED, 1)
    assert task.error is not None
    assert (task.error["code"], task.error["cause"]) == ("model_rate_limited", "provider")
    assert "a run waits for 1 h at most" in task.error["message"]


@pytest.mark.parametrize(
    "wait",
    ["-5", "soon", "0.0001", "", str(int(time.time()) - 5), "Tue, 01 Jan 2019 00:00:00 GMT"],
    ids=["negative", "word", "tiny", "empty", "epoch", "date"],
)
async def test_a_wait_that_is_none_is_left_to_the_back_off(compatible: Declared, wait: str) -> None:
    compatible.server.answer(Reply(status=429, retry_after=wait), reply("Here."))
    assert (await compatible.completed("Hello?")).output == "Here."


async def test_another_model_is_asked_while_one_asks_for_too_long_a_wait(tmp_path: Path) -> None:
    names: dict[str, Any] = {"model": "first", "model_fallbacks": "second"}
    async with declared_agents(
        f"sqlite:///{tmp_path / 'runyard.db'}", tmp_path / "home", **names
    ) as declared:
        declared.publish()
        busy = Reply(status=429, retry_after="864000")
        declared.server.when(lambda request: request["model"] == "first", busy)
        declared.server.answer(reply("Here."))
        assert (await declared.completed("Hello?")).output == "Here."
