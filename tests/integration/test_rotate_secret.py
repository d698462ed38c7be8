"""The key in the home is replaced while everything runs: no value is unreadable at any moment, nor after a kill."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update

from runyard_common.credentials import service
from runyard_common.credentials.queries import key_files, sealed
from runyard_common.credentials.queries.sealed import Renewed
from runyard_common.credentials.rules.sealing import SealBroken, Sealer, new_key
from runyard_common.credentials.service import SecretsNotOpened, pending, rotate
from runyard_common.database.transaction import Store
from runyard_common.settings import Settings
from runyard_common.values.errors import Conflict, InvalidRequest
from tests import databases
from tests.integration.test_reseal import _put, _values

COLUMNS = [column for column in sealed.columns() if str(column) in ("endpoints.secret", "tasks.secrets")]


class Killed(BaseException):
    """Ends the call as a kill does: no error of the product's is one."""


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    db = databases.opened(database_url)
    yield Store(db)
    db.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    key_files.secret_key(settings)
    return settings


def opened(store: Store, sealer: Sealer) -> list[Any]:
    """Every stored secret, as a process with this sealer has it."""
    return sorted(sealer.open(value) for column in COLUMNS for value in _values(store, column))


def text(settings: Settings, name: str = key_files.SECRET_KEY) -> str:
    return (settings.home / name).read_text().strip()


def test_a_rotation_that_is_killed_after_each_batch_loses_nothing_and_is_completed(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "BATCH", 2)
    running, first = key_files.sealer(settings), text(settings)
    wanted = []
    for number, column in enumerate(COLUMNS):
        for row in range(3):
            wanted.append(10 * number + row)
            _put(store, column, running.seal(wanted[-1]))
    kills = 0
    while True:
        left = kills + 1  # one batch further than the time before

        def kill(done: Renewed) -> None:
            nonlocal left
            left -= 1
            started_now = key_files.sealer(settings)
            assert opened(store, running) == opened(store, started_now) == wanted
            if not left:
                raise Killed

        try:
            rotated = rotate(store, settings, 0, kill)
            break
        except Killed:
            kills += 1
            assert text(settings).endswith(f",{first}"), "one new key, and the old one is still there"
            assert text(settings).count(",") == 1
            if kills == 1:
                wanted.append(100)
                _put(store, COLUMNS[1], running.seal(100))
    assert kills >= 2 * len(COLUMNS), "two batches of each column, and further looks"
    assert rotated.old_keys is not None
    assert text(settings, "secret.key.old") == first
    assert "," not in text(settings)
    only_new = Sealer(text(settings))
    assert opened(store, only_new) == opened(store, running) == wanted
    assert running.keys[0] == text(settings), "a process that ran all the time seals with the new key"
    assert not [column for column in pending(store, only_new) if column.sealed or column.broken]


def test_what_a_process_stores_late_with_the_old_key_is_resealed_before_that_goes(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = COLUMNS[0]
    late = key_files.sealer(settings).seal("late")
    _put(store, column, key_files.sealer(settings).seal("early"))
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            _put(store, column, late)
        else:  # the time is over: the file was changed long ago
            os.utime(settings.home / key_files.SECRET_KEY, (0, 0))

    monkeypatch.setattr(service, "time", SimpleNamespace(time=time.time, sleep=pause))
    assert rotate(store, settings, 60).sealed == 2
    assert len(waited) == 2
    assert opened(store, Sealer(text(settings))) == ["early", "late"]


def test_a_secret_that_no_key_opens_keeps_the_old_key_and_is_named(store: Store, settings: Settings) -> None:
    column, first = COLUMNS[0], text(settings)
    _put(store, column, Sealer(new_key()).seal("strange"))
    _put(store, column, Sealer(first).seal("ours"))
    with pytest.raises(SecretsNotOpened, match=f"of {column.table.name}/"):
        rotate(store, settings, 0)
    assert text(settings).endswith(f",{first}")
    assert not (settings.home / "secret.key.old").exists()
    assert sum(len(found.broken) for found in pending(store, key_files.sealer(settings))) == 1


def test_one_rotation_at_a_time(store: Store, settings: Settings) -> None:
    _put(store, COLUMNS[0], key_files.sealer(settings).seal("x"))
    refused: list[str] = []

    def second(_: Renewed) -> None:
        with pytest.raises(Conflict) as error:
            rotate(store, settings, 0)
        refused.append(error.value.code)

    rotate(store, settings, 0, second)
    assert set(refused) == {"rotation_under_way"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_that_is_a_setting_needs_its_successor_there_and_stays_in_its_place(
    store: Store, tmp_path: Path
) -> None:
    old, new = new_key(), new_key()
    _put(store, COLUMNS[0], Sealer(old).seal("x"))
    with pytest.raises(InvalidRequest, match="old,new") as refused:
        rotate(store, Settings(home=tmp_path, secret_key=old))
    assert refused.value.code == "secret_key_is_a_setting"
    assert rotate(store, Settings(home=tmp_path, secret_key=f"{new},{old}")).sealed == 1
    assert opened(store, Sealer(new)) == ["x"]
    assert not list(tmp_path.glob("secret.key*"))


def test_a_running_process_follows_the_file_and_keeps_what_it_knew(settings: Settings) -> None:
    running = key_files.sealer(settings)
    first, second = text(settings), new_key()
    by_first = running.seal("first")
    for unusable in ("", "short", "a,b"):
        key_files.write(settings.home / key_files.SECRET_KEY, unusable, replace=True)
        assert Sealer(first).open(running.seal("x")) == "x", "a broken file changes nothing"
    key_files.write(settings.home / key_files.SECRET_KEY, second, replace=True)
    assert running.open(Sealer(second).seal("second")) == "second"
    assert Sealer(second).open(running.seal("x")) == "x"
    assert running.open(by_first) == "first", "it may be in this process's memory"
    (settings.home / key_files.SECRET_KEY).unlink()
    assert Sealer(second).open(running.seal("x")) == "x"
    with pytest.raises(SealBroken):
        running.open(Sealer(new_key()).seal("strange"))


def test_every_value_that_a_rotation_changes_was_the_one_it_read(store: Store, settings: Settings) -> None:
    column = COLUMNS[0]
    running = key_files.sealer(settings)
    _put(store, column, running.seal("old"))
    stored = select(column)

    def changed_meanwhile(_: Renewed) -> None:
        with store.begin() as tx:
            if running.open(tx.conn.execute(stored).scalar_one()) == "old":
                tx.conn.execute(update(column.table).values({column.name: running.seal("new")}))

    rotate(store, settings, 0, changed_meanwhile)
    assert opened(store, Sealer(text(settings))) == ["new"]
