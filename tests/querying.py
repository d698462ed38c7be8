"""Queries of a datastore as a run makes them, without the run: through the guard, the relay and the child."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runyard_common.outbound import OutboundPolicy, Resolver
from runyard_workers.agent.sql import Caps, Rows, open_source

OPEN = OutboundPolicy(allow_private=True)


def ask(
    connection: str,
    sql: str,
    parameters: Sequence[Any] = (),
    *,
    caps: Caps | None = None,
    policy: OutboundPolicy = OPEN,
    folder: Path = Path("nowhere"),
    own_server: str | None = None,
    resolver: Resolver | None = None,
) -> Rows:
    """The rows of one query; `QueryFailed` as the agent gets it."""

    async def run() -> Rows:
        source = open_source(connection, policy, folder, own_server, resolver)
        return await source.query(sql, parameters, caps or Caps(), asyncio.to_thread)

    return asyncio.run(run())
