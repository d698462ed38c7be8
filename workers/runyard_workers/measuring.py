"""The metrics of a worker: what it counts, and what is asked of it at each scrape."""

from __future__ import annotations

from collections.abc import Callable

from runyard_common.database.start_checks import Process
from runyard_common.metrics import counting, exposure, families
from runyard_common.metrics.counting import watch_loop
from runyard_common.settings import Settings
from runyard_workers.slots import Slots

__all__ = ["begin", "watch_loop"]


def begin(settings: Settings, slots: Slots, leaves: Callable[[], bool]) -> None:
    """Count from here on, and show it on the port for metrics. `leaves`: whether it claims nothing more."""
    counting.begin(Process.WORKER)
    families.SLOTS.set(slots.limit)
    families.SLOTS_IN_USE.set_function(lambda: slots.in_use)
    families.DRAINING.set_function(lambda: float(slots.paused or leaves()))
    exposure.expose(Process.WORKER, exposure.registry_of(Process.WORKER), settings)
