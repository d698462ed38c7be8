"""Agents as runs need them, remembered until their organisation's configuration changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from runyard_api.batched_reads import Reader
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.config_memory import Known
from runyard_common.database.rows import OrgScope
from runyard_common.identity.queries import config_versions
from runyard_common.values.errors import RunyardError

_Asked = tuple[str, str, str | None]  # organisation, name, version
_AGENT: Final = "agent"


class AgentCache:
    """Finds agents by any of their names. Belongs to one event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._memory = reader.db.memory

    async def find(self, org_id: str, name: str, version: str | None = None) -> AgentRecord:
        """What an organisation calls `name`; `NotFound` agent_not_found or version_not_found.

        As it is at the number of the configuration that this process saw last: see `Call.judged_at`.
        """
        key = (_AGENT, name, version)
        known: Known[AgentRecord] | None = self._memory.get(org_id, key)
        if known is None:
            known = await self._reader.call(_resolve, (org_id, name, version))
            self._memory.put(org_id, key, known)
        return known.value


def _resolve(conn: Connection, asked: Sequence[_Asked]) -> list[Known[AgentRecord]]:
    numbers = config_versions.numbers(conn, {org_id for org_id, _, _ in asked})
    found: list[Known[AgentRecord] | RunyardError] = []
    for org_id, name, version in asked:
        try:
            found.append(Known(numbers[org_id], agents.resolve(OrgScope(conn, org_id), name, version)))
        except RunyardError as refusal:
            found.append(refusal)
    return found  # type: ignore[return-value] # the reader raises the refusals
