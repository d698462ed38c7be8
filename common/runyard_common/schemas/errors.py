"""Why a value does not fit its schema: its errors, first of all those of the alternative it comes closest to. Pure.

The engine decides; this lists. Its own lists contain the errors of every alternative, and of every alternative
inside, so that they grow with each level of a value. Here each choice is one error at first, by a copy of the
schema in which `anyOf`, `oneOf` and references that lead back are wrapped in `not: {not: …}`. A choice that fails
is then looked into, alternative by alternative, and the best one's errors are reported for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import orjson
from jsonschema_rs import Registry, ValidationError, Validator

from runyard_common.schemas.drafts import validator_of
from runyard_common.schemas.graph import Graph, Node, Path
from runyard_common.schemas.sentences import sentence
from runyard_common.values import pointers

#: Units of work, see `schema_work`: values whose every error is listed, and what one value's list may take.
SMALL: Final = 20_000
_MOST_WORK: Final = 2_000_000
#: How often the engine is asked while one value's errors are listed, and how many alternatives of a choice.
_MOST_ROUNDS: Final = 60
_MOST_ALTERNATIVES: Final = 40
_WHOLE, _LISTED = "urn:runyard:whole", "urn:runyard:listed"
_CHOICES: Final[tuple[Literal["anyOf", "oneOf"], ...]] = ("anyOf", "oneOf")

#: A place in a value, the keyword broken there, a sentence.
Fault: TypeAlias = tuple[tuple[str | int, ...], str, str]


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """What a wrapped part is: a choice of a node's, or a reference to another node."""

    keyword: Literal["anyOf", "oneOf", "$ref"]
    node: Node


class Listing:
    """Lists the errors of values that do not fit one schema."""

    def __init__(self, root: dict[str, Any], draft: str, graph: Graph, recursive: frozenset[int]) -> None:
        self._draft = draft
        self._dialect = {"$schema": root["$schema"]} if "$schema" in root else {}
        self._wrapped: dict[Path, _Wrapped] = {}
        self._validators: dict[Path, Validator] = {}
        listed = self._copy(root, graph, recursive)
        self._registry = Registry([(_WHOLE, _unnamed(root)), (_LISTED, listed)])

    def faults(self, value: Any, *, work: float, most: int) -> list[Fault]:
        """Up to `most` faults of a value whose check takes `work` units; of a large one the first that is found."""
        return list(islice(dict.fromkeys(_Search(self, work, most).of((), value, ())), most))

    def errors(self, path: Path, value: Any, small: bool) -> list[ValidationError]:
        """The engine's errors of a value by the subschema at `path`; each choice is one."""
        validator = self._validators.get(path)
        if validator is None:
            schema = self._dialect | {"$ref": _reference(_LISTED, listed_at(path))}
            validator = validator_of(schema, self._draft, self._registry)
            self._validators[path] = validator
        if small:
            return list(validator.iter_errors(value))
        try:
            validator.validate(value)
        except ValidationError as error:
            return [error]
        return []

    def wrapped(self, error: ValidationError) -> _Wrapped | None:
        """What an error belongs to, unless it is one of its own."""
        return self._wrapped.get(tuple(error.schema_path[:-1])) if error.kind.name == "not" else None

    def _copy(self, root: dict[str, Any], graph: Graph, recursive: frozenset[int]) -> dict[str, Any]:
        copy: dict[str, Any] = _unnamed(orjson.loads(orjson.dumps(root)))
        nodes = [node for node in graph.nodes() if isinstance(node.schema, dict)]
        # Innermost first: a part is moved with what was changed inside it.
        for node in sorted(nodes, key=lambda one: -len(one.path)):
            at: Any = copy
            for part in node.path:
                at = at[part]
            self._rewrite(node, at, recursive)
        return copy

    def _rewrite(self, node: Node, copy: dict[str, Any], recursive: frozenset[int]) -> None:
        wrapped: list[tuple[dict[str, Any], _Wrapped]] = []
        if "$ref" in node.keywords and len(node.keywords) < len(node.schema):
            copy.clear()  # in older drafts a reference excludes other keywords
        for keyword, targets in node.references.items():
            copy.pop(keyword, None)
            target = targets[0]
            if keyword == "$ref" and id(target) not in recursive:
                copy["$ref"] = "#" + _pointer(listed_at(target.path))
            else:
                wrapped.append(({"$ref": _reference(_WHOLE, target.path)}, _Wrapped("$ref", target)))
        for keyword in _CHOICES:
            if keyword in copy and keyword in node.keywords:
                copy[f"x-{keyword}"] = alternatives = copy.pop(keyword)
                refs = [
                    {"$ref": _reference(_WHOLE, (*node.path, keyword, i))} for i in range(len(alternatives))
                ]
                wrapped.append(({keyword: refs}, _Wrapped(keyword, node)))
        if not wrapped:
            return
        if "$ref" in copy:  # which would exclude the rest in older drafts
            wrapped_too = copy.pop("$ref")
            copy["allOf"] = [*copy.get("allOf", ()), {"$ref": wrapped_too}]
        every = copy["allOf"] = list(copy.get("allOf", ()))
        for part, meaning in wrapped:
            self._wrapped[(*listed_at(node.path), "allOf", len(every))] = meaning
            every.append({"not": {"not": part}})


class _Search:
    """One value's faults: descends into the choices that fail, within a number of rounds."""

    def __init__(self, listing: Listing, work: float, most: int) -> None:
        self._listing, self._most = listing, most
        # Each error contains a copy of the part that is wrong.
        self._small = work <= SMALL
        self._rounds = int(max(1, min(_MOST_ROUNDS, _MOST_WORK // (work + 1))))

    def of(self, path: Path, value: Any, place: tuple[str | int, ...]) -> Iterator[Fault]:
        """The faults of a value by the subschema at `path`; `place` is the path of the value."""
        if not self._another_round():
            yield place, "schema", "This does not fit its schema."
            return
        yield from self._each(self._listing.errors(path, value, self._small), value, place)

    def _another_round(self) -> bool:
        self._rounds -= 1
        return self._rounds >= 0

    def _each(
        self, errors: list[ValidationError], value: Any, place: tuple[str | int, ...]
    ) -> Iterator[Fault]:
        others = [error for error in errors if not error.kind.name.startswith("unevaluated")]
        # A wrapped choice hides what it evaluates, so a property that it names may seem to have no schema.
        for error in sorted(others or errors, key=_position)[: self._most]:
            where = (*place, *error.instance_path)
            meaning = self._listing.wrapped(error)
            inner = _part(value, error.instance_path)
            if meaning is None:
                yield _fault(error, where)
            elif meaning.keyword == "$ref":
                yield from self.of(meaning.node.path, inner, where)
            else:
                yield from self._choice(meaning, inner, where)

    def _choice(self, choice: _Wrapped, value: Any, place: tuple[str | int, ...]) -> Iterator[Fault]:
        count = len(choice.node.schema[choice.keyword])
        found: list[list[ValidationError]] = []
        for i in range(min(count, _MOST_ALTERNATIVES)):
            if not self._another_round():
                break
            found.append(self._listing.errors((*choice.node.path, choice.keyword, i), value, self._small))
        if fitting := [str(i + 1) for i, errors in enumerate(found) if not errors]:
            yield (
                place,
                choice.keyword,
                f"This fits the alternatives {', '.join(fitting)}; exactly one may fit.",
            )
            return
        best = min(found, key=_distance, default=None)
        if best is None:
            yield place, choice.keyword, f"This fits none of the {count} alternatives."
        elif all(_distance(errors)[0] for errors in found):
            yield place, choice.keyword, _summary(found, count, value)
        else:
            yield from self._each(best, value, place)


def _distance(errors: list[ValidationError]) -> tuple[int, int]:
    """How far an alternative is: whether it is for values of another kind, then its faults."""
    other = sum(_is_other_kind(error) for error in errors)
    return other, len(errors)


def _is_other_kind(error: ValidationError) -> bool:
    depth = len(error.instance_path)
    return (error.kind.name == "type" and not depth) or (error.kind.name in ("const", "enum") and depth <= 1)


def _summary(found: list[list[ValidationError]], count: int, value: Any) -> str:
    firsts = [min(errors, key=lambda error: not _is_other_kind(error)) for errors in found]
    parts = list(dict.fromkeys(_expected(sentence(error), error) for error in firsts))
    return f"This fits none of the {count} alternatives: {'; '.join(parts)}"[:300]


def _expected(text: str, error: ValidationError) -> str:
    where = "".join(f".{part}" for part in error.instance_path)
    return f"{where[1:]}: {text}" if where else text


def _fault(error: ValidationError, where: tuple[str | int, ...]) -> Fault:
    name = getattr(error.kind, "property", None)
    if error.kind.name == "required" and isinstance(name, str):
        return (*where, name), "required", "This property is required."
    return where, error.kind.name, sentence(error)


def _part(value: Any, path: list[str | int]) -> Any:
    for part in path:
        # The library leaves empty names out of its paths, and takes names that are numbers for places in a list.
        while isinstance(value, dict) and not {part, str(part)} & value.keys() and "" in value:
            value = value[""]
        value = value[str(part) if isinstance(value, dict) else part]
    return value


def _position(error: ValidationError) -> list[str]:
    return [f"{part:09d}" if isinstance(part, int) else part for part in error.instance_path]


def listed_at(path: Path) -> Path:
    """Where a subschema is in the copy: alternatives are kept under a name that is no keyword."""
    return tuple(
        f"x-{part}" if part in _CHOICES and i + 1 < len(path) and isinstance(path[i + 1], int) else part
        for i, part in enumerate(path)
    )


def _unnamed(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("$id", "id")}


def _reference(document: str, path: Path) -> str:
    return f"{document}#{_pointer(path)}"


def _pointer(path: Path) -> str:
    return "".join("/" + quote(pointers.escaped(part)) for part in path)
