"""Operations: what the server answers, declared once and used for routing, permissions and documentation.

A front is a wire contract: where its paths begin and how it shows errors. A module declares `routes =
Routes(front, tag)` and its handlers with `@routes.get(…)` and the like; `runyard_api.fronts` lists the modules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from runyard_api.access import cookies
from runyard_api.access.auth import Principal, check_organisation
from runyard_api.http import errors
from runyard_api.http.call import Call
from runyard_common.values.errors import RunyardError

#: Asked by load balancers, as often as they like.
HEALTH: Final = ("/healthz", "/readyz", "/health")
Handler = Callable[[Call], Awaitable[Response]]
H = TypeVar("H", bound=Handler)
Around = Callable[[Handler, Call], Awaitable[Response]]
Authenticate = Callable[[Call], Awaitable[Principal]]
Render = Callable[[Call, RunyardError], Response]


async def by_bearer(call: Call) -> Principal:
    return await call.state.auth.bearer(call.headers.get("authorization"))


async def by_bearer_or_cookie(call: Call) -> Principal:
    """The caller that the Authorization header names, or else the cookie, for the organisation X-Org-Id names."""
    header, wanted = call.headers.get("authorization"), call.headers.get(cookies.ORG_HEADER)
    token = cookies.token_of(call.headers) if header is None else None
    if token is None:
        who = await call.state.auth.bearer(header)
        check_organisation(who, wanted)
        return who
    person = await call.state.cookies.person(token, call.method, call.headers)
    return person.principal(cookies.place_of(person, wanted))


def as_problem(call: Call, error: RunyardError) -> Response:
    return errors.render(error, call.request_id)


@dataclass(frozen=True, slots=True)
class Header:
    """A request header in documents: what it is for, what it looks like (JSON Schema), an example."""

    description: str = ""
    shape: Mapping[str, Any] = field(default_factory=dict)
    example: str | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """What documents show of a front beside its operations; examples are of JSON by model, of forms by operation."""

    tags: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Front:
    """A wire contract. The first prefix is the one its documentation shows.

    With `slashes` every path also answers with a slash at its end (or without, where it has one). `error` is
    the model of its error bodies, for documents; None means problem details. `cookies`: it takes a browser's, too.
    """

    name: str
    prefixes: tuple[str, ...] = ("",)
    render: Render = as_problem
    authenticate: Authenticate = by_bearer
    slashes: bool = False
    error: type[BaseModel] | None = None
    error_type: str = "application/json"
    cookies: bool = False
    described: Described = field(default_factory=Described)


@dataclass(frozen=True, slots=True)
class Answer:
    """A success: its status, what it means, its model (or JSON Schema) and media type."""

    status: int
    description: str
    model: type[BaseModel] | Mapping[str, Any] | None = None
    media_type: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `permission` None: open to all callers. `errors` are documented statuses."""

    front: Front
    tag: str
    method: str
    path: str
    handler: Handler
    permission: str | None
    summary: str
    description: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_optional: bool = False
    form: Mapping[str, Any] | None = None  # JSON Schema of a multipart body
    answers: Sequence[Answer] = ()
    errors: Sequence[int] = ()
    headers: Sequence[str] = ()  # request headers it reads
    prefixes: tuple[str, ...] | None = None  # in place of the front's
    late: bool = False  # its handler asks for the permission itself, after what its contract puts before
    #: Its own transaction or snapshot checks that what is remembered of the caller's organisation counts
    #: (`Call.judged_at`); it begins without a look of its own.
    checks_memory: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path it answers on, the documented one first."""
        found = [prefix + self.path for prefix in self.prefixes or self.front.prefixes]
        if self.front.slashes:
            found += [path.removesuffix("/") if path.endswith("/") else f"{path}/" for path in found]
        return tuple(path for path in dict.fromkeys(found) if path)

    @property
    def counted_by_address(self) -> bool:
        """Whether its callers, who need no key, have a rate by their address."""
        return self.permission is None and self.path not in HEALTH

    @property
    def name(self) -> str:
        """Its name in documents and metrics: front and handler."""
        return f"{self.front.name}.{self.handler.__name__}"


def refusals(path: str, options: Mapping[str, Any]) -> set[int]:
    """The statuses of refusals: those that `options` declares, and those that follow from what else it declares."""
    found = {400, *options.get("errors", ())}
    if "body" in options:
        found |= {413, 415}
    if "Idempotency-Key" in options.get("headers", ()):
        found |= {409, 422}
    return found | ({404} if "{" in path else set())


@dataclass(slots=True)
class Routes:
    """The operations of one module."""

    front: Front
    tag: str
    operations: list[Operation] = field(default_factory=list)

    def on(
        self,
        method: str,
        path: str,
        permission: str | None,
        *,
        around: Around | None = None,
        front: Front | None = None,
        **options: Any,
    ) -> Callable[[H], H]:
        """Declare the handler of a method and path; its docstring is its documentation, `options` are of `Operation`.

        `around` answers in its place and calls it. `front` takes the place of the module's, for a route that knows
        callers by other means.
        """

        def declare(handler: H) -> H:
            summary, _, description = (handler.__doc__ or "").strip().partition("\n")
            carried_out = handler if around is None else wraps(handler)(partial(around, handler))
            summary, description = summary.rstrip("."), " ".join(description.split())
            self.operations.append(
                Operation(front or self.front, self.tag, method, path, carried_out, permission, summary,
                          description, **options)
            )  # fmt: skip
            return handler

        return declare

    def get(self, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        return self.on("GET", path, permission, **options)

    def post(self, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        return self.on("POST", path, permission, **options)

    def put(self, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        return self.on("PUT", path, permission, **options)

    def patch(self, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        return self.on("PATCH", path, permission, **options)

    def delete(self, path: str, permission: str | None, **options: Any) -> Callable[[H], H]:
        return self.on("DELETE", path, permission, **options)
