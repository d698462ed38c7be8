"""Text fields of a form, read as the run request's fields are typed: text as it is, the rest as JSON."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from runyard_common.runs.rules.run_request import Callback, RunRequest
from runyard_common.values.errors import InvalidRequest

_TRUE: Final = ("true", "on", "yes", "1")
#: How references write a value that is yet to be filled in.
_PLACEHOLDER: Final = re.compile(r"<[a-z]+>")
_FALSE: Final = ("false", "off", "no", "0")


def _branches(hint: Any) -> frozenset[Any]:
    """The types a field takes, None left out; the words of a Literal count as text."""
    if get_origin(hint) in (Union, UnionType):
        return frozenset().union(*(_branches(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return frozenset({type(word) for word in get_args(hint)})
    return frozenset() if hint is type(None) else frozenset({hint})


#: Reads JSON of a request: see `Call.parse`.
Parse = Callable[[bytes, str], Awaitable[Any]]
_TYPES: Final = {name: _branches(hint) for name, hint in get_type_hints(RunRequest).items()}


async def read(fields: dict[str, str], parse: Parse) -> dict[str, Any]:
    """The request's JSON body that these fields stand for. `InvalidRequest` bad_json, invalid_field name one.

    Fields the request does not have are left out, and of those that are no text empty ones and placeholders:
    a form sends all it has, and the published samples send ``output_config=<string>``.
    """
    found: dict[str, Any] = {}
    for name, text in fields.items():
        types = _TYPES.get(name)
        if types is None or (types != {str} and (not text.strip() or _PLACEHOLDER.fullmatch(text.strip()))):
            continue
        found[name] = await _value(name, text, types, parse)
    return found


async def _value(name: str, text: str, types: frozenset[Any], parse: Parse) -> Any:
    if types == {str}:
        return _unquoted(text) if name == "model" else text
    if types == {bool}:
        return _boolean(name, text)
    if types <= {int, float}:
        return await _number(name, text, parse)
    if types == {str, float}:  # what reads as a number is one
        number = _as_number(text)
        return _unquoted(text) if number is None else number
    if types == {Callback} and not text.lstrip().startswith("{"):
        return {"url": _unquoted(text)}
    return await _json(name, text, parse)


def _unquoted(text: str) -> str:
    """The text, or what it holds where it was written as a JSON string."""
    stripped = text.strip()
    return stripped[1:-1] if len(stripped) > 1 and stripped[0] == stripped[-1] == '"' else stripped


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _boolean(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidRequest(f"{name}: write true or false.", code="invalid_field", field=name)


async def _number(name: str, text: str, parse: Parse) -> Any:
    try:
        return await parse(text.strip().encode(), name)
    except InvalidRequest:
        raise InvalidRequest(f"{name}: write a number.", code="invalid_field", field=name) from None


async def _json(name: str, text: str, parse: Parse) -> Any:
    try:
        return await parse(text.encode(), name)
    except InvalidRequest as refusal:
        if refusal.code != "bad_json":
            raise
        message = f"The field {name!r} of a form is read as JSON. {refusal.message}"
        raise InvalidRequest(message, code="bad_json", field=name) from None
