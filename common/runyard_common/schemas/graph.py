"""JSON Schemas as graphs: which subschemas a root reaches, by which keyword or reference, within bounds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from runyard_common.schemas.patterns import PatternRefused, weigh
from runyard_common.values import pointers

#: Bytes of a schema as compact JSON.
MOST_BYTES: Final = 64 * 1024
#: Objects and lists in a schema.
MOST_NODES: Final = 2_000
#: How deep a schema nests.
DEEPEST: Final = 64
#: Patterns in a schema, and what compiling them all may cost, see `schema_patterns`.
MOST_PATTERNS: Final = 200
MOST_PATTERN_COST: Final = 2_500

Path: TypeAlias = tuple[str | int, ...]

_IN_PLACE: Final = frozenset(
    {"allOf", "anyOf", "dependencies", "dependentSchemas", "else", "if", "not", "oneOf", "then"}
)
_ONE: Final = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LISTS: Final = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"})
#: Of these, those for the children that no other keyword names.
_FOR_OTHERS: Final = frozenset({"additionalItems", "additionalProperties", "items"})
#: Keywords that the engine compiles together with another one.
_COMPILED_WITH: Final = {"else": "if2", "then": "if1"}
REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class SchemaRefused(Exception):
    """A schema that cannot be used: `path` leads to the place, `too_large`: a bound is passed."""

    def __init__(self, why: str, path: Path = (), *, too_large: bool = False) -> None:
        super().__init__(why)
        self.why, self.path, self.too_large = why, path, too_large


@dataclass(slots=True, eq=False)
class Node:
    """A subschema: its place, and the subschemas it applies to the same node and to children."""

    schema: Any
    path: Path
    #: The keywords that count, in the order in which the engine compiles them.
    keywords: dict[str, Any] = field(default_factory=dict)
    in_place: list[Node] = field(default_factory=list)
    by_key: dict[str | int, list[Node]] = field(default_factory=dict)
    for_all: list[Node] = field(default_factory=list)
    for_others: list[Node] = field(default_factory=list)
    #: By keyword: where a reference leads.
    references: dict[str, list[Node]] = field(default_factory=dict)
    #: Every subschema it applies, the ones it refers to included, in the order in which the engine compiles them.
    following: list[Node] = field(default_factory=list)


class Graph:
    """The subschemas a root reaches, each read once, however many ways lead to it."""

    def __init__(self, root: Any, draft4to7: bool) -> None:
        self._root, self._legacy = root, draft4to7
        self._nodes: dict[int, Node] = {}
        self._anchors: dict[str, list[tuple[Any, Path]]] = {}
        self._patterns: dict[str, int] = {}
        self._find_anchors()
        self.root = self._reach()

    @property
    def pattern_cost(self) -> int:
        """What compiling its patterns costs."""
        return sum(self._patterns.values())

    def nodes(self) -> Iterable[Node]:
        """Every subschema that the root reaches."""
        return self._nodes.values()

    def _find_anchors(self) -> None:
        """Names by which references may call a part: anchors and identifiers."""
        for value, path in walk(self._root):
            if not isinstance(value, dict):
                continue
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(value.get(key), str):
                    self._anchors.setdefault(f"#{value[key]}", []).append((value, path))
            for key in ("$id", "id"):
                name = value.get(key)
                if isinstance(name, str) and (key == "$id" or self._legacy):
                    self._anchors.setdefault(name.removesuffix("#"), []).append((value, path))

    def _reach(self) -> Node:
        root = self._node(self._root, ())
        waiting = [root]
        while waiting:
            node = waiting.pop()
            known = len(self._nodes)
            self._read(node)
            if len(self._nodes) > known:
                waiting += list(self._nodes.values())[known:]
        return root

    def _node(self, schema: Any, path: Path) -> Node:
        found = self._nodes.get(id(schema))
        # Booleans are one object each: they need no place of their own.
        if found is None:
            found = self._nodes[id(schema)] = Node(schema, path)
        return found

    def _read(self, node: Node) -> None:
        schema = node.schema
        if not isinstance(schema, dict):
            return
        keywords = ["$ref"] if self._legacy and "$ref" in schema else sorted(schema, key=_compiled_at)
        node.keywords = {key: schema[key] for key in keywords}
        for key in keywords:
            self._read_keyword(node, key, schema[key], (*node.path, key))

    def _read_keyword(self, node: Node, key: str, value: Any, path: Path) -> None:
        if key in REFERENCES:
            node.references[key] = found = self._resolve(value, path)
            node.in_place += found
        elif key == "pattern":
            return self._weigh(value, path)
        else:
            found = []
            for name, one in _parts(key, value):
                child = self._node(one, path if name is None else (*path, name))
                found.append(child)
                if key in _IN_PLACE:
                    node.in_place.append(child)
                elif key in _FOR_OTHERS and name is None:
                    node.for_others.append(child)
                elif name is None or key == "patternProperties":
                    node.for_all.append(child)
                else:
                    node.by_key.setdefault(name, []).append(child)
                if key == "patternProperties":
                    self._weigh(name, (*path, str(name)))
        node.following += found
        return None

    def _weigh(self, pattern: Any, path: Path) -> None:
        try:
            self._patterns[pattern] = weigh(pattern).cost
        except PatternRefused as refused:
            raise SchemaRefused(f"the pattern cannot be used: {refused}", path) from None
        if len(self._patterns) > MOST_PATTERNS:
            raise SchemaRefused(f"it has more than {MOST_PATTERNS} different patterns", path, too_large=True)
        if self.pattern_cost > MOST_PATTERN_COST:
            raise SchemaRefused(
                "the repetitions in its patterns come to too much; write `+` or `*` and bound the text "
                "by `maxLength`",
                path,
                too_large=True,
            )

    def _resolve(self, reference: Any, path: Path) -> list[Node]:
        if not isinstance(reference, str):
            raise SchemaRefused("a reference is text such as #/$defs/name", path)
        base, mark, fragment = reference.partition("#")
        if not base and not fragment:
            return [self._node(self._root, ())]
        starts = [(self._root, ())] if not base else self._anchors.get(base, [])
        if not fragment.startswith("/"):
            found = self._anchors.get(f"{mark}{fragment}", []) if fragment else starts
        else:
            found = [(target, p) for start in starts for target, p in _follow(*start, fragment)]
        if not found:
            raise SchemaRefused(
                f"it refers to {reference[:200]!r}, which is not in it; nothing is fetched, so put the part "
                "under $defs",
                path,
            )
        return [self._node(target, place) for target, place in found]


def _compiled_at(keyword: str) -> str:
    return _COMPILED_WITH.get(keyword, keyword)


def _parts(keyword: str, value: Any) -> list[tuple[str | int | None, Any]]:
    """The subschemas of a keyword: a single one without a name, the others by index or name."""
    found: Iterable[tuple[str | int | None, Any]] = ()
    if keyword in _LISTS and isinstance(value, list):
        found = enumerate(value)
    elif keyword in _MAPS and isinstance(value, dict):
        found = value.items()
    elif keyword in _ONE:
        found = [(None, value)]
    return [(name, one) for name, one in found if isinstance(one, dict | bool)]


def walk(root: Any) -> Iterator[tuple[Any, Path]]:
    """Every object and list, outermost first, with its path. Errors: `SchemaRefused` where a bound is passed."""
    level: list[tuple[Any, Path]] = [(root, ())]
    count = 0
    for depth in range(DEEPEST + 1):
        count += len(level)
        if count > MOST_NODES:
            raise SchemaRefused(
                f"it has more than {MOST_NODES:,} objects and lists", level[0][1][:1], too_large=True
            )
        following: list[tuple[Any, Path]] = []
        for value, path in level:
            yield value, path
            inner = (
                value.items()
                if isinstance(value, dict)
                else enumerate(value)
                if isinstance(value, list)
                else ()
            )
            following += [(one, (*path, key)) for key, one in inner if isinstance(one, dict | list)]
        if not following:
            return
        if depth == DEEPEST:
            raise SchemaRefused(f"it is nested more than {DEEPEST} deep", following[0][1], too_large=True)
        level = following


def _follow(start: Any, path: Path, pointer: str) -> list[tuple[Any, Path]]:
    at = start
    for raw in pointer.split("/")[1:]:
        part = pointers.unescaped(unquote(raw))
        if isinstance(at, dict) and part in at:
            at, path = at[part], (*path, part)
        elif isinstance(at, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(at):
            at, path = at[int(part)], (*path, int(part))
        else:
            return []
    return [(at, path)]
