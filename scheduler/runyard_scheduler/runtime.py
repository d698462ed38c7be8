"""What a scheduler process does."""

from __future__ import annotations

from runyard_common.database.start_checks import Process
from runyard_common.database.transaction import Store
from runyard_common.files import open_files
from runyard_common.identity.service import identity
from runyard_common.runs.service.runs import RunRules
from runyard_common.runtime import Runtime, open_runtime
from runyard_common.settings import Settings
from runyard_scheduler.duties import Admit, Deliver, Duty, Expire, Fire, Prune, Relay, Rescue, RollUp, Sweep


def open_duties(settings: Settings) -> tuple[Runtime, list[Duty]]:
    """The runtime of a scheduler, and the duties that work on it."""
    runtime = open_runtime(settings, pool_size=4)
    store, notifier = runtime.store, runtime.notifier
    if settings.metrics_listen is not None:
        _measure(settings, store)
    files = open_files(settings.files)
    return runtime, [
        # The providers' keys are the api's and the workers': a schedule's model was judged when it was made.
        Fire(store, RunRules.of(settings, identity.sealer(settings), keyed=False)),
        Rescue(store),
        Admit(store),
        Expire(store),
        Relay(store, notifier),
        Deliver(store, notifier),
        Prune(store, files, settings.retention_days, audit_days=settings.audit_days),
        Sweep(store, files),
        RollUp(store),
    ]


def _measure(settings: Settings, store: Store) -> None:
    """Count, and show it. Its library is loaded only where that is wanted."""
    from runyard_common.metrics import counting, exposure
    from runyard_common.metrics.installation import Installation

    counting.begin(Process.SCHEDULER)
    installation = Installation(store, settings.worker_concurrency)
    exposure.expose(Process.SCHEDULER, exposure.registry_of(Process.SCHEDULER, [installation]), settings)
