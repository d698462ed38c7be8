"""JSON Schema: arguments, answers and outputs checked by a maintained engine, within bounds. Pure.

Drafts 04, 06, 07, 2019-09 and 2020-12 (where none is named) are each judged by their own rules. No reference is
ever fetched: a schema may refer to its own parts, to nothing else. The engine lets nothing else run in the process
while it works, and callers are event loops and transactions; so schemas and values are weighed first, and what
would take longer than about a tenth of a second is refused.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import jsonschema_rs
import orjson

from runyard_common.schemas import drafts, long_integers
from runyard_common.schemas import graph as schema_graph
from runyard_common.schemas import work as schema_work
from runyard_common.schemas.errors import SMALL, Fault, Listing
from runyard_common.schemas.graph import Graph, Path, SchemaRefused
from runyard_common.schemas.sentences import sentence, shortened
from runyard_common.schemas.work import MOST_WORK, Bounds
from runyard_common.values.errors import InvalidRequest

#: How many violations a refusal lists.
MOST_SHOWN: Final = 10
#: Units of work for checks inside a transaction, which others wait for: about 5 ms.
QUICK: Final = MOST_WORK / 10
#: Codes of refusals that are about the schema, not the value.
UNUSABLE: Final = frozenset({"invalid_schema", "schema_too_large"})


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a value does not fit: its JSON path, the schema keyword it breaks, a sentence."""

    field: str
    code: str
    message: str

    def to_json(self) -> dict[str, str]:
        """The violation as errors list it."""
        return {"field": self.field, "code": self.code, "message": self.message}


def check(
    value: Any, schema: Any, *, field: str = "args", code: str = "invalid_input", most_work: float = MOST_WORK
) -> None:
    """Refuse a value that does not fit: `InvalidRequest` with `code`, the first violation named, more listed.

    `most_work` is in units of about 20 ns, see `schema_work`. Errors: also `InvalidRequest` invalid_schema or
    schema_too_large (`UNUSABLE`), when the schema itself cannot be used.
    """
    found = violations(value, schema, field=field, most_work=most_work)
    if found:
        first = found[0]
        raise InvalidRequest(
            f"{first.field}: {first.message}",
            code=code,
            field=first.field,
            errors=[v.to_json() for v in found],
        )


def violations(
    value: Any, schema: Any, *, field: str = "$", most: int = MOST_SHOWN, most_work: float = MOST_WORK
) -> list[Violation]:
    """The first `most` violations, in document order; an empty list when the value fits.

    A value that would take too long to check violates `too_large`; one without a JSON form violates `not_json`.
    """
    compiled = _compiled(schema)
    try:
        size = _size(value)
        work = size * compiled.bounds.per_byte
        if work > SMALL:
            work = schema_work.work_on(value, compiled.bounds)
        if work > most_work:
            return [Violation(field, "too_large", _TOO_LARGE)]
        if compiled.validator.is_valid(value):
            return []
        faults = compiled.faults(value, work, most)
        if long_integers.among(value, faults) and _fits_with_integers(compiled, value, work):
            return []
    except (ValueError, TypeError, RecursionError) as error:
        return [Violation(field, "not_json", f"This has no JSON form: {shortened(str(error))}.")]
    return [Violation(path_of(place, field), code, message) for place, code, message in faults]


def _fits_with_integers(compiled: _Compiled, value: Any, work: float) -> bool:
    """Whether a value fits whose integers of more than 64 bits are texts, as in our JSON form."""
    for _ in range(_MOST_ROUNDS):
        places = long_integers.among(value, compiled.faults(value, work, _MOST_INTEGERS))
        if not places:
            return False
        value = long_integers.restored(value, places)
        if compiled.validator.is_valid(value):
            return True
    return False


#: How many texts for integers are looked at together, and how often.
_MOST_INTEGERS: Final = 1_000
_MOST_ROUNDS: Final = 3
_TOO_LARGE: Final = "This is too much to check against its schema: send less at once, or simplify the schema."


def check_schema(schema: Any, *, field: str = "schema") -> None:
    """Refuse what is no usable JSON Schema: `InvalidRequest` invalid_schema, or schema_too_large past a bound."""
    try:
        _compiled(schema)
    except InvalidRequest as error:
        error.field = field
        raise


def check_schemas(given: Iterable[tuple[Any, str]]) -> None:
    """Refuse schemas of one request, each with its field, that are unusable or too large together."""
    size = patterns = 0
    for schema, name in given:
        check_schema(schema, field=name)
        found = _compiled(schema)
        size, patterns = size + found.bytes, patterns + found.bounds.pattern_cost
        if size > 2 * schema_graph.MOST_BYTES or patterns > 2 * schema_graph.MOST_PATTERN_COST:
            raise InvalidRequest(
                f"The schemas of this request are too large together (at most {2 * schema_graph.MOST_BYTES:,} "
                "bytes, and few patterns that repeat).",
                code="schema_too_large",
                field=name,
            )


def bounds_of(schema: Any, *, field: str = "schema") -> Bounds:
    """What a schema costs. Errors: as `check_schema`."""
    check_schema(schema, field=field)
    return _compiled(schema).bounds


def path_of(place: Path, root: str = "$") -> str:
    """A JSON path: ``args.lines[0].sku``; names that are no words are in brackets."""
    parts = [root]
    for part in place:
        plain = isinstance(part, str) and part.isascii() and part.isidentifier()
        parts.append(f".{part}" if plain else f"[{json.dumps(part, ensure_ascii=False)}]")
    return shortened("".join(parts))


@dataclass(slots=True)
class _Compiled:
    """A schema ready for checks. What lists errors is made when a value first fails."""

    schema: Any
    draft: str
    graph: Graph
    bounds: Bounds
    validator: jsonschema_rs.Validator
    bytes: int
    _listing: Listing | None = field(default=None)

    @property
    def memory(self) -> int:
        """Bytes it is thought to take."""
        return _PER_BYTE * self.bytes + _PER_PATTERN_COST * self.bounds.pattern_cost

    def faults(self, value: Any, work: float, most: int) -> list[Fault]:
        """Why a value does not fit."""
        if isinstance(self.schema, dict) and not self._has_inner_names():
            if self._listing is None:
                self._listing = Listing(self.schema, self.draft, self.graph, self.bounds.recursive)
            found = self._listing.faults(value, work=work, most=most)
        elif work <= SMALL and not self.bounds.recursive:
            errors = self.validator.iter_errors(value)
            found = [(tuple(error.instance_path), error.kind.name, sentence(error)) for error in errors][
                :most
            ]
        else:
            found = []
        return found or [((), "schema", "This does not fit its schema.")]

    def _has_inner_names(self) -> bool:
        """Whether references are relative to names of inner parts, which a copy would not keep."""
        inner = (node for node in self.graph.nodes() if node.path and isinstance(node.schema, dict))
        return any("$id" in node.schema or "id" in node.schema for node in inner)


class _Cache:
    """The schemas that were used last, by their text: bounded by number, and by the memory they are thought to take."""

    _MOST: Final = 1024
    _MOST_BYTES: Final = 64 * 2**20

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, _Compiled] = OrderedDict()

    def get(self, text: bytes) -> _Compiled | None:
        # Each step is one operation of the interpreter: threads need no lock, at worst one compiles again.
        found = self._entries.pop(text, None)
        if found is not None:
            self._entries[text] = found
        return found

    def put(self, text: bytes, compiled: _Compiled) -> None:
        self._entries[text] = compiled
        memory = sum(entry.memory for entry in list(self._entries.values()))
        while self._entries and (len(self._entries) > self._MOST or memory > self._MOST_BYTES):
            _, dropped = self._entries.popitem(last=False)
            memory -= dropped.memory


_cache = _Cache()
#: Memory a byte of schema and a unit of its patterns' cost are thought to take when compiled.
_PER_BYTE: Final = 40
_PER_PATTERN_COST: Final = 2_000


def _compiled(schema: Any) -> _Compiled:
    try:
        text = _text(schema)
        found = _cache.get(text)
        if found is None:
            found = _compile(text)
            _cache.put(text, found)
        return found
    except SchemaRefused as refused:
        where = f"{path_of(refused.path)}: " if refused.path else ""
        raise InvalidRequest(
            f"This is not a usable JSON Schema: {where}{shortened(refused.why)}.",
            code="schema_too_large" if refused.too_large else "invalid_schema",
            field="schema",
        ) from None


def _text(schema: Any) -> bytes:
    """The schema as JSON with its names in order: what it is known by."""
    if not isinstance(schema, dict | bool):
        raise SchemaRefused("it is neither an object nor a boolean")
    try:
        text = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        for _ in schema_graph.walk(schema):  # one that is too deep is named as such
            pass
        raise SchemaRefused(f"it has no JSON form: {error}") from None
    if len(text) > schema_graph.MOST_BYTES:
        raise SchemaRefused(
            f"it has {len(text):,} bytes, at most {schema_graph.MOST_BYTES:,} are allowed", too_large=True
        )
    return text


def _compile(text: bytes) -> _Compiled:
    schema = orjson.loads(text)
    draft = drafts.draft_of(schema)
    graph = Graph(schema, drafts.is_older(draft))
    drafts.refuse_mixed(graph)
    bounds = schema_work.weigh_schema(graph)
    try:
        validator = drafts.validator_of(text.decode(), draft)
    except jsonschema_rs.ValidationError as error:
        raise SchemaRefused(_defect(error), tuple(error.instance_path)) from None
    except ValueError as error:
        raise SchemaRefused(str(error)) from None
    return _Compiled(schema, draft, graph, bounds, validator, len(text))


def _defect(error: jsonschema_rs.ValidationError) -> str:
    """What breaks the draft's own schema."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        return "a reference leads to nothing in it, and nothing is fetched"
    if error.instance_path and error.instance_path[-1] in ("pattern", "patternProperties"):
        return f"the pattern {str(error.instance)[:100]} is none of ECMA-262's, or compiles to too much"
    return sentence(error).removesuffix(".")


def _size(value: Any) -> int:
    """Bytes of a value as JSON, from above where it has none."""
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError):
        return len(json.dumps(value, default=str))
