"""What providers' answers hold of a turn, and how answers and results are kept: each gives the same again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from pydantic_ai.messages import BinaryContent, ToolReturn

from runyard.adapters._exchange import Answer, Exchange
from runyard.adapters._pydantic_ai_journal import _execute, _unpacked
from runyard.adapters._wires import Summary, summary


def sse(events: Sequence[dict[str, Any]]) -> bytes:
    """A stream of these events."""
    return (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    )


USAGE = {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 3}}
RESPONSE = {
    "model": "gpt",
    "status": "completed",
    "usage": USAGE,
    "output": [
        {"type": "reasoning", "summary": [{"text": "Hm."}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi."}]},
    ],
}
MESSAGE = {
    "model": "claude",
    "stop_reason": "max_tokens",
    "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi."}],
    "usage": {
        "input_tokens": 5,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 1,
        "output_tokens": 4,
    },
}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/responses", json.dumps(RESPONSE).encode(), Summary("gpt", 9, 4, 3, "Hi.", "Hm.", "completed")),
        (
            "/v1/responses",
            sse([{"type": "response.created", "response": {}}, {"type": "x", "response": RESPONSE}]),
            Summary("gpt", 9, 4, 3, "Hi.", "Hm.", "completed"),
        ),
        ("/v1/messages", json.dumps(MESSAGE).encode(), Summary("claude", 9, 4, 3, "Hi.", "Hm.", "length")),
        (
            "/v1/messages",
            sse(
                [
                    {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 5}}},
                    {"type": "content_block_delta", "delta": {"text": "Hi"}},
                    {"type": "content_block_delta", "delta": {"text": "."}},
                    {
                        "type": "message_delta",
                        "delta": {"stop_reason": "end_turn"},
                        "usage": {"output_tokens": 4},
                    },
                ]
            ),
            Summary("claude", 5, 4, 0, "Hi.", "", "end_turn"),
        ),
        ("/v1/embeddings", b'{"model": "e", "data": [], "usage": {"prompt_tokens": 7}}', Summary("e", 7)),
        ("/v1/chat/completions", b"[1]", Summary()),
        ("/v1/chat/completions", b"no json", Summary()),
        ("/v1/moderations", b"{}", Summary()),
    ],
)
def test_an_answers_model_tokens_and_text_are_found(path: str, body: bytes, expected: Summary) -> None:
    assert summary(path, body, body.startswith(b"data:")) == expected


def chat(**asked: Any) -> httpx2.Request:
    """A request for a chat completion."""
    return httpx2.Request("POST", "https://api.test/v1/chat/completions", json={"model": "m", **asked})


def test_a_stream_is_asked_for_its_usage_and_the_code_does_not_see_it() -> None:
    request = chat(stream=True)
    exchange = Exchange.of("openai", request, request.read())
    assert exchange is not None
    assert json.loads(exchange.request.content)["stream_options"] == {"include_usage": True}
    word = {"model": "m", "choices": [{"delta": {"content": "Hi."}, "finish_reason": "stop"}]}
    body = sse([word, {"model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}])
    shown = b"".join(exchange.feed(body[at : at + 7]) for at in range(0, len(body), 7)) + exchange.rest()
    assert shown == sse([word])
    turn = exchange.turn(Answer(200, (("content-type", "text/event-stream"),)), shown)
    assert (turn.text, turn.input_tokens, turn.output_tokens, turn.finish_reason) == ("Hi.", 5, 1, "stop")
    assert Answer.unpacked(turn.value).body == shown


def test_a_request_that_asks_for_its_usage_itself_stays_as_it_is() -> None:
    request = chat(stream=True, stream_options={"include_usage": True})
    exchange = Exchange.of("openai", request, request.read())
    assert exchange is not None
    assert exchange.request is request
    assert not exchange.hides_usage


@pytest.mark.parametrize(
    "request_",
    [
        httpx2.Request("GET", "https://api.test/v1/models"),
        httpx2.Request("POST", "https://api.test/v1/files", files={"file": b"x"}),
        httpx2.Request("POST", "https://api.test/v1/batches", json={"input_file_id": "f"}),
    ],
)
def test_a_request_without_a_model_is_none_of_the_journals(request_: httpx2.Request) -> None:
    assert Exchange.of("openai", request_, request_.read()) is None


def test_an_answer_that_is_no_text_is_kept_too() -> None:
    answer = Answer(200, (("content-type", "audio/mpeg"),), b"\xff\xfb\x00")
    assert Answer.unpacked(json.loads(json.dumps(answer.packed()))) == answer


@pytest.mark.anyio
@pytest.mark.parametrize(
    "result",
    [
        {"state": "lost"},
        "text",
        BinaryContent(b"\x89PNG", media_type="image/png"),
        ["see", BinaryContent(b"\x89PNG", media_type="image/png")],
        ToolReturn(
            {"n": 1}, content=["see", BinaryContent(b"\x89PNG", media_type="image/png")], metadata={"a": 1}
        ),
    ],
)
async def test_a_tools_result_is_the_same_again(result: Any) -> None:
    async def once(content: Any) -> Any:
        async def tool(_: Any) -> Any:
            return content

        return json.loads(json.dumps((await _execute(tool, {})).value))

    kept = await once(result)
    again = _unpacked(kept)
    assert isinstance(again, type(result))
    assert await once(again) == kept
