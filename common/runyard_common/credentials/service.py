"""Changing the key that seals stored secrets: all are sealed again with the first key, and the old one can go."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runyard_common.credentials.queries import key_files, sealed
from runyard_common.credentials.queries.sealed import Progress, Renewed
from runyard_common.credentials.rules.sealing import SealBroken, Sealer, new_key, parted
from runyard_common.database.transaction import Store
from runyard_common.settings import Settings
from runyard_common.values.errors import Conflict, InvalidRequest, RunyardError

#: How long after the change of the file a process may still store what it sealed with the old key, in seconds: no
#: statement takes longer (`statement_timeout`).
SETTLE: Final = 60.0
_PAUSE: Final = 0.2


class SecretsNotOpened(RunyardError):
    """There are stored secrets that no key opens."""

    code = "secrets_not_opened"
    status = 500

    def __init__(self, broken: tuple[str, ...]) -> None:
        super().__init__(
            f"{len(broken)} secrets were sealed with a key that is not named: add it, or replace them. "
            f"They are of {', '.join(broken[:5])}{', …' if len(broken) > 5 else ''}."
        )
        self.broken = broken


@dataclass(frozen=True, slots=True)
class Rotated:
    """A change that is complete. `old_keys` is the file that now has the old key; None where keys are a setting."""

    sealed: int
    kept: int
    old_keys: Path | None


def reseal(store: Store, sealer: Sealer, progress: Progress | None = None) -> Iterator[Renewed]:
    """Seal every stored secret with the first key; what became of each column, as it is done."""
    for column in sealed.columns():
        yield sealed.renew(store, column, sealer.renew, SealBroken, progress)


def pending(store: Store, sealer: Sealer) -> list[Renewed]:
    """How many secrets of each column still need an old key (`sealed`), or a key that is not there (`broken`).

    Of an installation with one key, a few hundred rows of each column are looked at, else all.
    """
    batches = 1 if len(sealer.keys) == 1 else None
    return [sealed.look(store, column, sealer.renew, SealBroken, batches) for column in sealed.columns()]


def rotate(
    store: Store, settings: Settings, settle: float = SETTLE, progress: Progress | None = None
) -> Rotated:
    """Replace the key while everything runs. What a killed call has begun, the next one completes.

    A key in the home: a new one is put before the old one, which all processes see when they next seal, or cannot
    open; every secret is sealed again, until none is found `settle` seconds after the change; the old key then goes to
    a file of its own, for backups. Keys of the setting: stored secrets alone, as processes have it from their start.

    Errors: `InvalidRequest` secret_key_is_a_setting for a setting with one key, `Conflict` rotation_under_way,
    `SecretsNotOpened`; the old key then stays.
    """
    if settings.secret_key:
        if len(parted(settings.secret_key)) == 1:
            raise InvalidRequest(
                "RUNYARD_SECRET_KEY has one key. Give every process old,new and start it again, then new,old, and "
                "repeat this command with the latter.",
                code="secret_key_is_a_setting",
                field="RUNYARD_SECRET_KEY",
            )
        return _all_sealed(store, Sealer(settings.secret_key), progress)
    file = settings.home / key_files.SECRET_KEY
    with _locked(file):
        keys = parted(key_files.secret_key(settings))
        if len(keys) == 1:
            keys.insert(0, new_key())
            key_files.write(file, ",".join(keys), replace=True)
        sealer = Sealer(",".join(keys))
        before = _all_sealed(store, sealer, progress)
        while time.time() < file.stat().st_mtime + settle:
            time.sleep(_PAUSE)
        after = _all_sealed(store, sealer, progress)
        old = file.with_name(key_files.OLD_SECRET_KEYS)
        known = (key_files.existing(old) or "").split()
        key_files.write(old, "\n".join(dict.fromkeys([*known, *keys[1:]])), replace=True)
        key_files.write(file, keys[0], replace=True)
    return Rotated(before.sealed + after.sealed, after.kept, old)


def _all_sealed(store: Store, sealer: Sealer, progress: Progress | None) -> Rotated:
    """Reseal until a look at all finds nothing to do."""
    resealed = 0
    while True:
        done = list(reseal(store, sealer, progress))
        broken = tuple(row for column in done for row in column.broken)
        if broken:
            raise SecretsNotOpened(broken)
        found = sum(column.sealed for column in done)
        resealed += found
        if not found:
            return Rotated(resealed, sum(column.kept for column in done), None)


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "The key is being changed by another process. Wait until it has ended.",
                code="rotation_under_way",
            ) from None
        yield
