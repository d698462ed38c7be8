"""Tokens a minute: a limit counts the model turns of the tasks that it binds, and of no others."""

from __future__ import annotations

from typing import Any

import pytest

from runyard_common.runs.rules.lifecycle import Status
from runyard_common.runs.service import limits
from runyard_common.runs.service.limits import LimitRequest
from runyard_common.tables.query import Turn
from tests.installation import Installation

pytestmark = pytest.mark.anyio


async def _run_a_turn(site: Installation, agent: str, tokens: int, **options: Any) -> None:
    """A run of this agent, and a turn of it just now."""
    task = site.task(await site.submit(agent, **options))
    turn = {
        "task_id": task.id, "key": "turn-1", "org_id": site.org, "agent_id": task.agent_id, "session_id": None,
        "key_id": None, "model": "test:model", "input_tokens": tokens, "output_tokens": 0, "cached_tokens": 0,
        "cost_micros": 0,
    }  # fmt: skip
    site.transact(lambda tx: tx.conn.execute(Turn.__table__.insert(), [turn | {"at": tx.now}]))


@pytest.mark.parametrize(
    ("kind", "selector", "talker", "other"),
    [
        ("agent", "@test/talker", {}, {"agent": "@test/quiet"}),
        ("end_user", "*", {"end_user_id": "eu_ä%_1"}, {"end_user_id": "eu_2"}),
        ("key", "/customer", {"args": {"customer": 'no "7"'}}, {"args": {"customer": "8"}}),
    ],
)
async def test_the_tokens_of_one_do_not_hold_back_another(
    database_url: str, kind: str, selector: str, talker: dict[str, Any], other: dict[str, Any]
) -> None:
    async def conversation(ctx: Any, args: Any) -> None: ...

    async with Installation(database_url) as site:
        for name in ("@test/talker", "@test/quiet"):
            site.publish(conversation, name)
        wanted = LimitRequest(kind, selector, tokens_per_minute=100)
        site.transact(lambda tx: limits.save(tx, site.org, wanted))
        await _run_a_turn(site, "@test/talker", 60, **talker)
        given = {name: value for name, value in other.items() if name != "agent"}
        agent = other.get("agent", "@test/talker")
        await _run_a_turn(site, agent, 60, **given)
        assert site.task(await site.submit("@test/talker", **talker)).status is Status.PENDING  # 60 of 100
        await _run_a_turn(site, "@test/talker", 60, **talker)
        queued = site.task(await site.submit("@test/talker", **talker))
        free = site.task(await site.submit(agent, **given))
        assert (queued.status, free.status) == (Status.QUEUED, Status.PENDING)
