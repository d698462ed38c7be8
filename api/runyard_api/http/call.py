"""One request as handlers meet it: who calls, its parameters, its body, and the process it reached."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope

from runyard_api.access.auth import Principal
from runyard_api.http import request_body
from runyard_api.http.paths import SLASH
from runyard_api.state import State
from runyard_common.database.rows import OrgScope
from runyard_common.database.transaction import Tx
from runyard_common.identity.rules.actors import Actor
from runyard_common.runs.rules.tasks import Task
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, Unauthorized
from runyard_common.values.json_text import LARGE

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")
R = TypeVar("R")
_MUCH: Final = 64 * 1024


class Call:
    """A request under way."""

    __slots__ = (
        "_begun", "_costly", "_principal", "_raw", "_received", "_received_bytes", "_whole", "headers", "judged_at",
        "permitted", "request_id", "response_headers", "scope", "state", "streamed",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._received = receive
        self._received_bytes = 0
        self._begun: Message | None = None
        self._costly = False
        self._whole = False
        self.headers = Headers(scope=scope)
        self.state: State = scope["app"].state.runyard
        self.request_id: str = scope["request_id"]
        self.response_headers: dict[str, str] = {}  # of its answer, also of a refusal
        self._principal: Principal | None = None
        self._raw: bytes | None = None
        self.streamed = False  # its body was read in pieces, and cannot be read again
        #: The number of the organisation's configuration at which who calls was known; what is remembered of agents is
        #: of that or of a later one.
        self.judged_at: int | None = None
        #: Asks again whether the caller may do this: its key may have been revoked since.
        self.permitted: Callable[[], Awaitable[bool]] = _always

    async def receive(self) -> Message:
        """The next piece of the body (ASGI)."""
        message, self._begun = self._begun or await self._received(), None
        self._whole = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        return message

    async def begin_body(self) -> None:
        """Take what has come of the body: a caller that has sent all of it may leave, and is served."""
        if self.headers.get("content-length", "0") != "0":
            self._begun = await self._received()

    @property
    def leaves_much_unread(self) -> bool:
        """Whether much of the body, or an unknown part of it, is yet to come."""
        if self._whole:
            return False
        declared = self.headers.get("content-length", "0")
        return "transfer-encoding" in self.headers or not declared.isdigit() or int(declared) > _MUCH

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return str(self.scope["path"]).replace(SLASH, "/")

    @property
    def params(self) -> Mapping[str, str]:
        """The values of the path's placeholders."""
        params: Mapping[str, str] = self.scope["path_params"]
        if b"%" in self.scope["raw_path"] and b"%2F" in self.scope["raw_path"].upper():
            return {name: value.replace(SLASH, "/") for name, value in params.items()}
        return params

    @property
    def address(self) -> str:
        """The caller's address, as the server or a trusted proxy has seen it."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def known(self) -> bool:
        """Whether it is known who calls."""
        return self._principal is not None

    @property
    def principal(self) -> Principal:
        if self._principal is None:
            raise Unauthorized
        return self._principal

    def admit(self, principal: Principal, front: str) -> None:
        """Note who calls, and by which front."""
        self._principal = _acting(principal, front)

    @property
    def org_id(self) -> str:
        return self.principal.org_id

    @property
    def actor(self) -> str:
        """Who calls and by which front, as logs and the audit name it."""
        return self.principal.actor

    async def read(
        self, query: Callable[Concatenate[OrgScope, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """What a query gives for the caller's organisation. Error: `Unavailable`."""
        org_id = self.org_id
        return await self.state.reader.one(lambda conn: query(OrgScope(conn, org_id), *args, **kwargs))

    async def write(
        self, command: Callable[Concatenate[Tx, str, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a command of the caller's organisation; see `State.write`."""
        return await self.state.write(command, self.org_id, *args, **kwargs)

    def accepts(self, media_type: str) -> bool:
        """Whether the Accept header names this type (and not with q=0)."""
        for part in self.headers.get("accept", "").split(","):
            name, _, parameters = part.partition(";")
            if name.strip().lower() == media_type:
                return parameters.replace(" ", "") not in ("q=0", "q=0.0")
        return False

    def query(self, kind: type[M]) -> M:
        """The query string as a model; `InvalidRequest` unknown_parameter, duplicate_parameter, invalid_field."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return cast(M, _without_parameters(kind))
        given: dict[str, str] = {}
        for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="replace"):
            if name in given:
                raise InvalidRequest(f"Duplicate parameter {name!r}.", code="duplicate_parameter", field=name)
            if "\0" in value:
                raise InvalidRequest("NUL characters are refused.", code="nul_character", field=name)
            given[name] = value
        return request_body.model(kind, given)

    async def raw(self) -> bytes:
        """The whole body; `PayloadTooLarge` beyond the setting."""
        if self._raw is None:
            most = self.state.settings.max_body_bytes
            if self._principal is None:
                most = min(most, bounds.OPEN_BODY.most)
            self._raw = await request_body.read(self.receive, self.headers, most)
            self._costly = request_body.is_costly(self._raw)
            if len(self._raw) > LARGE and self._principal is not None:
                self.state.costly.wrote(self._principal.org_id, len(self._raw))
        return self._raw

    async def json(self, kind: type[M], *, untyped: bool = False) -> M:
        """The JSON body as a model. `untyped`: without a Content-Type it is JSON as well, for fronts without cookies,
        where asking for one protects nothing."""
        request_body.check_json_type(self.headers, untyped=untyped)
        return request_body.model(kind, await self.parse(await self.raw()))

    async def parse(self, raw: bytes, field: str | None = None) -> Any:
        """A body, or a part of one, as JSON: see `request_body.parse`."""
        return await self.work_on_body(request_body.parse, raw, field)

    async def work_on_body(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` on this request's body gives: here where the body is small, and on a thread, in turn
        with the organisation's other costly ones, where it is large or has many values."""
        if not self._costly and self._received_bytes <= LARGE:
            return work(*args, **kwargs)
        return await self.in_turn(work, *args, **kwargs)

    async def in_turn(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What costly `work` for the caller gives: on a thread, in turn with its organisation's other."""
        party = self._principal.org_id if self._principal is not None else ""
        return await self.state.costly.do(party, work, *args, **kwargs)

    async def reply_with(
        self,
        tasks: Iterable[Task],
        build: Callable[[], Any],
        headers: Mapping[str, str] | None = None,
        *,
        besides: int = 0,
    ) -> Response:
        """The JSON answer that `build` makes of these tasks, and of so many bytes `besides`: made on a thread where
        they are large."""
        if sum(task.stored_length for task in tasks) + besides <= LARGE:
            return reply(build(), headers=headers)
        content = await self.in_turn(lambda: orjson.dumps(build()))
        return Response(content, 200, headers, "application/json")

    async def optional_json(self, kind: type[M]) -> M:
        """The JSON body as a model; no body at all counts as an empty object."""
        if not await self.raw():
            return request_body.model(kind, {})
        return await self.json(kind)

    def stream(self, most: int) -> AsyncGenerator[bytes, None]:
        """The body in pieces."""
        self.streamed = True
        return request_body.stream(self.receive, self.headers, most)


@functools.cache
def _without_parameters(kind: type[BaseModel]) -> BaseModel:
    """What an empty query string is as a model: the same for all requests, which only look at it."""
    return request_body.model(kind, {})


@functools.lru_cache(4096)
def _acting(principal: Principal, front: str) -> Principal:
    """A caller as one who calls by this front."""
    return replace(principal, actor=Actor(principal.actor, front))


async def _always() -> bool:
    return True


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    content = orjson.dumps(body)
    return Response(content, status, headers, "application/json")
