"""Secrets of an organisation: set by admins, shown to none, read by its agents, in nothing that a run leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runyard import AgentError, BlockingContext, Context, agent
from runyard.testing import run
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.credentials.service import reseal
from runyard_common.identity.queries import secrets
from runyard_common.identity.rules.roles import Role
from tests import process_agents
from tests.api_server import Api, settled, workers_of
from tests.members import key, organisation

PROCESSES = process_agents.__name__  # imported: its agents are declared
SECRET = 'correct "horse"\nbattery staple of several lines'


@agent("@secrets/leaks")
async def leaks(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    secret = await ctx.secret("TOKEN")
    assert secret == SECRET
    returned = await ctx.step("returns it", lambda: {"token": secret})
    await ctx.emit("seen", {"at": [secret]})
    await ctx.log(f"a line with {secret}")
    await ctx.token(f"a token with {secret}")
    await ctx.state.set("kept", secret)
    print("printed", json.dumps(secret))
    if args.get("ask"):
        await ctx.ask(f"Is it {secret}?")
    if args.get("fail"):
        raise AgentError(f"not {secret}", token=secret)
    if args.get("raise"):
        await ctx.step("raises", _raises, secret)
    return {"returned": returned, "kept": await ctx.state.get("kept"), "mine": secret}


@agent("@secrets/leaks_in_a_thread")
def leaks_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> str:
    return f"{ctx.secret('TOKEN')} {ctx.step('returns it', lambda: ctx.secret('TOKEN'))}"


def _raises(secret: str) -> None:
    raise ValueError(f"not {secret}")


@pytest.mark.parametrize("how", ["return", "fail", "raise", "ask"])
def test_a_secret_is_in_nothing_that_a_run_leaves_behind(how: str) -> None:
    result = run(leaks, {how: True}, secrets={"TOKEN": SECRET}, answers=["yes"], crash_after=[2])
    assert result.status == ("failed" if how in ("fail", "raise") else "completed")
    left = json.dumps([result.output, result.error, [dict(e.data) for e in result.events], result.asked,
                       result.tokens, result.state])  # fmt: skip
    for part in ("horse", "battery"):
        assert part not in left
    assert "[redacted]" in left
    if how == "return":
        assert result.output == {
            "returned": {"token": "[redacted]"},
            "kept": "[redacted]",
            "mine": "[redacted]",
        }


def test_a_plain_agent_reads_secrets_too() -> None:
    assert run(leaks_in_a_thread, secrets={"TOKEN": SECRET}).output == "[redacted] [redacted]"


def test_a_secret_that_is_not_set_is_named() -> None:
    error = run(leaks).error
    assert error is not None
    assert error["code"] == "secret_not_found"
    assert "ctx.secret 'TOKEN'" in error["message"]


def test_a_process_of_an_agent_reads_a_secret_and_has_none_in_its_environment() -> None:
    result = run("@process/secret", secrets={"TOKEN": SECRET}, processes=True)
    assert (result.error, result.output) == (
        None,
        {"read": True, "in_environment": False, "shown": "[redacted]"},
    )
    assert SECRET not in "".join(os.environ.values())


@pytest.mark.anyio
async def test_secrets_are_set_rotated_listed_and_deleted_and_runs_read_what_is_set(
    tmp_path: Path, database_url: str
) -> None:
    async def gives_its_length(ctx: Context, args: dict[str, Any]) -> int:
        return len(await ctx.secret("TOKEN"))

    with Api(tmp_path / "home", database_url) as api:
        async with workers_of(api) as site, api.async_client() as client:
            name = site.publish(gives_its_length)
            lengths = []
            for value in ("first value", "the second value"):
                answer = await client.put("/api/v1/secrets/TOKEN", json={"value": value})
                assert (answer.status_code, answer.json()["name"]) == (200, "TOKEN")
                assert value not in answer.text
                made = await client.post(f"/api/v1/agents/{name}/run", json={"args": {}})
                lengths.append((await settled(client, made.json()["task_id"]))["output"])
            assert lengths == [len("first value"), len("the second value")]
            listed = (await client.get("/api/v1/secrets")).json()["data"]
            assert [set(one) for one in listed] == [{"name", "created_at", "updated_at", "updated_by"}]
            audit = (await client.get("/api/v1/audit", params={"action": "secret"})).text
            assert [word in audit for word in ("secret.set", "secret.rotate", "value")] == [True, True, False]
            assert (await client.delete("/api/v1/secrets/TOKEN")).status_code == 204
            gone = await client.delete("/api/v1/secrets/TOKEN")
            assert (gone.status_code, gone.json()["code"]) == (404, "secret_not_found")


def test_who_may_set_secrets_and_what_is_refused(tmp_path: Path, database_url: str) -> None:
    with Api(tmp_path / "home", database_url) as api:
        org_id = organisation(api)
        for role, status in ((Role.MEMBER, 403), (Role.VIEWER, 403), (Role.ADMIN, 200)):
            with api.client(key(api, org_id, role)) as client:
                answers = [
                    client.put("/api/v1/secrets/TOKEN", json={"value": "a secret value"}),
                    client.get("/api/v1/secrets"),
                ]
                assert [answer.status_code for answer in answers] == [status, status], role
        with api.client(key(api, org_id, Role.ADMIN)) as client:
            for name, value in (("TOKEN", "short!"), ("1x", "a secret value"), ("TOKEN", "x" * 65_537)):
                refused = client.put(f"/api/v1/secrets/{name}", json={"value": value})
                assert refused.status_code == 400, (name, len(value))
                assert value not in refused.text
        with api.client(key(api, organisation(api), Role.ADMIN)) as other:
            assert other.get("/api/v1/secrets").json()["data"] == []
        with api.state.store.read() as conn:
            stored = secrets.sealed(conn, org_id, "TOKEN")
            everything = conn.execute(text("SELECT data FROM audit")).scalars().all()
        assert stored is not None
        assert b"a secret value" not in stored
        assert "a secret value" not in str(everything)
        old, new = api.state.sealer, new_key()
        both = Sealer(f"{new},{old_key(tmp_path)}")
        assert any(column.sealed for column in reseal(api.state.store, both))
        with api.state.store.read() as conn:
            again = secrets.sealed(conn, org_id, "TOKEN")
        assert again is not None
        assert Sealer(new).open(again) == old.open(stored) == "a secret value"


def old_key(home: Path) -> str:
    return (home / "home" / "secret.key").read_text().strip()
