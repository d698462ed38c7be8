"""What is wrong with a value, in one sentence each: the rule that it breaks, and what it is instead. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson
from jsonschema_rs import ValidationError, ValidationErrorKind

_LONGEST_MESSAGE: Final = 300
_LONGEST_VALUE: Final = 80
_ARTICLES: Final = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_FORMATS: Final = {
    "date": "a date such as 2026-01-31",
    "date-time": "a date and time such as 2026-01-31T12:00:00Z",
    "duration": "a duration such as PT1H30M",
    "email": "an e-mail address",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "regex": "a regular expression (ECMA-262)",
    "time": "a time such as 12:00:00Z",
    "uri": "a URI such as https://example.com/",
    "uuid": "a UUID",
}
_FIXED: Final = {
    "uniqueItems": "Expected items that all differ, but two are the same.",
    "falseSchema": "The schema allows nothing here; leave it out.",
    "contains": "None of the items, or too few or too many, are what the list has to contain.",
    "not": "The schema rules this value out.",
    "anyOf": "This fits none of the alternatives.",
    "oneOf": "This fits none of the alternatives, or several; exactly one may fit.",
}
#: (rule, what its limit counts): "Expected at least 3 characters, got …".
_BOUNDS: Final = {
    "minLength": "at least {} character{}",
    "maxLength": "at most {} character{}",
    "minItems": "at least {} item{}",
    "maxItems": "at most {} item{}",
    "minProperties": "at least {} propert{}",
    "maxProperties": "at most {} propert{}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
}


def sentence(error: ValidationError) -> str:
    """One sentence for an error of the engine, the rule first."""
    return shortened(_sentence(error))


def _sentence(error: ValidationError) -> str:
    kind, got = error.kind, shown(error.instance)
    match kind:
        case ValidationErrorKind.Type():
            return f"Expected {kinds(kind.types)}, got {got}."
        case ValidationErrorKind.Enum():
            return f"Expected one of {', '.join(map(shown, kind.options))}; got {got}."
        case ValidationErrorKind.Constant():
            return f"Expected {shown(kind.expected_value)}, got {got}."
        case ValidationErrorKind.Pattern():
            return f"Expected text that matches the pattern {kind.pattern}, got {got}."
        case ValidationErrorKind.Format():
            return f"Expected {_FORMATS.get(kind.format, 'text in the format ' + kind.format)}, got {got}."
        case ValidationErrorKind.MultipleOf():
            return f"Expected a multiple of {kind.multiple_of}, got {got}."
        case ValidationErrorKind.AdditionalProperties() | ValidationErrorKind.UnevaluatedProperties():
            names = ", ".join(map(repr, kind.unexpected[:5]))
            return f"The schema has no property {names}; leave it out."
        case ValidationErrorKind.PropertyNames():
            return f"A property's name does not fit: {_sentence(kind.error)}"
    return _FIXED.get(kind.name) or _bounded(error, got)


def _bounded(error: ValidationError, got: str) -> str:
    rule = _BOUNDS.get(error.kind.name)
    limit = getattr(error.kind, "limit", None)
    if rule is None or limit is None:
        return f"{error.message}."
    noun = ("y" if limit == 1 else "ies") if "propert" in rule else ("" if limit == 1 else "s")
    length = f" ({len(error.instance)})" if isinstance(error.instance, str | list | dict) else ""
    return f"Expected {rule.format(limit, noun)}, got {got}{length}."


def kinds(types: list[str]) -> str:
    """JSON types with their articles: "a string or null"."""
    return " or ".join(_ARTICLES.get(one, one) for one in types)


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    if isinstance(value, str):
        value = value[: _LONGEST_VALUE + 1]
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def shortened(text: str) -> str:
    """A message of bounded length."""
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
