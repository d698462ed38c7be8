"""What a scheduler process is made of."""

from __future__ import annotations

from common.broker.application import application
from common.broker.doorbell import Doorbell
from common.domain.caps import Caps
from common.domain.sealing import Sealer
from common.files import FileStore
from common.services import identity
from common.services.aftermath import Aftermath
from common.services.runs import RunRules
from common.settings import Settings
from common.store import outbox
from common.store.database import Database, Durability
from common.store.group_commit import GroupCommit
from common.store.transaction import Store
from common.stream import Live
from scheduler.duties import Admit, Deliver, Duty, Expire, Fire, Prune, Relay, Rescue, Sweep


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
