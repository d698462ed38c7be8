"""What the runs of one worker process share: models, prices, guarded connections, the file reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runyard_common.database.transaction import Store
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.settings import Settings
from runyard_workers.attempts.children import Children
from runyard_workers.documents.extraction_pool import ExtractionPool

if TYPE_CHECKING:
    from runyard_workers.agent.loop.models import Models
    from runyard_workers.agent.loop.prices import Prices


@dataclass(frozen=True, slots=True)
class Shared:
    """One per process and event loop."""

    settings: Settings
    store: Store
    models: Models
    prices: Prices
    policy: OutboundPolicy
    guard: GuardedClient
    files: ExtractionPool
    children: Children
