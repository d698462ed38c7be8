"""What MCP servers send: each tool of a list judged by itself, results repaired, failures kept with their status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2

from runyard_common.values.errors import RunyardError
from runyard_workers.agent.wire import mcp_results
from runyard_workers.agent.wire.errors import words_of
from runyard_workers.agent.wire.mcp_schemas import Unusable, usable
from runyard_workers.agent.wire.text import REPLACEMENT, clean, dump, parse
from runyard_workers.agent.wire.transport import CheckedTransport, Rewrite, Whole, check_values

#: Most tools of one server that are offered.
MOST_TOOLS: Final = 128
_LONGEST_NAME: Final = 256
_LONGEST_DESCRIPTION: Final = 8000
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_SESSION: Final = "mcp-session-id"
#: The key of the requests that belong to no call: the handshake and the list of tools.
HANDSHAKE: Final = ""
#: The key of streams and notifications, which a server may refuse and work all the same.
OTHER: Final = "-"


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """How the last request of a call failed: with a status, or before there was one (`error`)."""

    status: int | None = None
    retry_after: float | None = None  # seconds
    words: str = ""
    in_session: bool = False
    error: RunyardError | None = None
    page: bool = False  # an answer with a good status that is no message of the protocol


class McpRules:
    """See `Rules`; for the sessions of one server in one run.

    `left_out` holds the tools that cannot be offered, with the reason.
    """

    def __init__(self) -> None:
        self.left_out: dict[str, str] = {}
        self._failures: dict[str, HttpFailure] = {}

    def failure(self, key: str) -> HttpFailure | None:
        """How the request of the call with this idempotency key failed."""
        return self._failures.get(key)

    def begin(self, request: httpx2.Request) -> None:
        """A request is sent."""
        self._failures.pop(_key(request), None)

    def failed(self, request: httpx2.Request, error: RunyardError) -> None:
        """A request was not answered."""
        self._failures[_key(request)] = HttpFailure(error=error, in_session=_SESSION in request.headers)

    def whole(self, request: httpx2.Request, answer: Whole) -> Whole:
        """Note a failure; repair the messages of any other answer."""
        in_session = _SESSION in request.headers
        if answer.status >= 400:
            if not (
                request.method in ("GET", "DELETE") and answer.status == 405
            ):  # no stream, by the protocol
                wait = _seconds(answer.headers.get("retry-after"))
                failure = HttpFailure(answer.status, wait, _words(answer), in_session)
                self._failures[_key(request)] = failure
            return answer
        if not answer.body.strip() or request.method != "POST":
            return answer
        try:
            if answer.cut:
                raise ValueError("too long")
            check_values(answer.body)
            value = parse(answer.body)
        except ValueError:
            self._failures[_key(request)] = HttpFailure(answer.status, in_session=in_session, page=True)
            return answer
        return answer.with_body(dump(self._messages(value, _method(request))))

    def events(self, request: httpx2.Request) -> Rewrite:
        """Repairs the messages of a stream."""
        method = _method(request)

        def rewrite(data: bytes) -> bytes:
            if not data.lstrip().startswith((b"{", b"[")):
                return data
            check_values(data)
            try:
                return dump(self._messages(parse(data), method))
            except ValueError:
                return data

        return rewrite

    def _messages(self, value: Any, method: str) -> Any:
        """The messages of an answer. Without a `method` (the older SSE transport) results are known by their fields."""
        if isinstance(value, list):
            return [self._messages(one, method) for one in value]
        if not isinstance(value, dict) or "result" not in value:
            return value
        result = value["result"] if isinstance(value["result"], dict) else {}
        if method == "tools/list" or (not method and "tools" in result):
            more = {"nextCursor": result["nextCursor"]} if isinstance(result.get("nextCursor"), str) else {}
            kept = {name: result[name] for name in ("ttlMs", "cacheScope", "resultType") if name in result}
            return value | {"result": kept | more | {"tools": self._tools(result.get("tools"))}}
        called = method == "tools/call" or (not method and _is_tool_result(result))
        if called and result.get("resultType", "complete") == "complete":
            return value | {"result": mcp_results.repaired(result)}
        return value

    def _tools(self, given: Any) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for number, one in enumerate(given if isinstance(given, list) else (), 1):
            name = one.get("name") if isinstance(one, dict) else None
            shown = clean(name)[:_LONGEST_NAME] if isinstance(name, str) and name else f"tool {number}"
            try:
                if shown in found:
                    raise Unusable("another tool of the server has its name")
                if len(found) >= MOST_TOOLS:
                    raise Unusable(f"the server offers more than {MOST_TOOLS} tools")
                found[shown] = _tool(one, shown)
            except Unusable as why:
                self.left_out.setdefault(shown, str(why))
            except RecursionError:
                self.left_out.setdefault(shown, "its input schema is nested too deeply")
        return list(found.values())


class McpTransport(CheckedTransport):
    """Sends the requests of a session and notes how they fail."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, rules: McpRules, most_bytes: int) -> None:
        super().__init__(inner, rules, most_bytes)
        self._noted = rules

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        self._noted.begin(request)
        try:
            return await super().handle_async_request(request)
        except RunyardError as error:
            self._noted.failed(request, error)
            raise


def _tool(one: Any, name: str) -> dict[str, Any]:
    """A tool in the fields that are used, each of the type it must have. Raises `Unusable`."""
    if not isinstance(one, dict):
        raise Unusable("it is no object")
    if not isinstance(one.get("name"), str) or not one["name"].strip():
        raise Unusable("it has no name")
    if REPLACEMENT in one["name"]:
        raise Unusable("its name is no text")
    if len(one["name"]) > _LONGEST_NAME:
        raise Unusable(f"its name is longer than {_LONGEST_NAME} characters")
    tool: dict[str, Any] = {"name": name, "inputSchema": usable(one.get("inputSchema"))}
    if isinstance(one.get("description"), str):
        tool["description"] = clean(one["description"])[:_LONGEST_DESCRIPTION]
    hints = one.get("annotations")
    if isinstance(hints, dict):
        tool["annotations"] = {hint: hints[hint] for hint in _HINTS if isinstance(hints.get(hint), bool)}
    return tool


def _is_tool_result(result: dict[str, Any]) -> bool:
    return any(name in result for name in ("content", "structuredContent", "isError"))


def _method(request: httpx2.Request) -> str:
    """The method of the protocol that a request calls; empty where it is not known."""
    try:
        return str(parse(request.content)["method"])
    except (ValueError, KeyError, TypeError, httpx2.RequestNotRead):
        return ""


def _key(request: httpx2.Request) -> str:
    """The idempotency key of the call that a request carries, `HANDSHAKE`, or `OTHER`."""
    try:
        message = parse(request.content) if request.method == "POST" else {}
        if "id" not in message:
            return OTHER
        return str(message["params"]["_meta"].get("idempotencyKey") or HANDSHAKE)
    except (ValueError, KeyError, TypeError, AttributeError, httpx2.RequestNotRead):
        return HANDSHAKE


def _words(answer: Whole) -> str:
    try:
        return words_of(parse(answer.body))
    except ValueError:
        text = answer.body.decode(errors="replace").strip()
        return "" if text.startswith("<") else clean(text)[:200]


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
