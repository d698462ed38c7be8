"""The agent that answers calls which name none: published for every organisation on first use.

An organisation that publishes an agent of the same name gives its own callers another default.
"""

from __future__ import annotations

from typing import Final

import nodesemver

from runyard_common.agents.rules.manifests import Manifest
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.transaction import Tx

NAME: Final = "@runyard/assistant"
MANIFEST: Final = Manifest.model_validate(
    {
        "name": NAME,
        "version": "1.0.0",
        "description": "Does what its caller's message says, with the tools the call brings.",
        "instructions": "You do the task the user gives you. Use your tools where they help, keep to the rules you "
        "are given, and answer plainly with the result.",
        "functional": False,
        "timeout": 3600,
    }
)


def publish(tx: Tx, org_id: str) -> AgentRecord:
    """Publish this version of the default agent for everybody; `org_id` is the operator's organisation."""
    return agents.publish(tx, org_id, MANIFEST, by="system", shared=True)


def is_outdated(found: AgentRecord) -> bool:
    """Whether an older version of the server published this one."""
    return bool(found.agent["shared"]) and bool(nodesemver.lt(found.ref.version, MANIFEST.version, False))
