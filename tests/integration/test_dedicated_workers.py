"""A dedicated worker runs its own Python agents and leaves everything else to others."""

from __future__ import annotations

from typing import Any

import pytest

from runyard import Context, authoring
from runyard_common.agents.queries import agents
from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service.agents import publish, resolve
from runyard_common.broker.application import (
    DEDICATED,
    DELIVERIES,
    RUNS,
    application,
    consume,
    consume_nothing,
)
from runyard_common.database.rows import OrgScope
from runyard_common.runs.queries import pending, workers
from runyard_common.runs.queries.pending import Having
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service.claims import Claim, claim
from runyard_common.settings import Settings
from runyard_common.values.errors import NotFound
from runyard_common.values.ids import uuid7
from runyard_workers.agent_code import catalogue
from tests.installation import Installation

pytestmark = pytest.mark.anyio


async def greet(ctx: Context, args: dict[str, Any]) -> str:
    """Greets."""
    return "hello"


def _declared(site: Installation) -> str:
    name = f"@test/declared_{uuid7()[-6:]}"
    manifest = parse({"name": name, "version": "1.0.0", "instructions": "Greet."})
    site.transact(lambda tx: publish(tx, site.org, manifest, shared=True))
    return name


@pytest.mark.parametrize("lanes", [1, 3])
async def test_a_dedicated_worker_claims_runs_of_its_agents_alone(database_url: str, lanes: int) -> None:
    async with Installation(database_url) as site:
        declared, mine = _declared(site), site.publish(greet)
        orgs = [site.org, *(uuid7() for _ in range(lanes - 1))]
        for_any = [await site.submit(declared, message="Hello.", org_id=org) for org in orgs]
        for_it = [await site.submit(mine, {}, org_id=org) for org in orgs]
        await site.engine(agents=[f"{mine}@1.0.0"], dedicated=True)
        for task_id in for_it:
            assert (await site.ended(task_id)).status is Status.COMPLETED
        # They came first in each lane, so that any claim but its own would have had them.
        assert [site.task(task_id).status for task_id in for_any] == [Status.PENDING] * lanes


@pytest.mark.parametrize("agents_of_it", [1, 100])
async def test_a_dedicated_claim_looks_for_few_agents_and_for_many(
    database_url: str, agents_of_it: int
) -> None:
    async with Installation(database_url) as site:
        declared, mine = _declared(site), site.publish(greet)
        names = (f"{mine}@1.0.0", *(f"@test/other_{place}@1.0.0" for place in range(agents_of_it - 1)))
        await site.submit(declared, message="Hello.")
        wanted = await site.submit(mine, {})
        worker_id = uuid7()
        site.transact(lambda tx: workers.enlist(tx, worker_id, "host", 1, 5, 60.0, names))
        having = Having(worker_id, names, dedicated=True)
        with site.store.read() as conn:
            assert pending.any_left(conn, [], having)
            assert not pending.any_left(conn, [wanted], having)
            assert pending.any_left(conn, [wanted], Having(worker_id, names))
        batch = await site.writer.call(claim, Claim(worker_id, 5, names, dedicated=True))
        assert [one.task.id for one in batch.claimed] == [wanted]


def test_a_dedicated_worker_takes_no_wake_up_from_others() -> None:
    def queues(dedicated: bool) -> set[str]:
        app = application(Settings(broker_url="redis://localhost"))
        if dedicated:
            consume_nothing(app)
        else:
            consume(app, "some-installation")
        return set(app.amqp.queues.consume_from)

    assert queues(dedicated=True) == {DEDICATED}
    assert queues(dedicated=False) > {RUNS, DELIVERIES}


async def test_agents_brought_to_an_organisation_are_seen_by_it_alone(database_url: str) -> None:
    async with Installation(database_url) as site:
        name = f"@test/own_{uuid7()[-6:]}"
        authoring.agent(name)(greet)
        definition = authoring.every_version()[f"{name}@1.0.0"]
        org, other = uuid7(), uuid7()
        for _ in range(2):
            assert catalogue.bring_to(site.store, org, [definition], [], refused=[]) == [f"{name}@1.0.0"]
        assert catalogue.versions_of(site.store, org, [definition]) == (f"{name}@1.0.0",)
        with site.store.read() as conn:
            found = resolve(OrgScope(conn, org), name)
            assert (found.agent.shared, found.ref.required) == (False, f"{name}@1.0.0")
            assert agents.by_name(OrgScope(conn, other), name) is None
            with pytest.raises(NotFound):
                resolve(OrgScope(conn, other), name)
