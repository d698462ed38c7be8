"""The answers of model providers: repaired where they are answers, error statuses where they are none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from runyard_common.outbound.errors import ResponseTooLarge
from runyard_workers.agent.wire import anthropic, google, openai
from runyard_workers.agent.wire.errors import BAD_GATEWAY, status_of, words_of
from runyard_workers.agent.wire.surrogates import Joiner
from runyard_workers.agent.wire.text import dump, parse
from runyard_workers.agent.wire.transport import Rewrite, Splitter, Whole, check_values

Value = dict[str, Any]
#: Longest answer of a model, and longest event of one, in bytes, and most values in it. The longest texts that models
#: write have a tenth of that; the libraries read answers on the event loop, which every run of the process waits for.
MOST_BYTES: Final = 4 * 2**20
MOST_VALUES: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Protocol:
    """How one protocol's answers are judged and repaired. `as_stream` makes a stream's event of a whole answer."""

    has_answer: Callable[[Value], bool]
    whole: Callable[[Value], Value]
    event: Callable[[Value], Value]
    as_stream: Callable[[Value], Value] | None = None


_CHAT: Final = _Protocol(openai.has_answer, openai.whole, openai.chunk, openai.as_chunk)
_MESSAGES: Final = _Protocol(anthropic.has_answer, anthropic.whole, anthropic.event)
_GENERATE: Final = _Protocol(google.has_answer, google.whole, google.whole, google.whole)
_RESPONSES: Final = _Protocol(openai.has_output, openai.responded, openai.response_event)
_PATHS: Final = (
    ("/chat/completions", _CHAT),
    ("/responses", _RESPONSES),
    ("/messages", _MESSAGES),
    (":generateContent", _GENERATE),
    (":streamGenerateContent", _GENERATE),
)
_PAGE: Final = re.compile(rb"\s*<(?:!doctype|html|head|body|\?xml)", re.IGNORECASE)
_STREAMED: Final = re.compile(rb'"stream"\s*:\s*true')
_EVENTS: Final = re.compile(rb"\s*(?:data|event|id|retry)?:")


class ProviderRules:
    """See `Rules`. Other requests than those for an answer of a model pass unchanged."""

    def whole(self, request: httpx2.Request, answer: Whole) -> Whole:
        """An error status where there is no answer in it; else the answer in its documented shape."""
        protocol = _protocol(request)
        if protocol is None or not 200 <= answer.status < 300:
            return answer
        if answer.cut:
            return _no_answer(answer, f"an answer of more than {len(answer.body)} bytes")
        streamed = _wants_stream(request)
        if streamed and _EVENTS.match(answer.body):  # a stream under another media type
            splitter = Splitter(self.events(request))
            body = splitter.feed(answer.body) + splitter.rest()
            return answer.with_body(body, type_="text/event-stream")
        try:
            check_values(answer.body, MOST_VALUES)
            value = parse(answer.body)
        except ResponseTooLarge as error:
            return _no_answer(answer, error.message)
        except ValueError:
            return _no_answer(answer, _kind_of(answer))
        if not isinstance(value, dict) or not protocol.has_answer(value):
            return _failed(answer, value)
        if not streamed:
            return answer.with_body(dump(protocol.whole(value)))
        if protocol.as_stream is None:
            return _no_answer(answer, "one piece of JSON where a stream was asked for")
        body = b"data: " + dump(protocol.as_stream(value)) + b"\n\ndata: [DONE]\n\n"
        return answer.with_body(body, type_="text/event-stream")

    def events(self, request: httpx2.Request) -> Rewrite:
        """Repairs each event; errors among them, and what is no JSON, pass as they are."""
        protocol = _protocol(request)
        joiner = Joiner()

        def rewrite(data: bytes) -> bytes:
            if protocol is None or not data.lstrip().startswith(b"{"):
                return data
            check_values(data, MOST_VALUES)
            try:
                value = joiner.parse(data)
            except ValueError:
                return data
            if not isinstance(value, dict) or (value.get("error") and not protocol.has_answer(value)):
                return data
            return dump(protocol.event(value))

        return rewrite


def _protocol(request: httpx2.Request) -> _Protocol | None:
    if request.method != "POST":
        return None
    path = request.url.path
    return next((protocol for end, protocol in _PATHS if path.endswith(end)), None)


def _wants_stream(request: httpx2.Request) -> bool:
    if request.url.path.endswith("streamGenerateContent"):
        return True
    try:
        # The whole conversation is read only where the key could be in it: within texts its quotes are escaped.
        return bool(_STREAMED.search(request.content)) and bool(parse(request.content).get("stream"))
    except (ValueError, AttributeError, httpx2.RequestNotRead):
        return False


def _failed(answer: Whole, value: Any) -> Whole:
    error = value.get("error") if isinstance(value, dict) else None
    words = words_of(value)
    if not words:
        return _no_answer(answer, "JSON without an answer")
    status = status_of(error if isinstance(error, dict) else value)
    return _error(answer, status, words, error if isinstance(error, dict) else {})


def _no_answer(answer: Whole, what: str) -> Whole:
    return _error(answer, BAD_GATEWAY, f"status {answer.status} came with {what}", {})


def _error(answer: Whole, status: int, message: str, error: Value) -> Whole:
    """An error in a form that each of the libraries reads."""
    shown = {name: error[name] for name in ("type", "code", "status") if isinstance(error.get(name), str)}
    body = {"type": "error", "error": {"type": "api_error", **shown, "message": message}}
    return answer.with_body(dump(body), status)


def _kind_of(answer: Whole) -> str:
    if not answer.body.strip():
        return "an empty body"
    if _PAGE.match(answer.body):
        return "a web page"
    return f"no JSON ({answer.type or 'no media type'})"
