"""The OpenAI protocol of the local model server, on the scripted stand-in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

from runyard_launch.localmodel.completion import BadCompletion, Completion, Ending
from runyard_launch.localmodel.scripted import ANSWER, NAME, Scripted
from runyard_launch.localmodel.server import application

URL = "/v1/chat/completions"
ASKED = [{"role": "user", "content": "Hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"category": {"enum": ["billing", "outage"]}, "urgent": {"type": "boolean"}},
    "required": ["category"],
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}


@pytest.fixture
def client() -> TestClient:
    return TestClient(application(Scripted(), at_once=1))


def events(body: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_the_model_is_listed_under_a_name_that_shows_what_it_is(client: TestClient) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [NAME]


def test_a_plain_answer_states_that_it_is_scripted_and_counts_its_tokens(client: TestClient) -> None:
    answer = client.post(URL, json={"model": "any", "messages": ASKED}).json()
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 1


def test_a_stream_has_a_role_pieces_an_ending_and_usage_if_asked(client: TestClient) -> None:
    body = {"messages": ASKED, "stream": True, "stream_options": {"include_usage": True}}
    chunks = events(client.post(URL, json=body).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER
    assert len(deltas) > 3
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_sends_no_usage_unasked(client: TestClient) -> None:
    chunks = events(client.post(URL, json={"messages": ASKED, "stream": True}).text)
    assert not any("usage" in chunk for chunk in chunks)


def test_a_response_format_is_satisfied(client: TestClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "triage", "schema": SCHEMA}}
    answer = client.post(URL, json={"messages": ASKED, "response_format": wanted}).json()
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), SCHEMA)


@pytest.mark.parametrize("stream", [False, True])
def test_an_offered_tool_is_called_once_and_then_answered(client: TestClient, stream: bool) -> None:
    body: dict[str, Any] = {"messages": ASKED, "tools": [TOOL], "stream": stream}
    response = client.post(URL, json=body)
    if stream:
        first, last = events(response.text)
        message, reason = first["choices"][0]["delta"], last["choices"][0]["finish_reason"]
        assert message["tool_calls"][0]["index"] == 0
    else:
        choice = response.json()["choices"][0]
        message, reason = choice["message"], choice["finish_reason"]
    (call,) = message["tool_calls"]
    assert reason == "tool_calls"
    assert call["function"]["name"] == "look_up"
    jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)

    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "found"}
    answer = client.post(URL, json={"messages": [*ASKED, called, result], "tools": [TOOL]}).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ANSWER}


def test_a_demanded_call_of_the_only_tool_streams_its_arguments(client: TestClient) -> None:
    body = {"messages": ASKED, "tools": [TOOL], "tool_choice": "required", "stream": True}
    deltas = [chunk["choices"][0] for chunk in events(client.post(URL, json=body).text)]
    first, *pieces, last = deltas
    opened = first["delta"]["tool_calls"][0]
    assert (opened["function"], opened["type"]) == ({"name": "look_up", "arguments": ""}, "function")
    calls = [piece["delta"]["tool_calls"][0] for piece in pieces]
    assert len(calls) > 1
    assert {call["index"] for call in calls} == {0}
    jsonschema.validate(json.loads("".join(call["function"]["arguments"] for call in calls)), SCHEMA)
    assert last["finish_reason"] == "tool_calls"


def test_a_call_cut_off_by_the_token_limit_is_reported(client: TestClient) -> None:
    body = {"messages": ASKED, "tools": [TOOL], "tool_choice": "required", "max_tokens": 1}
    choice = client.post(URL, json=body).json()["choices"][0]
    assert choice["finish_reason"] == "length"


def test_a_token_limit_is_kept_and_reported(client: TestClient) -> None:
    answer = client.post(URL, json={"messages": ASKED, "max_completion_tokens": 2}).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON"),
        (b"{}", "messages"),
        (b'{"messages": [{"content": "x"}]}', "role"),
        (b'{"messages": [{"role": "user"}], "tools": [{}]}', "tool"),
        (b'{"messages": [{"role": "user"}], "response_format": {"type": "xml"}}', "response_format"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(client: TestClient, body: bytes, names: str) -> None:
    response = client.post(URL, content=body)
    assert response.status_code == 400
    assert names in response.json()["error"]["message"]


class Refusing:
    name = "refusing"

    def complete(self, completion: Completion, on_text: Callable[[str], bool]) -> Ending:
        raise BadCompletion("too long", "context_length_exceeded")


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_refuses_is_a_400_even_when_streamed(stream: bool) -> None:
    client = TestClient(application(Refusing(), at_once=1))
    response = client.post(URL, json={"messages": ASKED, "stream": stream})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
