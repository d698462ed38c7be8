"""What a commit of SQLite waits for: the disk, where it must survive a power cut, and nothing in a disposable file."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard_common.database.engine import Database, Durability

OFF, NORMAL, FULL = 0, 1, 2


@pytest.mark.parametrize(
    ("disposable", "durability", "level"),
    [
        (False, Durability.DISK, FULL),
        (False, Durability.PROCESS, NORMAL),
        (False, Durability.NONE, NORMAL),
        (True, Durability.DISK, OFF),
        (True, Durability.NONE, OFF),
    ],
)
def test_a_commit_waits_for_the_disk_where_it_must_survive_a_power_cut(
    tmp_path: Path, disposable: bool, durability: Durability, level: int
) -> None:
    db = Database(f"sqlite:///{tmp_path / 'runyard.db'}", disposable=disposable)
    for _ in range(2):  # of the pool's connections, a new one and a used one
        with db.begin(durability) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == level
    own = db.own_connection()
    assert own is not None
    with db.begin(Durability.DISK, own) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == (OFF if disposable else FULL)
    own.close()
    db.close()
