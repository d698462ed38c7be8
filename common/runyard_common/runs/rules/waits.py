"""What a suspended attempt waits for besides people: children, times and events from outside, in groups. Pure.

A run goes on as soon as all that one of its groups waits for is there. What one call of the context waits for is a
group; the calls inside one `ctx.gather` are a group together, so that it costs one wake-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from runyard_common.runs.rules.blocked_by import CHILDREN, EVENT, SLEEP, BlockedBy

CHILD_PART: Final = "child"
EVENT_PART: Final = "event"
TIME_PART: Final = "time"


@dataclass(frozen=True, slots=True)
class Group:
    """Children by task id, events by the journal key that waits for each, and a time in epoch seconds: all of them.

    `name` is that of the call that they belong to; groups of one name are one. `urgent`: the first child that does not
    complete ends the wait.
    """

    children: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    until: float | None = None
    name: str = ""
    urgent: bool = False


def together(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The groups with those of one name united."""
    named: dict[str, Group] = {}
    found: list[Group] = []
    for group in groups:
        if group.name:
            known = named.get(group.name)
            named[group.name] = group if known is None else _united(known, group)
        elif group not in found:
            found.append(group)
    return (*found, *named.values())


def _united(one: Group, other: Group) -> Group:
    times = [until for until in (one.until, other.until) if until is not None]
    return Group(
        tuple(dict.fromkeys((*one.children, *other.children))),
        tuple(dict.fromkeys((*one.events, *other.events))),
        max(times, default=None),
        one.name,
        one.urgent or other.urgent,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a group of a queued run waits for, as its row has it. `at` is a time, or that an event has."""

    task_id: str
    place: int  # of the group
    kind: str  # child, event, time
    ref: str  # the child's task id; the journal key of an event
    at: float | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What is known of children and events when a wait is judged. Times are epoch seconds."""

    now: float
    open_children: frozenset[str] = frozenset()  # not ended
    failed_children: frozenset[str] = frozenset()  # ended without success
    open_events: Mapping[str, float | None] | None = None  # journal key → until when it is waited for


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run goes on now; else when time alone would let it, and the parts that are missing."""

    ready: bool
    at: float | None = None
    missing: tuple[Part, ...] = ()

    @property
    def blocked_by(self) -> BlockedBy:
        """What keeps it queued. One child alone needs no rows."""
        kinds = {part.kind for part in self.missing}
        if EVENT_PART in kinds:
            return EVENT
        if CHILD_PART not in kinds:
            return SLEEP
        return BlockedBy.child(self.missing[0].ref) if len(self.missing) == 1 else CHILDREN


def judge(task_id: str, groups: Sequence[Group], world: World) -> Verdict:
    """Whether one of these groups has all that it waits for, and what the others wait for still."""
    missing: list[Part] = []
    times: list[float] = []
    for place, group in enumerate(groups):
        parts, ended = _missing(task_id, place, group, world)
        if ended or not parts:
            return Verdict(True)
        missing += parts
        if (at := due(parts)) is not None:
            times.append(at)
    return Verdict(not missing, min(times, default=None), tuple(missing))


def _missing(task_id: str, place: int, group: Group, world: World) -> tuple[list[Part], bool]:
    """The parts that are not there yet, and whether a failure has ended the wait."""
    if group.urgent and not world.failed_children.isdisjoint(group.children):
        return [], True
    children = [child for child in group.children if child in world.open_children]
    parts = [Part(task_id, place, CHILD_PART, child, None, group.urgent) for child in children]
    events = world.open_events or {}
    listening = [key for key in group.events if key in events and not _passed(events[key], world.now)]
    parts += [Part(task_id, place, EVENT_PART, key, events[key]) for key in listening]
    if group.until is not None and not _passed(group.until, world.now):
        parts.append(Part(task_id, place, TIME_PART, "time", group.until))
    return parts, False


def _passed(at: float | None, now: float) -> bool:
    return at is not None and at <= now


def due(parts: Sequence[Part]) -> float | None:
    """When time alone lets a group with these missing parts go on; None where something else has to happen first."""
    if any(part.at is None for part in parts):
        return None
    return max((part.at for part in parts if part.at is not None), default=None)
