"""What is stored of Python agents, read for many of them at once: two statements a hundred, not three an agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from runyard.authoring import AgentDefinition
from runyard_common.agents.queries import agents
from runyard_common.agents.queries.agents import AgentRow, VersionRow
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service import manifests
from runyard_common.database.rows import OrgScope

#: Agents that one statement asks for.
AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class StoredCode:
    """A Python agent as this process has it, and what is stored: its agent, and the versions of its number with and
    without a digest, newest first."""

    definition: AgentDefinition
    document: Manifest
    agent: AgentRow
    versions: tuple[VersionRow, ...]

    def published_as(self, org_id: str) -> str | None:
        """The version that publishing this for every organisation would end with, changing nothing; None where it
        would change something."""
        if self.agent.org_id != org_id or self.agent.version_id is None:
            return None
        mine = manifests.contract(self.document.to_json())
        for version in self.versions:
            if version.shared and manifests.contract(version.manifest) == mine:
                described = self.agent.description == self.document.description
                return version.version if described or self.agent.version_id != version.id else None
        return None


def stored_code(scope: OrgScope, definitions: Iterable[AgentDefinition]) -> Iterator[StoredCode]:
    """What is stored of each of these that has an agent."""
    waiting = iter(definitions)
    while some := list(islice(waiting, AT_ONCE)):
        found = agents.by_names(scope, [definition.name for definition in some])
        outlines = agents.versions_of_each(scope.conn, [agent.id for agent in found.values()])
        numbers = {(found[one.name].id, _number(one.version)) for one in some if one.name in found}
        own = [one.id for one in outlines if (one.agent_id, _number(one.version)) in numbers]
        versions: dict[str, list[VersionRow]] = {}
        for start in range(0, len(own), AT_ONCE):  # one agent may have many of its number
            for version in agents.versions_by_id(scope.conn, own[start : start + AT_ONCE]):
                versions.setdefault(version.agent_id, []).append(version)
        for definition in some:
            agent = found.get(definition.name)
            if agent is not None:
                document = parse(definition.manifest)
                number = _number(definition.version)
                of_number = (one for one in versions.get(agent.id, ()) if _number(one.version) == number)
                yield StoredCode(definition, document, agent, tuple(of_number))


def _number(version: str) -> str:
    return version.partition("+")[0]
