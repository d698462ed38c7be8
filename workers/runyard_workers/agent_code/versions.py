"""Versions of one agent side by side: which code carries out a run, and whose runs a worker carries on.

A run is bound to the version it was submitted for. The code of that version carries it out wherever a worker has it;
code of another version only where it declares so, with `resumes` or `drops` of `@agent`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runyard import declaring
from runyard.authoring import AgentDefinition
from runyard.errors import AgentError
from runyard_common.runs.rules.specs import versioned
from runyard_common.values.errors import ConfigurationError

#: By name and version: ``@scope/name@1.2.0``.
Definitions = Mapping[str, AgentDefinition]


@dataclass(frozen=True, slots=True)
class Code:
    """The code that carries out a run. `other_version`: it is not of the run's version, and resumes it, or with
    `drops` refuses it."""

    definition: AgentDefinition
    other_version: bool = False
    drops: bool = False


def code_for(agents: Definitions, name: str, version: str) -> Code | None:
    """The code for a run of this version: its own, else the newest that resumes it, else one that drops it."""
    found = own(agents, name, version)
    if found is not None:
        return Code(found)
    # Of many agents few have a run of another version: only then all are looked through.
    mine = sorted((one for one in agents.values() if one.name == name), key=_precedence, reverse=True)
    for one in mine:
        if matches(version, one.resumes):
            return Code(one, other_version=True)
    for one in mine:
        if matches(version, one.drops):
            return Code(one, other_version=True, drops=True)
    return None


def own(agents: Definitions, name: str, version: str) -> AgentDefinition | None:
    """The definition with this version, or with its number: what was published of it may have other options."""
    number = version.partition("+")[0]
    found = agents.get(versioned(name, version)) or agents.get(versioned(name, number))
    if found is not None:
        return found
    same = (d for d in agents.values() if d.name == name and d.version.partition("+")[0] == number)
    return next(same, None)


def in_order(definitions: Iterable[AgentDefinition]) -> list[AgentDefinition]:
    """In the order in which to publish: of each agent the version last that a run takes which names none."""
    return sorted(definitions, key=_precedence)


def carried_on(definitions: Sequence[AgentDefinition], published: Sequence[str]) -> list[str]:
    """Those of an agent's published versions whose runs these definitions, all of that agent, resume or drop."""
    return [
        version
        for version in published
        if any(matches(version, one.resumes + one.drops) for one in definitions)
    ]


def check(definition: AgentDefinition) -> None:
    """Refuse ranges of versions that are none: `ConfigurationError`."""
    import nodesemver

    logging.getLogger("nodesemver").setLevel(logging.WARNING)  # it logs its own traceback of what is no range
    for option in ("resumes", "drops"):
        for range_ in getattr(definition, option):
            if nodesemver.valid_range(range_, False) is None:
                raise ConfigurationError(
                    f"{range_!r} is no range of versions, like 1.x or '>=1.2 <2'.", field=option
                )


@lru_cache(maxsize=4096)
def matches(version: str, ranges: tuple[str, ...]) -> bool:
    """Whether a version is in one of these ranges."""
    if not ranges:
        return False
    import nodesemver

    return any(nodesemver.satisfies(version.partition("+")[0], range_, False) for range_ in ranges)


def dropped(definition: AgentDefinition, version: str) -> AgentError:
    """Why a run of a version that `definition` drops fails."""
    return AgentError(
        f"This run is one of {definition.name} {version}, which no worker has any more, and version "
        f"{definition.version} drops it. Submit it again for the current version.",
        code="version_dropped",
        version=version,
        dropped_by=definition.version,
    )


def _precedence(definition: AgentDefinition) -> tuple[object, ...]:
    return declaring.precedence(definition.version)
