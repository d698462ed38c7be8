"""Imports the libraries of the clients that an agent asks for before its code runs on the loop, in a thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Final

from runyard.adapters._named_clients import import_clients
from runyard.authoring import AgentDefinition
from runyard_workers.isolation.threads import DaemonThreads

#: One thread: imports wait for each other's locks anyway.
_threads: Final = DaemonThreads(1, "imports")
_imports: Final[dict[tuple[str, ...], Future[None]]] = {}


async def imported(definition: AgentDefinition) -> None:
    """Wait until what the agent's clients need is there; runs that begin meanwhile wait for the same import."""
    vendors = definition.clients
    if not vendors:
        return
    if vendors not in _imports:
        _imports[vendors] = _threads.submit(import_clients, vendors)
    if not _imports[vendors].done():
        await asyncio.shield(asyncio.wrap_future(_imports[vendors]))
