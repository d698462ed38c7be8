"""The OpenAPI 3.1 document, made from the declared operations.

`python -m runyard_api.documents.openapi [--check | --write]`;
`docs/openapi.json` is the committed copy.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runyard_api import idempotency
from runyard_api.access import cookies
from runyard_api.documents import docs_page, examples, schemas
from runyard_api.fronts import operations
from runyard_api.http import errors
from runyard_api.http.compressed import Document
from runyard_api.http.operations import Answer, Front, Operation
from runyard_api.native.schemas import Problem
from runyard_common.values.errors import NotFound

COPY: Final = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
#: What any operation may answer besides its own.
_ALWAYS: Final = (405, 500, 503)
_GUARDED: Final = (401, 403, 429)
_HEADERS: Final[dict[str, str]] = {
    "Idempotency-Key": "The same request with the same key is carried out once (24 hours).",
    "If-None-Match": "The ETag you have.",
    "Last-Event-ID": "The id of the last event you have.",
    "X-Session-ID": "Your name for a conversation; the same value continues it.",
    "X-Org-Id": "The organisation, for a signed-in person; a key names its own.",
    "Accept": "application/json for a page, text/event-stream for a stream.",
}
#: What parameters look like that are more than any text.
_SHAPES: Final[dict[str, dict[str, Any]]] = {
    "secret_name": {"pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"},
    "task_id": {"format": "uuid"},
    "agent": {
        "pattern": r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
        r"|@[a-z0-9][a-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._-]{0,127}|[a-z0-9]+(_[a-z0-9]+)*)$"
    },
    "Idempotency-Key": {"minLength": 1, "maxLength": idempotency.LONGEST, "pattern": "^[ -~]+$"},
    "X-Session-ID": {"maxLength": 255},
    "X-Org-Id": {"format": "uuid"},
}
#: What the groups of native operations are for, by tag.
TAGS: Final[dict[str, str]] = {
    "runs": "Start an agent as a durable task, or ask what starting it would do.",
    "tasks": "Read tasks: their state, result and conversation.",
    "events": "Follow what happens, as pages of the log or as an event stream.",
    "human tasks": "Questions and reviews that wait for a person, and the links that let people answer them.",
    "control": "Cancel and retry tasks, one or many.",
    "schedules": "Agents that run at a date, after a delay or by a cron line.",
    "sessions": "Conversations that span several tasks.",
    "agents": "Agents, their versions, tags and manifests.",
    "limits": "How many runs may go on at once, and how often they may start.",
    "keys": "API keys.",
    "secrets": "Secrets that the organisation's agents read: set, rotated, listed without values, deleted.",
    "sign-in": "Sign-in, single sign-on, second factors and the account of the person who calls.",
    "organisations": "The organisations of a person, and the settings of one.",
    "members": "Members of an organisation, and invitations to it.",
    "audit": "The log of every change and who made it.",
    "webhooks": "Webhooks and their deliveries.",
    "files": "Files that were attached to runs.",
    "statistics": "What runs did over time, and how much work waited.",
    "usage": "Tokens and cost.",
    "ops": "For the operator: the queue, the workers, failed tasks, and what organisations may use.",
    "system": "Whether the server works, and its metrics.",
    "console": "The console, a web page.",
}
_ANSWER_HEADERS: Final[dict[str, str]] = {
    "Location": "Where the new object is.",
    "ETag": "Changes with the task.",
}


def document(declared: Sequence[Operation], prefix: str = "", front: str = "") -> dict[str, Any]:
    """The whole document, or that of one front by its name; `prefix` is what a proxy puts before every path."""
    declared = [operation for operation in declared if front in ("", operation.front.name)]
    paths: dict[str, dict[str, Any]] = {}
    for operation in declared:
        paths.setdefault(path_of(operation), {})[operation.method.lower()] = _operation(operation)
    with_cookies = any(operation.front.cookies for operation in declared)
    schemes = ("bearer", "session") if with_cookies else ("bearer",)
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Runyard: {front}" if front else "Runyard",
            "version": "1",
            "description": _ABOUT,
            "contact": {"name": "Runyard"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": prefix or "/"}],
        "security": [{name: []} for name in schemes],
        "tags": [
            {
                "name": operation.tag,
                "description": (TAGS | dict(operation.front.described.tags)).get(operation.tag, ""),
            }
            for operation in {operation.tag: operation for operation in declared}.values()
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {name: _scheme(name, declared) for name in schemes},
            "schemas": schemas.components(_models(declared)),
        },
    }
    examples.add(whole, {operation.front.name: operation.front.described for operation in declared}.values())
    return whole


def names_of_fronts(declared: Sequence[Operation]) -> list[str]:
    """The fronts that have a document of their own."""
    return list(dict.fromkeys(operation.front.name for operation in declared))


def path_of(operation: Operation) -> str:
    """The path under which the document shows an operation."""
    return _PLACEHOLDER.sub(r"{\1}", operation.paths[0])


_SCHEMES: Final[dict[str, dict[str, Any]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (ry_…) or a JWT."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": cookies.NAME,
        "description": "Set by signing in (__Host-runyard_session over https). {fronts} "
        "routes only; methods that change something need X-CSRF-Token, people of several "
        "organisations X-Org-Id.",
    },
}
_ABOUT: Final = (
    "Runs agents as durable background tasks. Every path under /api/v1 also answers under /v1, and tasks at the "
    "root. Refusals are problem documents (RFC 9457) whose code is stable."
)


def _scheme(name: str, declared: Sequence[Operation]) -> dict[str, Any]:
    fronts = " and ".join(dict.fromkeys(one.front.name for one in declared if one.front.cookies)).capitalize()
    return _SCHEMES[name] | {"description": _SCHEMES[name]["description"].replace("{fronts}", fronts)}


def _models(declared: Sequence[Operation]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {}
    for operation in declared:
        answered = (answer.model for answer in operation.answers)
        for model in (operation.front.error or Problem, operation.body, *answered):
            if isinstance(model, type) and issubclass(model, BaseModel):
                found[model] = None
    return list(found)


def _operation(operation: Operation) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation),
            *_header_parameters(operation),
        ],
        "responses": _responses(operation),
    }
    notes = [operation.description] if operation.description else []
    if operation.permission is None:
        whole["security"] = []
        notes.append("Needs no credentials.")
    else:
        notes.append(f"Needs the permission `{operation.permission}`.")
    if operation.permission is not None and not operation.front.cookies:
        whole["security"] = [{"bearer": []}]
    if notes:
        whole["description"] = " ".join(notes)
    body = _body(operation)
    return whole | ({"requestBody": body} if body else {})


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = _PLACEHOLDER.findall(operation.paths[0])
    return [{"name": name, "in": "path", "required": True, "schema": _text(name)} for name in names]


def _text(name: str) -> dict[str, Any]:
    """The schema of a parameter that is text."""
    return {"type": "string"} | _SHAPES.get(name, {})


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    whole = schemas.parameters(operation.query)
    required = whole.get("required", ())
    return [
        _query_parameter(name, schema, name in required)
        for name, schema in whole.get("properties", {}).items()
    ]


def _query_parameter(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    schema = {key: value for key, value in schema.items() if key != "title"}
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        schema |= choices[0]
        schema.pop("default", None)
    parameter: dict[str, Any] = {"name": name, "in": "query", "required": required}
    if "description" in schema:
        parameter["description"] = schema.pop("description")
    return parameter | {"schema": schema}


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    # OpenAPI reserves Accept: the answers' media types show it
    return [_header_parameter(operation.front, name) for name in operation.headers if name != "Accept"]


def _header_parameter(front: Front, name: str) -> dict[str, Any]:
    own = front.described.headers.get(name)
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": own.description if own and own.description else _HEADERS[name],
        "schema": _text(name) if own is None else {"type": "string", **own.shape},
    } | ({"example": own.example} if own and own.example else {})


def _body(operation: Operation) -> dict[str, Any] | None:
    content: dict[str, Any] = {}
    if operation.body is not None:
        content["application/json"] = {"schema": {"$ref": schemas.REFS.format(model=operation.body.__name__)}}
    if operation.form is not None:
        content["multipart/form-data"] = {"schema": dict(operation.form)}
    return {"required": not operation.body_optional, "content": content} if content else None


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for answer in operation.answers:
        entry = found.setdefault(str(answer.status), {"description": answer.description})
        if answer.model is not None:
            content = entry.setdefault("content", {})
            known = content.get(answer.media_type)  # another success of this status and type
            own = _schema(answer)
            content[answer.media_type] = {"schema": {"anyOf": [known["schema"], own]} if known else own}
        if answer.headers:
            entry["headers"] = {
                name: {"description": _ANSWER_HEADERS[name], "schema": {"type": "string"}}
                for name in answer.headers
            }
    guarded = _GUARDED if operation.permission is not None else (429,) if operation.counted_by_address else ()
    for status in sorted({*operation.errors, *guarded, *_ALWAYS}):
        problem = _problem(status, operation.front)
        known = found.setdefault(str(status), problem)
        if status in operation.errors:  # an HTML page may come beside it
            known.setdefault("content", {}).update(problem["content"])
    return found


def _schema(answer: Answer) -> Mapping[str, Any]:
    if isinstance(answer.model, type):
        return {"$ref": schemas.REFS.format(model=answer.model.__name__)}
    return answer.model or {}


def _problem(status: int, front: Front) -> dict[str, Any]:
    kind, model = (front.error_type, front.error) if front.error else (errors.MEDIA_TYPE, Problem)
    schema = {"$ref": schemas.REFS.format(model=model.__name__)}
    return {"description": HTTPStatus(status).phrase, "content": {kind: {"schema": schema}}}


def text(declared: Sequence[Operation]) -> bytes:
    """The document as the committed copy holds it."""
    return orjson.dumps(document(declared), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class _Published:
    """The documents and the page, each made at the first request for it: most processes never need it."""

    def __init__(self, declared: Sequence[Operation], prefix: str) -> None:
        self._declared = declared
        self._prefix = prefix
        self._making = threading.Lock()
        self._made: dict[str, Document] = {}

    async def json(self, front: str) -> Document:
        """The whole document for an empty text, or that of a front; `NotFound` front_not_found."""
        known = names_of_fronts(self._declared)
        if front and front not in known:
            raise NotFound(
                f"No front has this name. There are: {', '.join(known)}.",
                code="front_not_found",
                field="front",
            )
        return await self._made_once(front, lambda: self._document(front))

    async def page(self) -> Document:
        return await self._made_once("/docs", self._docs_page)

    async def _made_once(self, name: str, make: Callable[[], Document]) -> Document:
        if name not in self._made:
            await asyncio.to_thread(self._make, name, make)
        return self._made[name]

    def _make(self, name: str, make: Callable[[], Document]) -> None:
        with self._making:
            if name not in self._made:
                self._made[name] = make()

    def _document(self, front: str) -> Document:
        content = orjson.dumps(document(self._declared, self._prefix, front))
        return Document(content, "application/json", {"cache-control": "no-cache"})

    def _docs_page(self) -> Document:
        page = docs_page.page(document(self._declared, self._prefix))
        return Document(page.encode(), "text/html", docs_page.HEADERS)


def routes(declared: Sequence[Operation], prefix: str = "") -> list[Route]:
    """/openapi.json and /docs; `prefix` is what a proxy puts before every path."""
    published = _Published(declared, prefix)

    async def openapi_json(request: Request) -> Response:
        front = request.path_params.get("front") or request.query_params.get("front", "")
        try:
            as_json = await published.json(front)
        except NotFound as unknown:
            return errors.render(unknown, request.scope["request_id"])
        return as_json.answer(request.headers)

    async def docs(request: Request) -> Response:
        return (await published.page()).answer(request.headers)

    # clients of one contract look for it under /api
    paths = ("/openapi.json", "/api/openapi.json", "/openapi/{front}.json")
    return [*(Route(path, openapi_json) for path in paths), Route("/docs", docs)]


def main(arguments: Sequence[str]) -> int:
    """Print the document, write the committed copy, or check that it is in step."""
    made = text(operations())
    if "--write" in arguments:
        COPY.write_bytes(made)
    elif "--check" in arguments:
        if not COPY.parent.is_dir():
            sys.stderr.write("There is no docs folder beside this installation: check it in a checkout.\n")
            return 2
        if not COPY.exists() or COPY.read_bytes() != made:
            sys.stderr.write(
                "docs/openapi.json is out of step: run python -m runyard_api.documents.openapi --write\n"
            )
            return 1
    else:
        sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
