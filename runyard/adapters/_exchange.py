"""One HTTP call of a provider's client as a model turn: what is sent, what comes back, and how it is kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx2

from runyard.adapters._wires import is_usage_only, summary
from runyard.turns import ModelTurn

#: Headers of an answer that are true of it no more, or are nothing to keep.
_DROPPED: Final = frozenset(
    {"content-encoding", "content-length", "transfer-encoding", "connection", "set-cookie", "date"}
)
_STREAM: Final = "text/event-stream"


class Refused(Exception):
    """The provider answered with an error; the attributes are what providers' own libraries call them."""

    def __init__(self, answer: Answer, model: str) -> None:
        self.answer = answer
        self.status_code = answer.status
        self.headers = dict(answer.headers)
        self.model_name = model
        self.met = answer.packed()  # for the journal
        try:
            self.body: Any = json.loads(answer.body)
        except ValueError:
            self.body = answer.body.decode(errors="replace")
        super().__init__(f"status {answer.status}")


@dataclass(frozen=True)
class Answer:
    """An answer as the client gets it, now or from the journal."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @classmethod
    def begun(cls, response: httpx2.Response) -> Answer:
        """What is known before the body is there."""
        kept = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in _DROPPED]
        return cls(response.status_code, tuple(kept))

    @property
    def is_stream(self) -> bool:
        """Whether it consists of server-sent events."""
        return any(k.lower() == "content-type" and v.lower().startswith(_STREAM) for k, v in self.headers)

    def packed(self) -> dict[str, Any]:
        """The answer in JSON form."""
        found: dict[str, Any] = {"status": self.status, "headers": [list(one) for one in self.headers]}
        try:
            return found | {"body": self.body.decode()}
        except UnicodeDecodeError:
            return found | {"base64": base64.b64encode(self.body).decode()}

    @classmethod
    def unpacked(cls, value: Mapping[str, Any]) -> Answer:
        """The answer of its JSON form."""
        body = value["body"].encode() if "body" in value else base64.b64decode(value["base64"])
        return cls(value["status"], tuple((k, v) for k, v in value["headers"]), body)

    def response(self, stream: Any = None) -> httpx2.Response:
        """The answer as the client takes it; its body comes from `stream` if one is given."""
        content = {"stream": stream} if stream is not None else {"content": self.body}
        return httpx2.Response(self.status, headers=list(self.headers), **content)


@dataclass
class Exchange:
    """A request that asks a model."""

    vendor: str
    request: httpx2.Request
    path: str
    model: str
    asked: str = ""  # what the code has sent, a character a byte
    hides_usage: bool = False  # the events with the usage were asked for here, and are not the code's
    _rest: bytes = b""
    _kept: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, vendor: str, request: httpx2.Request, body: bytes) -> Exchange | None:
        """The exchange that a request begins; None for one that asks no model."""
        asked = _asked(request, body)
        if asked is None:
            return None
        path, model = request.url.path, str(asked.get("model") or "")
        sent = f"{path}\n{body.decode('latin-1')}"
        chat = asked.get("stream") and path.endswith("/chat/completions")
        if not chat or (asked.get("stream_options") or {}).get("include_usage") is not None:
            return cls(vendor, request, path, model, sent)
        # A stream reports what it used only when it is asked to.
        options = {**(asked.get("stream_options") or {}), "include_usage": True}
        content = json.dumps({**asked, "stream_options": options}).encode()
        headers = [(k, v) for k, v in request.headers.multi_items() if k.lower() != "content-length"]
        more = httpx2.Request(
            request.method, request.url, headers=headers, content=content, extensions=request.extensions
        )
        return cls(vendor, more, path, model, sent, hides_usage=True)

    def feed(self, piece: bytes) -> bytes:
        """What the code gets of this piece of the body."""
        if not self.hides_usage:
            self._kept += piece
            return piece
        self._rest += piece
        *events, self._rest = self._rest.replace(b"\r\n", b"\n").split(b"\n\n")
        shown = bytearray()
        for event in events:
            self._kept += event + b"\n\n"
            if not is_usage_only(event):
                shown += event + b"\n\n"
        return bytes(shown)

    def rest(self) -> bytes:
        """What the code gets once the body has ended."""
        rest, self._rest = self._rest, b""
        self._kept += rest
        return rest

    def turn(self, begun: Answer, shown: bytes) -> ModelTurn:
        """The turn that the whole answer makes; `shown` is its body as the code has had it."""
        found = summary(self.path, bytes(self._kept), begun.is_stream)
        return ModelTurn(
            replace(begun, body=shown).packed(),
            found.model or self.model or "unknown",
            self.vendor,
            found.input_tokens,
            found.output_tokens,
            found.cached_tokens,
            found.text,
            found.thinking,
            finish_reason=found.finish_reason,
        )


def _asked(request: httpx2.Request, body: bytes) -> dict[str, Any] | None:
    is_json = request.headers.get("content-type", "").lower().startswith("application/json")
    if request.method != "POST" or not is_json:
        return None
    try:
        asked = json.loads(body)
    except ValueError:
        return None
    return asked if isinstance(asked, dict) and "model" in asked else None
