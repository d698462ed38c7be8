"""What a JSON Schema costs to check, before it is: its size, its references, its work on a value. Pure.

The engine runs on the loop or in a transaction and lets nothing else run meanwhile, so its work is bounded first.
The work is counted from above, in units of about 20 ns: for each depth of a value the most that one node there
can cost. Nodes at one depth differ by their kind (container, text, byte of text, number); nodes under different
property names are judged by different subschemas, so the costliest name counts, not their sum.

A reference that leads back to a schema which is being compiled is remembered by the engine by schema and node, so
that a recursive schema costs its own size for each node of the value, however many ways lead there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Final, TypeAlias

from runyard_common.schemas.graph import DEEPEST, Graph, Node, SchemaRefused
from runyard_common.schemas.patterns import PatternRefused, is_plain, weigh

#: Subschemas after every reference is written out, as providers are given an output's schema.
MOST_EXPANDED: Final = 10_000
#: Units of work on one node of a value, and on a whole value.
MOST_WORK_PER_NODE: Final = 100_000
MOST_WORK: Final = 3_000_000
#: How often maps of properties may be put together while a schema is weighed.
_MOST_MERGES: Final = 10_000

#: Work by depth (the last entry is for every deeper one) and kind: container, text, byte, number, odd number.
Work: TypeAlias = tuple[float, ...]
_KINDS: Final = 5
_LEVELS: Final = 5
_NONE: Final[Work] = (0.0,) * (_KINDS * _LEVELS)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a schema costs. `recursive` are the subschemas that lead back to themselves, by identity."""

    work: Work
    #: Units a byte of compact JSON can cost at most.
    per_byte: float
    expanded: int
    recursive: frozenset[int]
    pattern_cost: int


def _own(schema: dict[str, Any]) -> Work:
    """What one schema's own keywords cost on a node, and its children for those that look at each."""
    both, container, text, byte, number, odd = 1.0 + len(schema), 0.0, 0.0, 0.1, 0.0, 0.0
    deep = 0.0
    for key, value in schema.items():
        match key, value:
            case ("enum", list()):
                # Texts are looked up; other values are compared one by one, at half a microsecond each.
                both += 60.0 * sum(not isinstance(one, str) for one in value)
                deep += 60.0 * sum(isinstance(one, dict | list) for one in value)
            case ("const", _):
                both += 30.0
                deep += 150.0 if isinstance(value, dict | list) else 0.0
            case ("required" | "dependentRequired" | "dependentSchemas" | "dependencies", list() | dict()):
                container += 3.0 * len(value)
            case ("properties", dict()):
                container += 10.0 + len(value) / 20
            case ("patternProperties", dict()):
                container += 5.0 * len(value)
            case ("uniqueItems", True):
                deep += 60.0
            case ("multipleOf", _):
                number, odd = number + 250.0, odd + 5_000.0
                if isinstance(value, int | float) and not 1e-30 <= value <= 1e30:
                    number += 5_000.0
            case ("format", str()):
                text, byte = text + 30.0, byte + (10.0 if value.startswith("idn") else 2.0)
            case ("pattern", str()):
                text, byte = text + 10.0, byte + _per_byte(value)
    first = (both + container, both + text, byte, both + number, odd)
    below = _for_children(schema, deep)
    return first + below


def _for_children(schema: dict[str, Any], deep: float) -> Work:
    """Names are matched as texts among the children; uniqueness looks at everything below."""
    names = schema.get("patternProperties")
    byte = sum(_per_byte(pattern) for pattern in names) if isinstance(names, dict) else 0.0
    one = 5.0 * len(names) if isinstance(names, dict) else 0.0
    child = (1.0 + deep, 1.0 + deep + one, byte + deep / 20, 1.0 + deep, 0.0)
    deeper = (deep, deep, deep / 20, deep, 0.0)
    return child + deeper * (_LEVELS - 2)


def _per_byte(pattern: str) -> float:
    try:
        states = weigh(pattern).states
    except PatternRefused:
        return 0.0
    # Few states fit the engine's table, and of a plain pattern few are followed at once; else it may have to follow
    # each of them for every byte.
    return 0.5 if states <= 8 or is_plain(pattern) else 3.5 * states


def sum_works(*works: Work) -> Work:
    """Works added up, depth by depth and kind by kind."""
    return reduce(_add, works, _NONE)


def _times(factor: float, work: Work) -> Work:
    return tuple(factor * one for one in work)


def _collects(keywords: dict[str, Any]) -> bool:
    return "unevaluatedProperties" in keywords or "unevaluatedItems" in keywords


def _per_json_byte(work: Work) -> float:
    """Any container, text or number takes two bytes of JSON at least."""
    found = 0.0
    for level in range(_LEVELS):
        container, text, byte, number, odd = work[level * _KINDS : (level + 1) * _KINDS]
        found = max(found, max(container, text, number + odd) / 2 + byte)
    return found


def work_on(value: Any, bounds: Bounds) -> float:
    """Units of work to check a value, counted from above; counting stops where `MOST_WORK` is passed."""
    total, level, depth = 0.0, [value], 0
    texts, size = 0, 0  # names of the properties above
    while level:
        start = min(depth, _LEVELS - 1) * _KINDS
        container, text, byte, number, odd = bounds.work[start : start + _KINDS]
        containers = numbers = odds = below = below_size = 0
        following: list[Any] = []
        for one in level:
            if isinstance(one, str):
                texts, size = texts + 1, size + _length(one)
            elif isinstance(one, dict):
                containers += 1
                following += one.values()
                below, below_size = below + len(one), below_size + sum(map(_length, one))
            elif isinstance(one, list | tuple):
                containers += 1
                following += one
            else:
                numbers += 1
                odds += isinstance(one, float) and not 1e-22 < abs(one) < 1e22 and one != 0
        total += containers * container + texts * text + size * byte + numbers * number + odds * odd
        if total > MOST_WORK:
            break
        level, texts, size, depth = following, below, below_size, depth + 1
    return total


def _length(text: Any) -> int:
    if not isinstance(text, str):
        return 0  # no name of JSON: the engine refuses it
    # A character outside ASCII takes up to four bytes, and the engine works byte by byte.
    return len(text) if text.isascii() else 3 * len(text)


def _add(one: Work, other: Work) -> Work:
    return other if one is _NONE else one if other is _NONE else tuple(map(add, one, other))


def weigh_schema(graph: Graph) -> Bounds:
    """What checking values against it costs. Errors: `SchemaRefused` for one that costs too much, or never ends."""
    _refuse_endless(graph.root)
    weigher = _Weigher(graph.root)
    work = weigher.total()
    for level in range(_LEVELS):
        container, text, _, number, _ = work[level * _KINDS : (level + 1) * _KINDS]
        if max(container, text, number) > MOST_WORK_PER_NODE:
            raise SchemaRefused(
                "it compares one value with too many subschemas or options, references counted each time; "
                "use fewer alternatives",
                too_large=True,
            )
    return Bounds(
        work,
        _per_json_byte(work),
        weigher.expanded[id(graph.root)],
        frozenset(weigher.recursive),
        graph.pattern_cost,
    )


def _refuse_endless(root: Node) -> None:
    """Refuse schemas that apply themselves to the same node: the check would never end."""
    state: dict[int, bool] = {}  # True while it is being looked at
    starts = [root]
    while starts:
        start = starts.pop()
        stack = [(start, iter(start.in_place))] if id(start) not in state else []
        if stack:
            state[id(start)] = True
            starts += start.following
        while stack:
            node, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                state[id(node)] = False
                stack.pop()
            elif state.get(id(child)):
                raise SchemaRefused("it refers to itself without end", node.path)
            elif id(child) not in state:
                state[id(child)] = True
                starts += child.following
                stack.append((child, iter(child.in_place)))


class _Weigher:
    """Weighs every subschema after those it applies, each once."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._work: dict[int, Work] = {}
        self._below: dict[int, _Children] = {}
        self.expanded: dict[int, int] = {}
        #: The subschemas that refer back to themselves: how many references the engine does not remember.
        self.recursive: dict[int, tuple[Node, int]] = {}
        self._open: dict[int, bool] = {}
        self._merges = 0
        self._descend(root)

    def total(self) -> Work:
        """The work by depth and kind. Recursive parts count once for each node of the value, at every depth."""
        work = self._work[id(self._root)]
        for node, times in self.recursive.values():
            own = self._work[id(node)]
            levels = [own[i : i + _KINDS] for i in range(0, len(own), _KINDS)]
            deepest = tuple(DEEPEST * one for one in levels.pop())
            once = tuple(times * sum(kind) for kind in zip(*levels, deepest, strict=True))
            work = _add(work, once * _LEVELS)
        return work

    def _descend(self, root: Node) -> None:
        stack = [(root, iter(root.following))]
        self._open[id(root)] = True
        while stack:
            node, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                self._weigh(node)
                stack.pop()
                del self._open[id(node)]
            elif id(child) in self._open:
                # A part that was not entered by a reference is compiled once more for those inside it.
                _, times = self.recursive.get(id(child), (child, 0))
                again = 1 if self._open[id(child)] else times + 1
                self.recursive[id(child)] = (child, again)
            elif id(child) not in self._work:
                self._open[id(child)] = any(
                    child is one for found in node.references.values() for one in found
                )
                stack.append((child, iter(child.following)))

    def _weigh(self, node: Node) -> None:
        own = _own(node.keywords)
        if not node.following:
            self._work[id(node)], self.expanded[id(node)] = own, 1
            self._below[id(node)] = _Children({}, own[_KINDS:] + own[-_KINDS:], _NONE)
            return
        done = [child for child in node.in_place if id(child) in self._work]
        children = self._children(node, own, done)
        first = own[:_KINDS]
        for child in done:
            first = _add(first, self._work[id(child)][:_KINDS])
        if done and _collects(node.keywords):
            # What is evaluated already is found by judging the alternatives again, level by level.
            first, children = _times(4.0, first), children.times(4.0)
        self._below[id(node)] = children
        costliest = _add(children.others, children.top)
        inner, last = costliest[:-_KINDS], costliest[-_KINDS:]
        self._work[id(node)] = first + inner[:-_KINDS] + _add(inner[-_KINDS:], last)
        self.expanded[id(node)] = 1 + sum(self.expanded.get(id(child), 1) for child in node.following)

    def _children(self, node: Node, own: Work, in_place: list[Node]) -> _Children:
        others = sum_works(own[_KINDS:] + own[-_KINDS:], *self._known(node.for_all + node.for_others))
        by_key = {key: sum_works(*self._known(children)) for key, children in node.by_key.items()}
        parts = [self._below[id(child)] for child in in_place]
        others = sum_works(others, *(part.others for part in parts))
        named = [part for part in parts if part.by_key]
        if not by_key and len(named) == 1:
            return _Children(named[0].by_key, others, named[0].top)
        for part in named:
            self._merges += len(part.by_key)
            if self._merges > _MOST_MERGES:
                raise SchemaRefused("too many of its alternatives name the same properties", too_large=True)
            for key, work in part.by_key.items():
                by_key[key] = _add(by_key[key], work) if key in by_key else work
        top: Work = tuple(map(max, zip(_NONE, *by_key.values(), strict=True))) if by_key else _NONE
        return _Children(by_key, others, top)

    def _known(self, nodes: Iterable[Node]) -> Iterator[Work]:
        return (self._work[id(node)] for node in nodes if id(node) in self._work)


@dataclass(frozen=True, slots=True)
class _Children:
    """Work on a node's children: on any, what a name adds, and the most that one adds."""

    by_key: dict[str | int, Work]
    others: Work
    top: Work

    def times(self, factor: float) -> _Children:
        by_key = {key: _times(factor, work) for key, work in self.by_key.items()}
        return _Children(by_key, _times(factor, self.others), _times(factor, self.top))
