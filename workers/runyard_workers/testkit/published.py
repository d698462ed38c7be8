"""The agents that a process knows, published once for all its runs in tests, not once for each.

A run begins with a copy of the file in which the agents of earlier runs are published, and adds those that are new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runyard.authoring import AgentDefinition
from runyard_common.agents.rules.manifests import Manifest, parse
from runyard_common.agents.service import agents
from runyard_common.agents.service.manifests import PublishRules
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.transaction import Store
from runyard_common.runs.rules.specs import versioned
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code.versions import in_order
from runyard_workers.testkit.clock import empty_database

#: By name and version.
Definitions = Mapping[str, AgentDefinition]


@dataclass(frozen=True)
class Template:
    """A database file, and the agents that are published in it: of each its only version."""

    file: bytes
    org_id: str
    sealer: Sealer
    agents: Definitions


class Published:
    """The agents of one run. `file` is where its database will be."""

    def __init__(self, file: Path, definitions: Definitions, main: Manifest) -> None:
        """`main` is what runs."""
        self._file = file
        self._definitions = definitions
        self._main = main
        self._common = _common(definitions, main)
        known = _kept.get(_ONE)
        if known is None or not all(_same(self._common.get(name), one) for name, one in known.agents.items()):
            known = Template(empty_database(), uuid7(), Sealer(new_key()), {})
        file.write_bytes(known.file)
        self._known = known
        self.org_id, self.sealer = known.org_id, known.sealer

    def publish(self, store: Store, rules: PublishRules) -> None:
        """Publish what the file has not yet: every agent but the one that runs, which has to come last."""
        new = {name: one for name, one in self._common.items() if name not in self._known.agents}
        own = versioned(self._main.name, self._main.version)
        new.pop(own, None)
        if new:
            _publish(store, self.org_id, rules, new)
            store.db.empty_log()
            if not self._log.exists() or self._log.stat().st_size == 0:
                self._keep(new)
        others = {
            name: one for name, one in self._definitions.items() if name not in self._common and name != own
        }
        _publish(store, self.org_id, rules, others)

    @property
    def _log(self) -> Path:
        return self._file.with_name(f"{self._file.name}-wal")

    def _keep(self, new: Definitions) -> None:
        there = {**self._known.agents, **new}
        _kept[_ONE] = Template(self._file.read_bytes(), self.org_id, self.sealer, there)


#: The newest one, under one name: it is replaced as a whole.
_ONE: Final = "newest"
_kept: dict[str, Template] = {}


def _common(definitions: Definitions, main: Manifest) -> dict[str, AgentDefinition]:
    """The agents that any run may find published: not those of which the order of publishing decides what is current,
    nor one whose name and version the agent that runs has with other content."""
    versions = Counter(one.name for one in definitions.values())
    found = {name: one for name, one in definitions.items() if versions[one.name] == 1}
    own = versioned(main.name, main.version)
    if own in found and parse(found[own].manifest).to_json() != main.to_json():
        del found[own]
    return found


def _same(one: AgentDefinition | None, other: AgentDefinition) -> bool:
    """Whether they are published alike: their code may differ."""
    return one is not None and (one is other or one.manifest == other.manifest)


def _publish(store: Store, org_id: str, rules: PublishRules, definitions: Definitions) -> None:
    if not definitions:
        return
    with store.begin() as tx:
        for definition in in_order(definitions.values()):
            agents.publish(tx, org_id, parse(definition.manifest), shared=True, rules=rules)
