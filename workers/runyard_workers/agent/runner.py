"""The runner of declared agents: one per worker process, called once per attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store
from runyard_common.datastores.service.datastores import INDEX_DOCUMENT
from runyard_common.outbound import GuardedClient, OutboundPolicy
from runyard_common.settings import Settings
from runyard_workers.agent.equipment import Equipment
from runyard_workers.agent.indexing import index
from runyard_workers.agent.loop.models import ProviderModels
from runyard_workers.agent.loop.prices import Prices
from runyard_workers.agent.loop.run import Run
from runyard_workers.agent.shared import Shared
from runyard_workers.attempts.attempt import Attempt
from runyard_workers.attempts.children import Children
from runyard_workers.attempts.context import RunContext
from runyard_workers.attempts.executor import Result
from runyard_workers.documents.extraction_pool import ExtractionPool

if TYPE_CHECKING:
    from runyard_workers.agent.loop.models import Models


class DeclaredRunner:
    """Runs declared agents. Create it on the event loop that runs them."""

    def __init__(
        self, settings: Settings, store: Store, writer: GroupCommit, models: Models | None = None
    ) -> None:
        """`models` replaces the providers' models (tests give scripted ones).

        Raises `ConfigurationError` for prices or allowed hosts that cannot be read.
        """
        policy = OutboundPolicy.of(settings)
        self._shared = Shared(
            settings,
            store,
            models or ProviderModels(settings),
            Prices(settings.model_prices),
            policy,
            GuardedClient(policy, max_answer_bytes=settings.max_answer_bytes),
            ExtractionPool(),
            Children(store),
        )

    async def __call__(self, attempt: Attempt, context: RunContext) -> Result:
        """Run one attempt to its result. Raises `Suspended`, `Cancelled`, or the error that ends it."""
        if (attempt.manifest.get("config") or {}).get("builtin") == INDEX_DOCUMENT:
            return await index(self._shared, attempt, context)
        equipment = Equipment(self._shared, attempt)
        try:
            return await Run(self._shared, attempt, context, equipment).go()
        finally:
            await equipment.aclose()

    async def aclose(self) -> None:
        """Close connections and child processes."""
        await self._shared.models.aclose()
        await self._shared.guard.aclose()
        self._shared.files.close()
