"""Request bodies: read within bounds, parsed strictly, each defect with a code and the field it sits in.

InvalidRequest 400   bad_json, duplicate_field, too_deep, too_many_values, nul_character, not_an_object,
                     unknown_field, missing_field, invalid_field, bad_multipart
PayloadTooLarge 413  payload_too_large
UnsupportedMedia 415 unsupported_media_type, unsupported_encoding
RequestTimeout 408   request_timeout
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final, TypeVar

import jiter
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runyard_api.http.errors import RequestTimeout
from runyard_common.values import bounds, json_text
from runyard_common.values.errors import InvalidRequest, PayloadTooLarge, UnsupportedMedia
from runyard_common.values.json_text import LARGE
from runyard_common.values.models import Model

M = TypeVar("M", bound=BaseModel)

#: How deep JSON may nest, how many values it may hold.
DEEPEST: Final = bounds.JSON_DEPTH.most
#: Values that an event loop reads itself: they take it about half a millisecond.
_FEW: Final = 1_000
MOST_VALUES: Final = bounds.JSON_VALUES.most
#: A body that pauses longer than this is given up, in seconds.
PATIENCE: Final = 30.0
#: And one that has not brought so many bytes a second on the whole, after as long: it holds a connection.
SLOWEST: Final = 1024
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Tolerant(Model):
    """A body, or parameters, whose unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


async def read(receive: Receive, headers: Headers, most: int) -> bytes:
    """The whole body, of `most` bytes at most."""
    parts = [part async for part in stream(receive, headers, most)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def stream(receive: Receive, headers: Headers, most: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces, refused as soon as it is known to be too large."""
    _check_encoding(headers)
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    seen, more = 0, True
    clock = asyncio.get_running_loop().time
    began = clock()
    while more:
        left = began + PATIENCE + seen / SLOWEST - clock()
        try:
            async with asyncio.timeout(max(0.0, min(PATIENCE, left))):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        piece = message.get("body", b"")
        seen += len(piece)
        if seen > most:
            raise _too_large(most)
        if piece:
            yield piece


def _check_encoding(headers: Headers) -> None:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(
            "Send the body uncompressed, without Content-Encoding.",
            code="unsupported_encoding",
            field="Content-Encoding",
        )


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The request body has more than {most:,} bytes. Send large inputs as files.", limit_bytes=most
    )


def media_type(headers: Headers) -> str:
    """The content type without its parameters, in lower case; empty when there is none."""
    return headers.get("content-type", "").split(";", 1)[0].strip().lower()


def check_json_type(headers: Headers, *, untyped: bool = False) -> None:
    """`UnsupportedMedia` unless the body is declared as JSON, in UTF-8; `untyped` takes one without a type too."""
    whole = headers.get("content-type", "")
    kind = media_type(headers)
    if untyped and not kind:
        return
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMedia(
            f"This route reads application/json, not {kind or 'a body without a type'}; "
            "send Content-Type: application/json.",
            field="Content-Type",
        )
    charset = whole.lower().partition("charset=")[2].split(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedMedia(
            "JSON is read as UTF-8 only.", code="unsupported_encoding", field="Content-Type"
        )


def is_costly(raw: bytes) -> bool:
    """Whether reading this JSON delays other callers: it is large, or has many values."""
    if len(raw) <= _FEW:
        return False
    return len(raw) > LARGE or raw.count(b",") + raw.count(b"[") + raw.count(b"{") > _FEW


def parse(raw: bytes, field: str | None = None) -> Any:
    """JSON, read strictly (RFC 8259, no duplicate names, no NUL characters, bounded depth and size).

    Large bodies delay all callers: see `Call.work_on_body`.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise _too_deep(field) from None
        raise InvalidRequest(f"The JSON cannot be read: {error}.", code="bad_json", field=field) from None
    if raw.count(b",") >= MOST_VALUES and _count(value) > MOST_VALUES:
        raise InvalidRequest(
            f"The JSON holds more than {MOST_VALUES:,} values. Send large inputs as files.",
            code="too_many_values",
            field=field,
        )
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _deeper_than(value, DEEPEST):
        raise _too_deep(field)
    if b"\\u0000" in raw and _ESCAPED_NUL.search(raw):
        raise InvalidRequest(
            "Texts may not hold the NUL character (\\u0000).", code="nul_character", field=field
        )
    if raw.count(b":") > 1:
        _refuse_duplicates(raw, field)
    return json_text.with_all_digits(raw, value)


def _refuse_duplicates(raw: bytes, field: str | None) -> None:
    try:
        jiter.from_json(raw, catch_duplicate_keys=True)
        return
    except ValueError:  # a duplicate, or its number is not one to this reader: the slow way names it
        pass

    def once(pairs: list[tuple[str, Any]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) != len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InvalidRequest(
                f"Duplicate field {twice!r}.",
                code="duplicate_field",
                field=twice if field is None else f"{field}.{twice}",
            )

    json.loads(raw, object_pairs_hook=once)


def _too_deep(field: str | None) -> InvalidRequest:
    return InvalidRequest(
        f"The JSON is nested more than {DEEPEST} levels deep.", code="too_deep", field=field
    )


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _count(value: Any) -> int:
    total, pending = 0, [value]
    while pending:
        item = pending.pop()
        total += 1
        pending.extend(_children(item))
    return total


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def model(kind: type[M], value: Any, where: str | None = None) -> M:
    """`value` as a model; its first defect as `InvalidRequest`, the others listed with it."""
    if not isinstance(value, dict):
        raise not_an_object(where)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _refusal(kind, error.errors(include_url=False, include_context=True), where) from None


def not_an_object(where: str | None = None) -> InvalidRequest:
    """The refusal of a body (or of the part of it that `where` names) that is a list or a scalar."""
    return InvalidRequest("The body must be a JSON object.", code="not_an_object", field=where)


def _refusal(kind: type[BaseModel], errors: list[ErrorDetails], where: str | None) -> InvalidRequest:
    found = [_describe(kind, error, where) for error in errors[:10]]
    first = found[0]
    return InvalidRequest(first["message"], code=first["code"], field=first["field"], errors=found)


def _describe(kind: type[BaseModel], error: ErrorDetails, where: str | None) -> dict[str, str]:
    path = field_path(error["loc"], where)
    name = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        hint = _meant(kind, name) if len(error["loc"]) == 1 else ""
        return {"field": path, "code": "unknown_field", "message": f"There is no field {name!r}.{hint}"}
    if error["type"] == "missing":
        return {"field": path, "code": "missing_field", "message": f"The field {name!r} is required."}
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return {"field": path, "code": "invalid_field", "message": f"{path}: {message}"}


def _meant(kind: type[BaseModel], name: str) -> str:
    known = [field.alias or own for own, field in kind.model_fields.items()]
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f" Did you mean {close[0]!r}?" if close else f" Known fields: {', '.join(sorted(known))}."


def field_path(loc: tuple[int | str, ...], where: str | None = None) -> str:
    """A location as a path: ``mcp_servers[0].serverUrl``."""
    path = where or ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_union_branch(part):
            path += f".{part}" if path else part
    return path or "body"


def _is_union_branch(part: str) -> bool:
    """Whether pydantic names a branch of a union here, not a field."""
    return part in ("str", "int", "float", "bool", "none", "number") or "[" in part
