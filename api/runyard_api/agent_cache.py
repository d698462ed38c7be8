"""Agents as runs need them, cached for a moment, so that accepting a run reads nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from runyard_api.batched_reads import Reader
from runyard_common.agents.service import agents
from runyard_common.agents.service.agents import AgentRecord
from runyard_common.database.rows import OrgScope
from runyard_common.values.errors import RunyardError

#: How late a change made by another process may be seen, in seconds.
REMEMBERED: Final = 1.0
_MOST_REMEMBERED: Final = 5_000
_Asked = tuple[str, str, str | None]  # organisation, name, version


class AgentCache:
    """Finds agents by any of their names. Belongs to one event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[_Asked, tuple[AgentRecord, float]] = {}

    async def find(self, org_id: str, name: str, version: str | None = None) -> AgentRecord:
        """What an organisation calls `name`; `NotFound` agent_not_found or version_not_found."""
        asked = (org_id, name, version)
        known = self._known.get(asked)
        now = time.monotonic()
        if known is not None and known[1] > now:
            return known[0]
        found = await self._reader.call(_resolve, asked)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[asked] = (found, now + REMEMBERED)
        return found

    def forget(self) -> None:
        """Look every agent up again: this process has changed one."""
        self._known.clear()


def _resolve(conn: Connection, asked: Sequence[_Asked]) -> list[AgentRecord]:
    found: list[AgentRecord | RunyardError] = []
    for org_id, name, version in asked:
        try:
            found.append(agents.resolve(OrgScope(conn, org_id), name, version))
        except RunyardError as refusal:
            found.append(refusal)
    return found  # type: ignore[return-value] # the reader raises the refusals
