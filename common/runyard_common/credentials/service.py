"""Re-sealing stored secrets with the first key, so that an old `RUNYARD_SECRET_KEY` can go."""

from __future__ import annotations

from collections.abc import Iterator

from runyard_common.credentials.queries import sealed
from runyard_common.credentials.queries.sealed import Renewed
from runyard_common.credentials.rules.sealing import SealBroken, Sealer
from runyard_common.database.transaction import Store


def reseal(store: Store, sealer: Sealer) -> Iterator[Renewed]:
    """Seal every stored secret with the first key; what became of each column, as it is done."""
    for column in sealed.columns():
        yield sealed.renew(store, column, sealer.renew, SealBroken)
