"""What a scheduler process is made of."""

from __future__ import annotations

from runyard_common.broker.application import application
from runyard_common.broker.doorbell import Doorbell
from runyard_common.commit_hooks import Aftermath
from runyard_common.credentials.rules.sealing import Sealer
from runyard_common.database.engine import Database, Durability
from runyard_common.database.group_commit import GroupCommit
from runyard_common.database.transaction import Store
from runyard_common.files import FileStore
from runyard_common.identity.rules.caps import Caps
from runyard_common.identity.service import identity
from runyard_common.runs.queries import outbox
from runyard_common.runs.service.runs import RunRules
from runyard_common.settings import Settings
from runyard_common.stream import Live
from runyard_scheduler.duties import Admit, Deliver, Duty, Expire, Fire, Prune, Relay, Rescue, Sweep


class Runtime:
    """The store, the doorbell and the duties of one scheduler."""

    def __init__(self, settings: Settings) -> None:
        self._db = Database(settings.database, pool_size=4)
        self._live = Live(settings.redis)
        plain = Store(self._db)
        self._bell = Doorbell(
            application(settings), lambda ids: _forget(plain, ids), lambda: identity.installation(plain)
        )
        aftermath = Aftermath(self._live, self._bell)
        self.store = Store(self._db, aftermath, Caps.of(settings))
        self._writer = aftermath.writer = GroupCommit(self.store)
        files = FileStore.from_url(settings.files)
        self.duties: list[Duty] = [
            # The providers' keys are the api's and the workers': a schedule's model was judged when it was made.
            Fire(self.store, RunRules.of(settings, Sealer(identity.secret_key(settings)), keyed=False)),
            Rescue(self.store),
            Admit(self.store),
            Expire(self.store),
            Relay(self.store, self._bell),
            Deliver(self.store, self._bell),
            Prune(self.store, files, settings.retention_days, audit_days=settings.audit_days),
            Sweep(self.store, files),
        ]

    def close(self) -> None:
        """Finish what was begun and close the connections."""
        self._writer.close()
        self._bell.close()
        self._live.close()
        self._db.close()


def _forget(store: Store, ids: list[str]) -> None:
    with store.begin(Durability.NONE) as tx:
        outbox.rung(tx, ids)
