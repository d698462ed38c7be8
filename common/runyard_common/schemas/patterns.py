"""Patterns of JSON Schemas: what a linear-time engine cannot do is named, the rest is weighed. Pure.

The standard names ECMA-262 with the `u` flag. The engine that matches here never backtracks, so look-around and
back references do not exist in it. A counted repetition is compiled as many copies, so its count is what costs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

#: Characters of one pattern.
LONGEST_PATTERN: Final = 500
_COUNTED: Final = re.compile(r"\{(\d{1,9})(,)?(\d{1,9})?\}")
_NAMED_GROUP: Final = re.compile(r"\(\?P?<([A-Za-z_$][\w$]*)>")
_FLAGS: Final = re.compile(r"\(\?[ims]*(?:-[ims]+)?[:)]")
_PROPERTY: Final = re.compile(r"[pP](?:\{[^{}]+\}|[A-Za-z])")
_SURROGATE: Final = re.compile(r"u(?:\{0*)?[dD][89a-fA-F][0-9a-fA-F]{2}\}?")
_ITEM: Final = r"(?:\\[^pPu]|\\[pP]\{\^?[\w=]+\}|\[(?:\\.|[^\]\\])*\]|[^\\()\[\]{}|*+?^$])"
#: Anchored, one repetition of varying length at most, and little after it: ^[A-Z]{2}\d{1,30}$.
_PLAIN: Final = re.compile(
    rf"\^(?:{_ITEM}(?:\{{\d+\}})?)*(?:{_ITEM}(?:[*+?]|\{{\d+,\d*\}}))?(?:{_ITEM}){{0,8}}\$?", re.DOTALL
)
#: What compiling one copy costs, in copies of [a-z]: Unicode tables are hundreds of ranges each.
_TABLE: Final = 40
_NEGATED: Final = 3

_REFUSED_GROUPS: Final = (
    ("(?=", "look-ahead"),
    ("(?!", "negative look-ahead"),
    ("(?<=", "look-behind"),
    ("(?<!", "negative look-behind"),
    ("(?>", "an atomic group"),
    ("(?P=", "a back reference"),
    ("(?P>", "a recursive group"),
    ("(?(", "a conditional group"),
    ("(?#", "a comment"),
    ("(?|", "a branch reset"),
)
_LINEAR: Final = "patterns are matched in linear time here, which it rules out; use `allOf` or `not` instead"


class PatternRefused(Exception):
    """A pattern that cannot be used; the text names the part, and what to write instead."""


@dataclass(slots=True)
class Weight:
    """`states`: characters after every repetition is written out; `cost`: what compiling them costs."""

    states: int = 0
    cost: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(self.states + other.states, self.cost + other.cost)

    def __mul__(self, times: int) -> Weight:
        return Weight(self.states * times, self.cost * times)


@dataclass(slots=True)
class _Group:
    """An open group: what it weighs so far, and its last item, which a repetition multiplies."""

    done: Weight = field(default_factory=Weight)
    last: Weight = field(default_factory=Weight)

    def add(self, item: Weight) -> None:
        self.done, self.last = self.done + self.last, item

    def total(self) -> Weight:
        return self.done + self.last


def weigh(pattern: Any) -> Weight:
    """What a pattern costs. Errors: `PatternRefused` with the part that cannot be used."""
    if not isinstance(pattern, str):
        raise PatternRefused("it is no string")
    if len(pattern) > LONGEST_PATTERN:
        raise PatternRefused(f"it has {len(pattern)} characters, at most {LONGEST_PATTERN} are allowed")
    groups, at = [_Group()], 0
    while at < len(pattern):
        at = _next(pattern, at, groups)
    if len(groups) > 1:
        raise PatternRefused("a group is not closed: `)` is missing")
    return groups[0].total()


def is_plain(pattern: str) -> bool:
    """Whether a match follows a few possibilities at once only, however often its items repeat."""
    return _PLAIN.fullmatch(pattern) is not None


def _next(pattern: str, at: int, groups: list[_Group]) -> int:
    """Weigh the item at `at`; where the next one starts."""
    match pattern[at]:
        case "\\":
            item, at = _escape(pattern, at)
            groups[-1].add(item)
        case "[":
            item, at = _class(pattern, at)
            groups[-1].add(item)
        case "(":
            at = _open(pattern, at)
            groups.append(_Group())
        case ")":
            if len(groups) == 1:
                raise PatternRefused("`)` closes no group; write `\\)` for the character")
            item = groups.pop().total()
            groups[-1].add(item + Weight(0, 1))
            at += 1
        case "*" | "+" | "?" | "{":
            at = _repetition(pattern, at, groups[-1])
        case "|" | "^" | "$":
            groups[-1].add(Weight(0, 1))
            at += 1
        case char:
            groups[-1].add(Weight(1, _NEGATED if char == "." else 1))
            at += 1
    return at


def _escape(pattern: str, at: int) -> tuple[Weight, int]:
    rest = pattern[at + 1 :]
    if not rest:
        raise PatternRefused("it ends in a single `\\`")
    if rest[0].isdigit() and rest[0] != "0":
        raise PatternRefused(f"`\\{rest[0]}` is a back reference, and {_LINEAR}")
    if rest[0] == "k":
        raise PatternRefused(f"`\\k` is a back reference, and {_LINEAR}")
    if rest[0] in "ZGhHRXK":
        raise PatternRefused(f"`\\{rest[0]}` is not in the standard's dialect (ECMA-262); `$` is the end")
    if found := _PROPERTY.match(rest):
        return Weight(1, _TABLE), at + 1 + found.end()
    if _SURROGATE.match(rest):
        raise PatternRefused(
            f"`\\{rest[:5]}` is half a character; write the whole code point, such as `\\u{{1F600}}`"
        )
    if rest.startswith("u{"):
        end = rest.find("}")
        return Weight(1, 1), at + 2 + (max(0, end))
    return Weight(1, _NEGATED if rest[0] in "DWS" else 1), at + 2


def _class(pattern: str, at: int) -> tuple[Weight, int]:
    cost, i = 1, at + 1
    if pattern[i : i + 1] == "^":
        cost, i = _NEGATED, i + 1
    while i < len(pattern) and pattern[i] != "]":
        if pattern[i] == "\\":
            item, i = _escape(pattern, i)
            cost = max(cost, item.cost) if item.cost > 1 else cost
            continue
        if pattern[i] == "[" or pattern[i : i + 2] in ("&&", "--", "~~"):
            raise PatternRefused(
                f"`{pattern[i : i + 2]}` in a character class is a set operation in some dialects; "
                "put `\\` before each of these characters"
            )
        i += 1
    if i >= len(pattern):
        raise PatternRefused("a character class is not closed: `]` is missing")
    if not pattern[at:i].isascii() or "\\u" in pattern[at:i]:
        cost = max(cost, _NEGATED)
    return Weight(1, cost + (i - at) // 8), i + 1


def _open(pattern: str, at: int) -> int:
    """Where the contents of the group at `at` start."""
    for start, name in _REFUSED_GROUPS:
        if pattern.startswith(start, at):
            reason = (
                _LINEAR if "look" in name or "reference" in name else "it is not in the standard's dialect"
            )
            raise PatternRefused(f"`{start}` is {name}, and {reason}")
    if not pattern.startswith("(?", at):
        return at + 1
    for known in (_NAMED_GROUP, _FLAGS):
        if found := known.match(pattern, at):
            # Flags for the rest of the group, (?i), open nothing: the bracket that closes them is read next.
            return found.end() - (found.group().endswith(")"))
    raise PatternRefused(f"`{pattern[at : at + 4]}` starts no group of the standard's dialect (ECMA-262)")


def _repetition(pattern: str, at: int, group: _Group) -> int:
    times, end = 1, at + 1
    if pattern[at] == "{":
        found = _COUNTED.match(pattern, at)
        if found is None:
            raise PatternRefused(
                "`{` starts no repetition such as {2} or {2,5}; write `\\{` for the character"
            )
        least, open_end, most = found.groups()
        times = max(int(most or least) + bool(open_end and not most), 1)
        end = found.end()
    group.last = group.last * times
    if pattern[end : end + 1] == "+":
        raise PatternRefused(
            f"`{pattern[at : end + 1]}` is a possessive repetition, which is not in ECMA-262"
        )
    return end + 1 if pattern[end : end + 1] == "?" else end
