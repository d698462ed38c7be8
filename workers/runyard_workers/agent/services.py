"""What the runs of one worker process share: settings, the store, guarded connections, the file reader."""

from __future__ import annotations

from dataclasses import dataclass

from runyard_common.database.transaction import Store
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.settings import Settings
from runyard_workers.attempts.children import Children
from runyard_workers.documents.extraction_pool import ExtractionPool


@dataclass(frozen=True, slots=True)
class Services:
    """One per process and event loop."""

    settings: Settings
    store: Store
    policy: OutboundPolicy
    guard: GuardedClient
    files: ExtractionPool
    children: Children
