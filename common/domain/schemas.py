"""JSON Schema (draft 2020-12): arguments, answers and outputs checked by a maintained validator. Pure.

No reference is ever fetched: a schema may refer to its own parts, to nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from common.domain.errors import InvalidRequest

#: How many violations a refusal lists.
MOST_SHOWN: Final = 10
_LONGEST_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a value does not fit: its JSON path, the schema keyword it breaks, a sentence."""

    field: str
    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        """The violation as errors list it."""
        return {"field": self.field, "code": self.code, "message": self.message}


def check(value: Any, schema: Any, *, field: str = "args", code: str = "invalid_input") -> None:
    """Refuse a value that does not fit: `InvalidRequest` with `code`, the first violation named, more listed.

    Errors: also `InvalidRequest` invalid_schema, when the schema itself cannot be used.
    """
    found = violations(value, schema, field=field)
    if found:
        first = found[0]
        raise InvalidRequest(
            f"{first.field}: {first.message}",
            code=code,
            field=first.field,
            errors=[v.to_json() for v in found],
        )


def violations(value: Any, schema: Any, *, field: str = "$", most: int = MOST_SHOWN) -> list[Violation]:
    """The first `most` violations, in document order; an empty list when the value fits."""
    validator = _validator(schema)
    try:
        errors = list(islice(validator.iter_errors(value), most))
    except Unresolvable as error:
        raise _unusable(f"it refers to {getattr(error, 'ref', 'something')!r}, which is not in it") from None
    except RecursionError:
        raise _unusable("it refers to itself without end") from None
    told: Counter[tuple[Any, ...]] = Counter()
    return [_violation(error, field, told) for error in sorted(errors, key=_position)]


def check_schema(schema: Any, *, field: str = "schema") -> None:
    """Refuse what is no usable JSON Schema: `InvalidRequest` invalid_schema."""
    try:
        _validator(schema)
    except InvalidRequest as error:
        error.field = field
        raise


def _validator(schema: Any) -> Draft202012Validator:
    if not isinstance(schema, dict | bool):
        raise _unusable("it is neither an object nor a boolean")
    return _compiled(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=1024)
def _compiled(text: bytes) -> Draft202012Validator:
    schema = orjson.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _unusable(f"{error.json_path}: {_shortened(error.message)}") from None
    except RecursionError:
        raise _unusable("it is nested too deeply") from None
    return Draft202012Validator(
        schema, registry=EMPTY_REGISTRY, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _unusable(why: str) -> InvalidRequest:
    return InvalidRequest(f"This is not a usable JSON Schema: {why}.", code="invalid_schema", field="schema")


def _violation(error: ValidationError, field: str, told: Counter[tuple[Any, ...]]) -> Violation:
    """`told` counts the missing properties of an object named so far: the validator tells each by an error of
    its own, in the schema's order, and names it in its text alone."""
    where = field + error.json_path[1:]
    if error.validator == "required":
        instance: Any = error.instance
        missing = [name for name in _names(error.validator_value) if name not in instance]
        place = (*error.absolute_path, None, *error.absolute_schema_path)
        if told[place] < len(missing):
            told[place] += 1
            name = missing[told[place] - 1]
            return Violation(f"{where}.{name}", "required", "This property is required.")
    return Violation(where, str(error.validator), _shortened(error.message))


def _names(value: Any) -> Iterable[str]:
    return value if isinstance(value, list) else ()


def _position(error: ValidationError) -> list[str]:
    return [f"{part:09d}" if isinstance(part, int) else str(part) for part in error.absolute_path]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
