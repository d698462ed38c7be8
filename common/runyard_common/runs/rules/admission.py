"""Admission: which limits a task counts against, and whether it may start now. Pure.

A limit's key names who shares it: ``<organisation or *>|<kind>:<value>``. Rules that yield the same key
are merged: the tightest concurrency wins, every start rate applies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from runyard_common.values import pointers


class Kind(StrEnum):
    """What a limit counts."""

    ORGANISATION = "organisation"
    AGENT = "agent"
    END_USER = "end_user"
    SESSION = "session"
    MODEL = "model"
    KEY = "key"  # a value taken from the input by a JSON pointer


class Strategy(StrEnum):
    """What happens to a task that finds its limit full."""

    ENQUEUE = "enqueue"
    REJECT = "reject"
    INTERRUPT = "interrupt"  # stop the runs that hold it


@dataclass(frozen=True, slots=True)
class Rule:
    """A stored limit. `org_id` "*" is the operator's, counted over every organisation."""

    id: str
    org_id: str
    kind: Kind
    selector: str
    max_concurrent: int | None = None
    rate_count: int | None = None
    rate_seconds: float | None = None
    tokens_per_minute: int | None = None
    strategy: Strategy = Strategy.ENQUEUE


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at in a task."""

    org_id: str
    agent: str  # @scope/name
    end_user: str | None = None
    session: str | None = None
    session_strategy: Strategy = Strategy.ENQUEUE
    model: str | None = None
    args: Any = None


@dataclass(frozen=True, slots=True)
class Gate:
    """One limit a task must pass: its key and what is allowed."""

    key: str
    max_concurrent: int | None = None
    rates: tuple[tuple[int, float], ...] = ()  # (starts, seconds)
    tokens_per_minute: int | None = None
    strategy: Strategy = Strategy.ENQUEUE


@dataclass(frozen=True, slots=True)
class Load:
    """How full a limit is now."""

    held: int = 0
    waiting: bool = False  # somebody is queued on it already
    starts: Mapping[float, int] = field(default_factory=dict)  # window seconds -> starts in it
    tokens: int = 0  # model tokens used in the last minute


@dataclass(frozen=True, slots=True)
class Decision:
    """Admit when `full` is None; else the gate that holds the task back."""

    full: Gate | None = None

    @property
    def admitted(self) -> bool:
        """Whether the task may start."""
        return self.full is None


def label(key: str) -> str:
    """The key as callers see it, without its scope: ``agent:@demo/echo``."""
    return key.split("|", 1)[-1]


def gates(rules: Iterable[Rule], facts: Facts) -> list[Gate]:
    """Every gate the task must pass, by key in sorted order (the order in which they are locked)."""
    found: dict[str, Gate] = {}
    if facts.session is not None:
        session = f"{facts.org_id}|session:{facts.session}"
        found[session] = Gate(session, max_concurrent=1, strategy=facts.session_strategy)
    for rule in rules:
        value = _value(rule, facts)
        if value is not None:
            key = _key(rule, value)
            found[key] = _merge(found.get(key), key, rule)
    return [found[key] for key in sorted(found)]


def decide(gates: Sequence[Gate], loads: Mapping[str, Load], queue_jump: bool = False) -> Decision:
    """Whether every gate has room. A newcomer never overtakes those who wait, unless it may `queue_jump`."""
    for gate in gates:
        load = loads.get(gate.key, Load())
        if _full(gate, load) or (load.waiting and not queue_jump):
            return Decision(gate)
    return Decision()


def _full(gate: Gate, load: Load) -> bool:
    return (
        (gate.max_concurrent is not None and load.held >= gate.max_concurrent)
        or any(load.starts.get(seconds, 0) >= count for count, seconds in gate.rates)
        or (gate.tokens_per_minute is not None and load.tokens >= gate.tokens_per_minute)
    )


def _value(rule: Rule, facts: Facts) -> str | None:
    if rule.kind is Kind.KEY:
        return _pointer(facts.args, rule.selector)
    value = {
        Kind.ORGANISATION: facts.org_id,
        Kind.AGENT: facts.agent,
        Kind.END_USER: facts.end_user,
        Kind.SESSION: facts.session,
        Kind.MODEL: facts.model,
    }[rule.kind]
    return value if value is not None and rule.selector in ("*", value) else None


def _key(rule: Rule, value: str) -> str:
    if len(value) > 96:
        value = hashlib.sha256(value.encode()).hexdigest()
    name = f"{rule.kind}:{rule.id}:{value}" if rule.kind is Kind.KEY else f"{rule.kind}:{value}"
    return f"{rule.org_id}|{name}"


def _merge(gate: Gate | None, key: str, rule: Rule) -> Gate:
    old = gate or Gate(key, strategy=rule.strategy)
    rate = ((rule.rate_count, rule.rate_seconds),) if rule.rate_count and rule.rate_seconds else ()
    return Gate(
        key,
        max_concurrent=_tighter(old.max_concurrent, rule.max_concurrent),
        rates=old.rates + rate,
        tokens_per_minute=_tighter(old.tokens_per_minute, rule.tokens_per_minute),
        strategy=old.strategy,
    )


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
