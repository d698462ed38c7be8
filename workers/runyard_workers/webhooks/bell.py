"""The doorbell as a worker rings it: its own deliverer first, the others when that one has enough to do."""

from __future__ import annotations

from typing import Final

from runyard_common.commit_hooks import Bell
from runyard_workers.webhooks.deliverer import Deliverer

#: Deliveries under way beyond which others are told too. A message to the broker costs more than a wake here.
PLENTY: Final = 32


class NearBell:
    """A `Bell`. Until it has a deliverer it rings for all. Safe to ring from any thread."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self.deliverer: Deliverer | None = None

    def ring(self, outbox_id: str | None = None) -> None:
        """See `Doorbell.ring`."""
        self._bell.ring(outbox_id)

    def ring_deliveries(self) -> None:
        """See `Doorbell.ring_deliveries`."""
        deliverer = self.deliverer
        if deliverer is not None:
            deliverer.wake_threadsafe()
        if deliverer is None or deliverer.draining or deliverer.under_way > PLENTY:
            self._bell.ring_deliveries()
