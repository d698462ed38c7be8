"""Several processes publish at once, as workers do that start together on an empty database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents, drafts
from runyard_common.agents.service.drafts import DraftRequest
from runyard_common.database import migrate
from runyard_common.database.engine import Database
from runyard_common.database.transaction import Store
from runyard_common.values.errors import Conflict
from runyard_common.values.ids import uuid7

CROWD = 4


def test_workers_that_start_together_publish_the_same_agents_once(database_url: str) -> None:
    manifests = [parse({"name": f"@test/agent{n}", "version": "1.0.0", "kind": "python"}) for n in range(5)]
    db = Database(database_url)
    migrate.upgrade(db)
    store, org, start = Store(db), uuid7(), Barrier(CROWD)

    def publish(_: int) -> list[str]:
        start.wait()
        with store.begin() as tx:
            return [agents.publish(tx, org, m, by="system", shared=True).version.id for m in manifests]

    with ThreadPoolExecutor(CROWD) as crowd:
        first, *others = crowd.map(publish, range(CROWD))
    db.close()
    assert len(set(first)) == len(manifests)
    assert all(other == first for other in others)


def test_of_two_callers_who_want_a_name_one_gets_it_and_the_other_is_refused(database_url: str) -> None:
    db = Database(database_url)
    migrate.upgrade(db)
    store, org, start = Store(db), uuid7(), Barrier(CROWD)

    def create(_: int) -> Any:
        start.wait()
        try:
            with store.begin() as tx:
                return drafts.create(tx, org, DraftRequest(name="Wanted"), "key:test").name
        except Conflict as refused:
            return refused.code

    with ThreadPoolExecutor(CROWD) as crowd:
        codes = sorted(crowd.map(create, range(CROWD)))
    db.close()
    assert codes == ["@default/wanted"] + ["name_taken"] * (CROWD - 1)
