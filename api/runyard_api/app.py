"""The ASGI application: routes from the declared operations, and the life of the process's state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runyard_api.access.capacity import PIECE
from runyard_api.documents import openapi
from runyard_api.fronts import operations
from runyard_api.http import errors
from runyard_api.http.call import Call
from runyard_api.http.endpoint import Endpoint, by_path, count_by_address, refuse_method
from runyard_api.http.operations import Operation, as_problem
from runyard_api.http.paths import PREFIX, SLASH, Paths, under
from runyard_api.native.front import BASE
from runyard_api.state import State
from runyard_common.settings import Settings
from runyard_common.values import addresses
from runyard_common.values.errors import (
    ConfigurationError,
    InvalidRequest,
    NotFound,
    RunyardError,
    TooManyRequests,
)
from runyard_common.values.ids import uuid4

#: What most requests ask for is matched first; /tasks/cancel and /tasks/retry look like a /tasks/{task_id}.
_FIRST: Final = (
    "/agents/{agent:agent}/run",
    "/tasks/cancel",
    "/tasks/retry",
    "/tasks/{task_id}",
    "/tasks/{task_id}/events",
)
#: The methods of the front page, beside which a vendor's API has POST.
_PAGE: Final = ("GET", "HEAD")

#: The methods of pages of other origins, and what they may read of an answer besides what browsers show anyway.
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_EXPOSED: Final = (
    "ETag", "Location", "Request-Id", "Retry-After", "X-Session-ID", "X-Task-ID", "Idempotent-Replayed",
    "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)  # fmt: skip
_REMEMBERED_S: Final = 600


_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_NO_STORE: Final = (b"cache-control", b"no-store")


class _AgentConvertor(StringConvertor):
    """An agent's id or name in a path; @scope/name keeps its slash."""

    #: The slash of the name may be escaped, as `paths` writes it; the next segment is then no part of the name.
    regex = f"(?:@[^/{SLASH}]+/)?[^/]+"


register_url_convertor("agent", _AgentConvertor())


def build(
    settings: Settings,
    on_open: Callable[[State], None] | None = None,
    on_refused: Callable[[ConfigurationError], None] | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """The application for these settings; `on_open` gets the state once it is open, `on_refused` the error of
    settings with which it cannot be opened. It waits for a database that is away, until `given_up()`."""

    pages = [Route(f"/{name}/", _without_slash) for name in ("console", "docs")]
    documents = openapi.routes(operations(), settings.path_prefix)
    routes = [
        *_with_front_page(routes_of(operations())),
        *(Route(route.path, _counted(route.endpoint)) for route in (*documents, *pages)),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _method_not_allowed})
    app.router.redirect_slashes = False

    async def open_() -> State:
        try:
            state = app.state.runyard = await State.open(settings, given_up)
        except ConfigurationError as error:
            if on_refused is not None:
                on_refused(error)
            raise
        if on_open is not None:
            on_open(state)
        return state

    return _answering_pages(_Outer(app, open_, settings.path_prefix), settings.allowed_origins)


def _answering_pages(app: ASGIApp, allowed: str) -> ASGIApp:
    """`app`, which also answers preflights of these comma-separated origins (CORS). Raises `ConfigurationError`.

    Credentials are keys and tokens in headers. Cookies are never sent along from another origin: signing in is for
    the console's own.
    """
    allowed_origins = addresses.parse_origins(allowed)
    if not allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=allowed_origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_S,
    )


def routes_of(declared: list[Operation]) -> list[BaseRoute]:
    """Routes by path: the hot ones first, then those without placeholders, then the others as declared."""
    paths = by_path(declared)
    return [
        Route(path, Endpoint(paths[path], _PAGE if path == "/" else ())) for path in sorted(paths, key=_rank)
    ]


def _rank(path: str) -> int:
    own = path.removeprefix("/api").removeprefix("/v1")
    if own in _FIRST:
        return _FIRST.index(own)
    return len(_FIRST) if "{" not in path else len(_FIRST) + 1


def _with_front_page(routes: list[BaseRoute]) -> list[BaseRoute]:
    """GET / is a page of ours; other methods there are those of a vendor's API."""
    at = next(place for place, route in enumerate(routes) if isinstance(route, Route) and route.path == "/")
    return [*routes[:at], Route("/", _counted(_front_page), methods=list(_PAGE)), *routes[at:]]


def _counted(page: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A page that is no operation's, with the rate of callers without a key."""

    async def answer(request: Request) -> Response:
        call = Call(request.scope, request.receive)
        try:
            count_by_address(call)
        except TooManyRequests as refusal:
            return as_problem(call, refusal)
        return await page(request)

    return answer


async def _front_page(request: Request) -> Response:
    """The console for browsers, and where everything is for others."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(under("/console"), 302)
    paths = {
        "console": "/console",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "api": BASE,
        "health": "/readyz",
    }
    return JSONResponse({"name": "Runyard"} | {name: under(path) for name, path in paths.items()})


async def _without_slash(request: Request) -> Response:
    """The page's own parts are named relative to the path without a slash at its end."""
    return RedirectResponse(f"../{request.scope['path'].strip('/')}", 308)


async def _not_found(request: Request, _error: Exception) -> Response:
    """In the words of the front whose paths begin like this one."""
    path = request.url.path
    error = NotFound(f"No such route: {path[:200]}. See {under('/docs')}.", code="route_not_found")
    begun = [front for front in _FRONTS if any(path.startswith(f"{p}/") for p in front.prefixes if p)]
    if not begun:
        return errors.render(error, request.scope["request_id"])
    longest = max(begun, key=lambda front: max(len(p) for p in front.prefixes if path.startswith(f"{p}/")))
    return longest.render(Call(request.scope, request.receive), error)


async def _method_not_allowed(request: Request, error: Exception) -> Response:
    """The refusal of a path that is no operation's: a page, or the document."""
    allow = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    allowed = sorted(method.strip() for method in allow.split(",") if method.strip()) or list(_PAGE)
    return refuse_method(Call(request.scope, request.receive), as_problem, allowed)


#: The fronts: a path without a route is refused as the front with its prefix refuses.
_FRONTS: Final = tuple({operation.front.name: operation.front for operation in operations()}.values())


class _Outer:
    """What every answer carries, whichever front gives it, and the life of the process's state."""

    def __init__(self, app: Starlette, open_: Callable[[], Awaitable[State]], prefix: str) -> None:
        self._app = app
        self._open = open_
        self._paths = Paths(app.routes, prefix)
        self._state: State | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        PREFIX.set(self._paths.prefix)
        request_id = scope["request_id"] = f"req_{uuid4()}"

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(self._with_headers(message, request_id))
            elif len(message.get("body", b"")) > PIECE:
                await _in_pieces(message, send)
            else:
                await send(message)

        refusal = _refusal(scope)
        if refusal is not None:
            await errors.render(refusal, request_id)(scope, receive, named)
            return
        scope, found = self._paths.route(scope)
        if found is not None and isinstance(found[0], Route) and isinstance(found[0].endpoint, Endpoint):
            # The router's way, without its look at every route; an endpoint answers its own errors.
            route, child = found
            scope.update(child)
            scope["app"] = self._app
            await route.handle(scope, receive, named)
        else:
            await self._app(scope, receive, named)

    def _with_headers(self, start: Message, request_id: str) -> Message:
        """The start of an answer with the headers of every answer; those that it has stay as they are."""
        headers = list(start["headers"])
        names = {name for name, _ in headers}
        own = ((b"request-id", request_id.encode()), _NO_SNIFFING, _NO_STORE)
        headers += [header for header in own if header[0] not in names]
        leaving = self._state is not None and self._state.leaving  # its next request goes to another process
        if leaving or start["status"] == 408:  # and what did not come in time may still come
            headers = [header for header in headers if header[0] != b"connection"]
            headers.append((b"connection", b"close"))
        return {**start, "headers": headers}

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the state before the first request and close it after the last (ASGI lifespan)."""
        await receive()
        try:
            state = self._state = await self._open()
        except (ConfigurationError, SQLAlchemyError) as error:
            # Print one line, not a traceback: the operator has to fix this.
            await send({"type": "lifespan.startup.failed", "message": f"runyard api: {_sentence(error)}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await state.close()
        await send({"type": "lifespan.shutdown.complete"})


async def _in_pieces(message: Message, send: Send) -> None:
    """Hand a large body over as its reader takes it: what the connection was given is in memory once more."""
    body = memoryview(message["body"])
    for start in range(0, len(body), PIECE):
        more = start + PIECE < len(body) or message.get("more_body", False)
        await send({**message, "body": bytes(body[start : start + PIECE]), "more_body": more})


def _refusal(scope: Scope) -> RunyardError | None:
    """What is wrong with the head of any request (RFC 9112, section 3.2, on Host)."""
    if _head_of(scope) > errors.LONGEST_HEAD:
        return errors.HeadersTooLarge()
    hosts = [name for name, _ in scope["headers"]].count(b"host")
    if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
        return InvalidRequest("Send one Host header.", code="invalid_host", field="Host")
    return None


def _head_of(scope: Scope) -> int:
    """Bytes of a request's path, query and headers."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    for name, value in scope["headers"]:
        size += len(name) + len(value)
    return size


def _sentence(error: Exception) -> str:
    if isinstance(error, ConfigurationError):
        return error.message
    if isinstance(error, ProgrammingError) or "no such table" in str(error):
        return "the database has no tables of this version: run `runyard migrate` first."
    return addresses.masked(f"the database cannot be reached: {getattr(error, 'orig', error)}")
