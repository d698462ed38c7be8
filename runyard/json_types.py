"""Types of an author's as their values cross the border: made again from their JSON form, and described as JSON Schema.

`typed` of an annotation is None where that leaves all open (`Any`), or pydantic knows no way.
"""

from __future__ import annotations

import functools
import inspect
import operator
import sys
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

import orjson
import typing_extensions

from runyard import json_form
from runyard.extras import MissingExtra

try:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
    from pydantic.errors import PydanticInvalidForJsonSchema
    from pydantic.json_schema import GenerateJsonSchema

    from runyard import model_bytes
except ModuleNotFoundError as missing:
    raise MissingExtra("A type for a JSON value", "typed") from missing

T = TypeVar("T")
JsonObject = dict[str, Any]

#: The JSON form of bytes is base64; a model of pydantic has its own configuration.
_CONFIG: Final = ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")
#: What is JSON by itself: a value of exactly that type is returned as it is.
_PLAIN: Final = (str, int, float, bool, type(None), dict, list)
#: Annotations by which nothing can be made from JSON, or only something that is used up by looking at it.
_OPAQUE: Final = (
    Callable, Iterable, Iterator, Generator, AsyncIterable, AsyncIterator, AsyncGenerator, Awaitable, Coroutine, type,
)  # fmt: skip
#: Keywords of JSON Schema that compare a value with a number.
_RULES: Final = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "const", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties",
)  # fmt: skip
_OPEN_OBJECT: Final = ({"type": "object"}, {"type": "object", "additionalProperties": True})


class DoesNotFit(ValueError):
    """A JSON value is none of a type. `path` is the place (``$.lines[3].amount``), `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class Typed(Generic[T]):
    """A type, between JSON and Python. One that pydantic does not know is a `PydanticUserError` or `TypeError`."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._known = _known_to_pydantic(kind)
        #: In a list, so that the configuration counts for dataclasses, too.
        listed: Any = types.GenericAlias(list, (self._known,))
        self._adapter: TypeAdapter[list[T]] = TypeAdapter(listed, config=_CONFIG)
        #: By the forms in which bytes are written.
        self._reader: Any = model_bytes.validator(self._adapter.core_schema) or self._adapter.validator
        self._plain = _plain_type(kind)

    def __str__(self) -> str:
        return self.kind.__name__ if isinstance(self.kind, type) else str(self.kind).replace("typing.", "")

    def is_itself(self, value: Any) -> bool:
        """Whether a JSON value is one of the type as it is."""
        return self._plain is not None and type(value) is self._plain

    def restore(self, value: Any) -> T:
        """The value whose JSON form this is, by name or alias of its fields. Raises `DoesNotFit`.

        What a model dumps and does not take, its computed fields, is left out.
        """
        text = b"[" + orjson.dumps(value) + b"]"
        try:
            return self._read(text, by_alias=True, by_name=True)
        except ValidationError as error:
            if any(one["type"] != "extra_forbidden" for one in error.errors(include_url=False)):
                raise _misfit(error) from None
        try:
            return self._read(text, by_alias=True, by_name=True, extra="ignore")
        except ValidationError as error:
            raise _misfit(error) from None

    def validate(self, value: Any) -> T:
        """A value that a caller gave as JSON, by the type's own rules. Raises `DoesNotFit`."""
        try:
            return self._read(b"[" + orjson.dumps(value) + b"]")
        except ValidationError as error:
            raise _misfit(error) from None

    def _read(self, text: bytes, **options: Any) -> T:
        (found,) = cast("list[T]", self._reader.validate_json(text, **options))
        return found

    def input_schema(self) -> JsonObject:
        """The JSON Schema of what `validate` takes."""
        return _rooted(within_64_bits(self._bare.json_schema(schema_generator=_Schemas)))

    def output_schema(self) -> JsonObject:
        """The JSON Schema of the JSON form of its values."""
        return _rooted(
            within_64_bits(self._bare.json_schema(mode="serialization", schema_generator=_Schemas))
        )

    @functools.cached_property
    def _bare(self) -> TypeAdapter[T]:
        return TypeAdapter(self._known)


class _Schemas(GenerateJsonSchema):
    """As pydantic's, but that a time without a zone is one: the format of that name demands a zone."""

    def time_schema(self, schema: Any) -> JsonObject:
        """The schema of a time."""
        return {"type": "string"}

    def bytes_schema(self, schema: Any) -> JsonObject:
        """The schema of bytes, by the form that the model around them has for both directions."""
        found = super().bytes_schema(schema)
        kind = model_bytes.form(self._config.config_dict)
        return found | {"format": "base64url" if kind == "base64" else "binary"}


def _rooted(schema: JsonObject) -> JsonObject:
    """The schema with its root written out: forms and protocols look there for its type and properties."""
    reference = str(schema.get("$ref", ""))
    if not reference.startswith("#/$defs/"):
        return schema
    root: JsonObject = schema["$defs"][reference.removeprefix("#/$defs/")]
    return root | {name: part for name, part in schema.items() if name != "$ref"}


def within_64_bits(part: Any) -> Any:
    """A schema of pydantic's without integers of more than 64 bits, which no JSON of ours has: bounds that are some are
    left out, as the type itself checks them, and values such as a default are text."""
    if isinstance(part, list):
        return [within_64_bits(one) for one in part]
    if not isinstance(part, dict):
        return str(part) if _is_long(part) else part
    return {name: within_64_bits(one) for name, one in part.items() if not _is_long_rule(name, one)}


def _is_long_rule(name: str, value: Any) -> bool:
    if name == "enum" and isinstance(value, list):
        return any(map(_is_long, value))
    return name in _RULES and _is_long(value)


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value not in json_form.INTEGERS


def typed(kind: Any) -> Typed[Any] | None:
    """How values of an annotation cross the border; None where it leaves all open, or no way is known."""
    if kind in (Any, object, inspect.Parameter.empty) or _is_opaque(kind):
        return None
    try:
        return _typed(_Ordered(kind))
    except TypeError:  # metadata that has no hash
        return _made(kind)


def required(kind: Any) -> Typed[Any]:
    """As `typed`, for a type that was named. `TypeError` where nothing can be made of it from JSON."""
    found = typed(kind)
    if found is None:
        raise TypeError(unknown(kind) or f"{kind!r} leaves open what a value is.")
    return found


def unknown(kind: Any) -> str | None:
    """Why nothing can be made of a type from JSON, in a sentence; None where it can."""
    try:
        Typed(kind).input_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        return f"no value of {kind!r} can be made from JSON: {str(error).splitlines()[0]}"
    return None


class _Ordered:
    """A type as it is written: `A | B` and `B | A` are equal, but a value that fits both is read as the first."""

    __slots__ = ("_parts", "kind")

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._parts = _parts(kind)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ordered) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)


def _parts(kind: Any) -> Any:
    if isinstance(kind, list):  # the arguments of a Callable
        return tuple(map(_parts, kind))
    origin = typing.get_origin(kind)
    if origin is None:
        return kind
    if origin is Literal:  # True and 1 are equal
        return (origin, *((type(value), value) for value in typing.get_args(kind)))
    return (origin, *map(_parts, typing.get_args(kind)))


@functools.lru_cache(maxsize=1024)
def _typed(written: _Ordered) -> Typed[Any] | None:
    return _made(written.kind)


def _made(kind: Any) -> Typed[Any] | None:
    try:
        return Typed(kind)
    except (PydanticUserError, TypeError, NameError):
        return None


def schema_of_input(found: Typed[Any] | None) -> JsonObject | None:
    """The schema of arguments that are annotated so; None where it would be empty."""
    return _schema(found, Typed.input_schema)


def schema_of_output(found: Typed[Any] | None) -> JsonObject | None:
    """The same of results. An object of any content is none, either."""
    schema = _schema(found, Typed.output_schema)
    return None if schema in _OPEN_OBJECT else schema


def _schema(found: Typed[Any] | None, write: Callable[[Typed[Any]], JsonObject]) -> JsonObject | None:
    try:
        schema = None if found is None else write(found)
    except (PydanticUserError, PydanticInvalidForJsonSchema):
        return None
    return None if schema in ({}, {"type": "null"}) else schema


_results: WeakKeyDictionary[Any, Typed[Any] | None] = WeakKeyDictionary()


def of_result(fn: Callable[..., Any]) -> Typed[Any] | None:
    """How what `fn` returns crosses the border, by its return annotation; a class returns itself.

    None for a function without one (a `lambda`), and for one whose annotation is not known where it is declared.
    """
    if isinstance(fn, type):
        return typed(fn)
    inner = getattr(function_of(fn), "__func__", function_of(fn))
    if not hasattr(inner, "__code__"):  # not written in Python
        return None
    try:
        return _results[inner]
    except (KeyError, TypeError):
        found = typed(_result_kind(inner))
    try:
        _results[inner] = found
    except TypeError:
        pass
    return found


def _result_kind(fn: Callable[..., Any]) -> Any:
    kind = annotation(fn, "return")
    if typing.get_origin(kind) is Awaitable:
        return typing.get_args(kind)[0]
    if typing.get_origin(kind) is Coroutine:
        return typing.get_args(kind)[2]
    return kind


def annotation(fn: Callable[..., Any], name: str, *, strict: bool = False) -> Any:
    """What a parameter, or ``return``, of `fn` is annotated with; `Any` where that is not known.

    `strict`: `NameError`, `TypeError`, `SyntaxError` or `AttributeError` for a name that is not known there.
    """
    with suppress(Exception):  # another annotation may be of a name that only type checkers import
        return typing.get_type_hints(fn, include_extras=True).get(name, Any)
    try:
        found = fn.__annotations__.get(name, Any)
        if not isinstance(found, str):
            return found
        one = types.SimpleNamespace(__annotations__={name: found})
        return typing.get_type_hints(one, getattr(fn, "__globals__", {}), include_extras=True)[name]
    except Exception:
        if strict:
            raise
        return Any


def function_of(fn: Any) -> Any:
    """The function behind a decorated one, a partial, or an object that can be called."""
    inner = inspect.unwrap(fn)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    return inner if inspect.isroutine(inner) else type(inner).__call__


def _misfit(error: ValidationError) -> DoesNotFit:
    first, *more = error.errors(include_url=False, include_context=False)
    others = f" ({len(more)} more)" if more else ""
    return DoesNotFit(_path(first["loc"][1:]), first["msg"] + others)


def _path(place: tuple[int | str, ...]) -> str:
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part}" if part.isidentifier() else f"[{part!r}]"
        for part in place
    ]
    return "$" + "".join(parts)


def _plain_type(kind: Any) -> type | None:
    """The JSON type that an annotation is, and nothing besides."""
    if kind is None:
        return type(None)
    more = [part for part in typing.get_args(kind) if part not in (Any, object)]
    origin = typing.get_origin(kind)
    if origin in (dict, Mapping) and more in ([], [str]):
        return dict
    if origin is list and not more:
        return list
    return next((plain for plain in _PLAIN if kind is plain), None)


def _is_opaque(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return False
    if (
        isinstance(kind, TypeVar | typing.ParamSpec)
        or kind is typing_extensions.Self
        or kind in _OPAQUE
        or origin in _OPAQUE
    ):
        return True
    parts = typing.get_args(kind)
    return any(map(_is_opaque, parts[:1] if origin is typing.Annotated else parts))


def _known_to_pydantic(kind: Any, around: tuple[Any, ...] = ()) -> Any:
    """The annotation with `typing.TypedDict`s as pydantic wants them of a Python older than 3.12.

    One that contains itself (it is among those `around`) stays, and pydantic refuses it.
    """
    if sys.version_info >= (3, 12) or kind in around:
        return kind
    if typing.is_typeddict(kind) and type(kind).__module__ == "typing":
        return _typed_dict(kind, around)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if not parts or origin is typing.Literal:
        return kind
    parts = parts[:1] if origin is typing.Annotated else parts
    known = tuple(_known_to_pydantic(part, around) for part in parts)
    if all(one is part for one, part in zip(known, parts, strict=True)):
        return kind
    if origin is typing.Annotated:
        return Annotated[(known[0], *kind.__metadata__)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, known)
    return types.GenericAlias(origin, known)


def _typed_dict(kind: Any, around: tuple[Any, ...]) -> Any:
    fields: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        marked = typing.get_origin(hint) in (typing.Required, typing.NotRequired)
        known = _known_to_pydantic(typing.get_args(hint)[0] if marked else hint, (*around, kind))
        fields[name] = known if name in kind.__required_keys__ else typing_extensions.NotRequired[known]
    make: Any = typing_extensions.TypedDict  # a checker wants its arguments written out
    made = make(kind.__name__, fields)
    made.__doc__, made.__module__, made.__qualname__ = kind.__doc__, kind.__module__, kind.__qualname__
    if hasattr(kind, "__pydantic_config__"):
        made.__pydantic_config__ = kind.__pydantic_config__
    return made
