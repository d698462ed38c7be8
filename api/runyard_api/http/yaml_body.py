"""A manifest in YAML: read on a thread, within bounds that are looked at before anything is built.

YAML costs far more than JSON of the same size, and Python's lock is held meanwhile: its bounds are narrower.
Refusals have the codes of `runyard_api.http.request_body`, and bad_yaml for what only YAML can get wrong.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Final

import orjson
import yaml

from runyard_api.http import request_body
from runyard_common.values import bounds
from runyard_common.values.errors import InvalidRequest, PayloadTooLarge

#: Bytes of a document, and values in it: keys, scalars, lists and mappings.
MOST_BYTES: Final = bounds.YAML_BODY.most
MOST_VALUES: Final = bounds.YAML_VALUES.most
MEDIA_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})

_LONGEST_NUMBER: Final = 100  # characters
_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fast):  # type: ignore[misc]
    """Builds plain values; a duplicate key is an error, as in JSON."""

    def construct_number(self, node: Any) -> Any:
        """As the library's, for a sensible length: a number in base 60 (`1:30:00`) takes the square of its own."""
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"a number has {_LONGEST_NUMBER} characters at most; put a text in quotes",
                node.start_mark,
            )
        whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """As the library's, without `<<` (it needs aliases, which are refused) and without duplicates."""
        pairs = [(self.construct_object(key, deep=True), key, value) for key, value in node.value]
        seen: set[Any] = set()
        for key, at, _ in pairs:
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {str(key)[:100]!r} is no text: put it in quotes", at.start_mark
                )
            if key in seen:
                raise InvalidRequest(f"Duplicate field {key!r}.", code="duplicate_field", field=key)
            seen.add(key)
        return {key: self.construct_object(value, deep=deep) for key, _, value in pairs}


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


def parse(raw: bytes) -> Any:
    """The value of the one document in `raw`, of JSON's kinds only. Takes a millisecond for each 8 KB."""
    if len(raw) > MOST_BYTES:
        raise PayloadTooLarge(
            f"YAML may have {MOST_BYTES:,} bytes; send larger manifests as JSON.", limit_bytes=MOST_BYTES
        )
    try:
        _check_shape(raw)
        value = yaml.load(raw, Loader=_Loader)  # noqa: S506 - a safe loader's child
        _refuse_what_json_has_not(value)
        plain = orjson.dumps(value)
    except InvalidRequest:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise InvalidRequest(f"The YAML cannot be read: {_in_short(error)}", code="bad_yaml") from None
    return request_body.parse(plain)


def _check_shape(raw: bytes) -> None:
    """Aliases, depth and number of values, from the parser's events: nothing is built before they are known."""
    depth = values = 0
    for event in yaml.parse(raw, Loader=_Fast):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidRequest("YAML aliases are refused: write it out.", code="bad_yaml")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            values += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
        if values > MOST_VALUES:
            raise InvalidRequest(
                f"The YAML holds more than {MOST_VALUES:,} values; send larger manifests as JSON.",
                code="too_many_values",
            )
        if depth > request_body.DEEPEST:
            raise InvalidRequest(
                f"The YAML is nested more than {request_body.DEEPEST} levels deep.", code="too_deep"
            )


def _refuse_what_json_has_not(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{item} is no JSON number")
        elif isinstance(item, bytes | set | tuple):
            raise ValueError(f"a {type(item).__name__} has no JSON form")


def _in_short(error: Exception) -> str:
    """What is wrong and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    parts = [part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part]
    what = ", ".join(parts) or (str(error).splitlines() or ["it is malformed"])[0]
    return f"{what[:200]}" + (f" (line {mark.line + 1}, column {mark.column + 1})." if mark else ".")
