"""Admission: which limits a task counts against, and whether it may start now. Pure.

A limit's key names who shares it: ``<organisation or *>|<kind>:<value>``. Rules that yield the same key
are merged: the tightest concurrency wins, with its strategy, and every start rate applies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from runyard_common.runs.rules.blocked_by import BlockedBy
from runyard_common.values import pointers


class Kind(StrEnum):
    """What a limit counts."""

    ORGANISATION = "organisation"
    AGENT = "agent"
    END_USER = "end_user"
    SESSION = "session"
    MODEL = "model"
    KEY = "key"  # a value taken from the input by a JSON pointer


#: In the place of a kind: the children of one `ctx.map`. No rule has it, its bound is in the key,
#: ``<organisation>|map:<bound>:<parent>:<call>``.
MAP: Final = "map"


class Strategy(StrEnum):
    """What happens to a task that finds its limit full."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"  # stop the runs that use it


@dataclass(frozen=True, slots=True)
class Rule:
    """A stored limit. `org_id` "*" is the operator's, counted over every organisation. Times are epoch seconds."""

    id: str
    org_id: str
    kind: Kind
    selector: str
    max_concurrent: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None
    tokens_per_minute: int | None = None
    strategy: Strategy = Strategy.ENQUEUE
    created_at: float = 0.0
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class AdmissionContext:
    """What rules look at in a task."""

    org_id: str
    agent: str  # @scope/name
    end_user: str | None = None
    session: str | None = None
    session_strategy: Strategy = Strategy.ENQUEUE
    model: str | None = None
    args: Any = None
    map: str | None = None  # the `ctx.map` that started it: <bound>:<parent>:<call>


@dataclass(frozen=True, slots=True)
class LimitCheck:
    """One limit a task must pass: its key and what is allowed."""

    key: str
    max_concurrent: int | None = None
    rates: tuple[tuple[int, float], ...] = ()  # (starts, seconds)
    tokens_per_minute: int | None = None
    strategy: Strategy = Strategy.ENQUEUE

    @property
    def blocked_by(self) -> BlockedBy:
        """What a task is blocked by when this fails."""
        return BlockedBy.limit(self.key)


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a limit is now."""

    in_use: int = 0
    waiting: bool = False  # tasks are queued on it already
    starts: Mapping[float, int] = field(default_factory=dict)  # window seconds -> starts in it
    tokens: int = 0  # model tokens used in the last minute

    @property
    def one_more(self) -> Usage:
        """With one more start."""
        starts = {seconds: count + 1 for seconds, count in self.starts.items()}
        return Usage(self.in_use + 1, self.waiting, starts, self.tokens)


def limit_checks(rules: Iterable[Rule], context: AdmissionContext) -> list[LimitCheck]:
    """Every check the task must pass, by key in sorted order (the order in which they are locked)."""
    found: dict[str, LimitCheck] = {}
    if context.session is not None:
        session = f"{context.org_id}|session:{context.session}"
        found[session] = LimitCheck(session, max_concurrent=1, strategy=context.session_strategy)
    if context.map is not None:
        mapped = f"{context.org_id}|{MAP}:{context.map}"
        found[mapped] = LimitCheck(mapped, max_concurrent=_bound_of(context.map))
    for rule in rules:
        value = _value(rule, context)
        if value is not None:
            key = _key(rule, value)
            found[key] = _merge(found.get(key), key, rule)
    return [found[key] for key in sorted(found)]


def full_limit(
    checks: Sequence[LimitCheck], usages: Mapping[str, Usage], queue_jump: bool = False
) -> LimitCheck | None:
    """The limit that is full; None: the task may start. Of several one that rejects, else the first. A new task never
    overtakes those that wait, unless it may `queue_jump`."""
    full = [check for check in checks if _is_full(check, usages.get(check.key, Usage()), queue_jump)]
    return min(full, key=lambda check: check.strategy is not Strategy.REJECT, default=None)


def _bound_of(value: str) -> int:
    return int(value.partition(":")[0])


def map_of(limit_keys: Sequence[str] | None) -> str | None:
    """The `ctx.map` that started a task, by the limits that it counts against."""
    return next((key.partition("|map:")[2] for key in limit_keys or () if "|map:" in key), None)


def check_of(rules: Iterable[Rule], key: str) -> LimitCheck:
    """The check of this key as these rules have it now; one that nothing bounds where none yields it."""
    scope, _, name = key.partition("|")
    kind, _, value = name.partition(":")
    found = LimitCheck(key, max_concurrent=1) if kind == Kind.SESSION and scope != "*" else None
    if kind == MAP:
        return LimitCheck(key, max_concurrent=_bound_of(value))
    for rule in rules:
        if (rule.org_id, rule.kind) == (scope, kind) and _yields(rule, value):
            found = _merge(found, key, rule)
    return found or LimitCheck(key)


def keys_of(rule: Rule) -> tuple[str, bool]:
    """The key that a rule yields, and True; or what all of its keys begin with, and False."""
    if rule.kind is Kind.KEY:
        return f"{rule.org_id}|{rule.kind}:{rule.id}:", False
    value = rule.org_id if rule.kind is Kind.ORGANISATION and rule.org_id != "*" else rule.selector
    return (f"{rule.org_id}|{rule.kind}:", False) if value == "*" else (_key(rule, value), True)


def _yields(rule: Rule, value: str) -> bool:
    if rule.kind is Kind.KEY:
        return value.startswith(f"{rule.id}:")
    return rule.selector in ("*", value) or _short(rule.selector) == value


def free(check: LimitCheck, usage: Usage, at_most: int) -> int:
    """How many more a limit lets start now, counted up to `at_most`."""
    if check.tokens_per_minute is not None and usage.tokens >= check.tokens_per_minute:
        return 0
    left = [count - usage.starts.get(seconds, 0) for count, seconds in check.rates]
    if check.max_concurrent is not None:
        left.append(check.max_concurrent - usage.in_use)
    return max(0, min(at_most, *left)) if left else at_most


def _is_full(check: LimitCheck, usage: Usage, queue_jump: bool) -> bool:
    return (
        (usage.waiting and not queue_jump)
        or (check.max_concurrent is not None and usage.in_use >= check.max_concurrent)
        or any(usage.starts.get(seconds, 0) >= count for count, seconds in check.rates)
        or (check.tokens_per_minute is not None and usage.tokens >= check.tokens_per_minute)
    )


def _value(rule: Rule, context: AdmissionContext) -> str | None:
    if rule.kind is Kind.KEY:
        return _pointer(context.args, rule.selector)
    value = {
        Kind.ORGANISATION: context.org_id,
        Kind.AGENT: context.agent,
        Kind.END_USER: context.end_user,
        Kind.SESSION: context.session,
        Kind.MODEL: context.model,
    }[rule.kind]
    return value if value is not None and rule.selector in ("*", value) else None


def _short(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest() if len(value) > 96 else value


def _key(rule: Rule, value: str) -> str:
    value = _short(value)
    name = f"{rule.kind}:{rule.id}:{value}" if rule.kind is Kind.KEY else f"{rule.kind}:{value}"
    return f"{rule.org_id}|{name}"


def _merge(check: LimitCheck | None, key: str, rule: Rule) -> LimitCheck:
    old = check or LimitCheck(key, strategy=rule.strategy)
    rate = ((rule.rate_count, rule.rate_seconds),) if rule.rate_count and rule.rate_seconds else ()
    return LimitCheck(
        key,
        max_concurrent=_tighter(old.max_concurrent, rule.max_concurrent),
        rates=old.rates + rate,
        tokens_per_minute=_tighter(old.tokens_per_minute, rule.tokens_per_minute),
        strategy=_stricter(old, rule),
    )


def _stricter(old: LimitCheck, rule: Rule) -> Strategy:
    """The strategy of the lower bound, of two equal ones that rejects; that of the first where one bounds no runs."""
    if rule.max_concurrent is None or old.max_concurrent is None:
        return old.strategy
    if rule.max_concurrent == old.max_concurrent:
        return rule.strategy if rule.strategy is Strategy.REJECT else old.strategy
    return rule.strategy if rule.max_concurrent < old.max_concurrent else old.strategy


def _tighter(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _pointer(document: Any, pointer: str) -> str | None:
    """The scalar at a JSON pointer (RFC 6901) as text, or None where there is none."""
    node = document
    for name in pointers.parts(pointer):
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict) and name in node:
            node = node[name]
        else:
            return None
    return None if node is None or isinstance(node, dict | list) else str(node)
