"""The steps of a run over HTTP, running it again from one of them, and lists of runs that describe themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runyard import Context
from tests.api_server import settled
from tests.integration.test_native_human_tasks import installed, run

pytestmark = pytest.mark.anyio


class Baker:
    """An agent that counts what it does."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def bake(self, ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
        """Mixes, asks, and bakes in two parts."""
        mixed = await ctx.step("mix", self._work, "mix")
        colour = await ctx.ask("Which glaze?", options=["red", "blue"])

        async def oven() -> str:
            await ctx.step("heat", self._work, "heat")
            return str(await ctx.step("brown", self._work, "brown"))

        browned = await ctx.step("oven", oven)
        return {
            "mixed": mixed,
            "browned": browned,
            "glaze": colour,
            "size": len(await ctx.step("box", self._box)),
        }

    def _work(self, name: str) -> str:
        self.did.append(name)
        return f"{name} {self.did.count(name)}"

    def _box(self) -> str:
        self.did.append("box")
        return "x" * 20_000


async def test_steps_have_times_and_a_run_goes_on_from_one_of_them(tmp_path: Path, database_url: str) -> None:
    baker = Baker()
    async with installed(tmp_path, database_url) as (_, site, client):
        task_id = await run(client, site.publish(baker.bake), args={"flour": 2})
        await settled(client, task_id, "waiting_for_input")
        early = await client.post(f"/tasks/{task_id}/retry", json={"from_step": "mix#1"})
        assert (early.status_code, early.json()["code"]) == (409, "not_ended")
        await client.post(f"/tasks/{task_id}/message", json={"message": "red"})
        assert (await settled(client, task_id))["output"]["size"] == 20_000
        page = (await client.get(f"/tasks/{task_id}/steps?limit=2")).json()
        assert (page["has_more"], page["next_after"]) == (True, page["data"][-1]["pos"])
        rest = (await client.get(f"/tasks/{task_id}/steps?after={page['next_after']}")).json()
        steps = {step["name"]: step for step in page["data"] + rest["data"]}
        assert list(steps) == ["mix", "oven", "heat", "brown", "box"]
        assert (steps["mix"]["value"], steps["mix"]["kind"], steps["mix"]["state"]) == (
            "mix 1",
            "step",
            "done",
        )
        assert [steps[key]["inside"] for key in ("oven", "heat")] == [None, "oven#1"]
        assert all(step["began_at"] <= step["ended_at"] for step in steps.values())
        assert (steps["box"]["value"], steps["box"]["value_bytes"]) == (None, 20_002)

        async def again(**body: Any) -> dict[str, Any]:
            baker.did.clear()
            answer = await client.post(f"/tasks/{task_id}/retry", json=body)
            assert answer.status_code == 202, answer.text
            return await settled(client, answer.json()["task_id"], "completed", "waiting_for_input")

        # What it is inside of begins again, and takes over what that had done before.
        assert (await again(from_step=steps["brown"]["key"]))["output"]["glaze"] == "red"
        assert baker.did == ["brown", "box"]
        # What was asked after the step is asked again.
        asked = await again(from_step="mix#1")
        assert (asked["status"], baker.did) == ("waiting_for_input", ["mix"])
        for body, code in (
            ({"from_step": "cool#1"}, "unknown_step"),
            ({"from_step": "mix#1", "fresh": True}, "invalid_field"),
        ):
            refused = await client.post(f"/tasks/{task_id}/retry", json=body)
            assert (refused.status_code, refused.json()["code"]) == (400, code)
            if code == "unknown_step":
                assert f"GET /tasks/{task_id}/steps" in refused.text


async def test_a_list_describes_runs_and_takes_them_by_id_and_by_maker(tmp_path: Path) -> None:
    async def echo(ctx: Context, args: dict[str, Any]) -> Any:
        return args

    async with installed(tmp_path) as (_, site, client):
        name = site.publish(echo)
        ids = [await run(client, name, args={"n": n}) for n in range(3)]
        ids.append(await run(client, name, query="Bake a cake"))
        ids.append(await run(client, name, args={"text": "x" * 9_000}))
        for task_id in ids:
            await settled(client, task_id)
        rows = {row["task_id"]: row for row in (await client.get("/api/v1/tasks")).json()["data"]}
        shown = [(rows[task_id]["title"], rows[task_id]["preview"]) for task_id in ids[2:]]
        assert shown == [(None, '{"n":2}'), ("Bake a cake", None), (None, None)]
        first = rows[ids[0]]
        assert (first["attempt"], first["cost"], first["parent_id"]) == (1, 0, None)
        assert first["created_at"] <= first["started_at"] <= first["finished_at"]
        chosen = {"ids": f"{ids[2]},{ids[0]}"}
        found = (await client.get("/api/v1/tasks", params=chosen)).json()["data"]
        assert [row["task_id"] for row in found] == [ids[2], ids[0]]
        mine = {"created_by": first["created_by"], "limit": 2}
        page = (await client.get("/api/v1/tasks", params=mine)).json()
        assert ([row["task_id"] for row in page["data"]], page["has_more"]) == (ids[:2:-1], True)
        others = await client.get("/api/v1/tasks", params={"created_by": "user:unknown"})
        assert others.json()["data"] == []
        for wrong in ("", "x", ",".join(ids[:1] * 101)):
            refused = await client.get("/api/v1/tasks", params={"ids": wrong})
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid_field"), wrong
        waiting = await client.post("/api/v1/tasks/cancel", json={"filter": chosen})
        assert waiting.json()["count"] == 0  # they have ended


async def test_only_the_chosen_runs_are_run_again(tmp_path: Path) -> None:
    async def fails(ctx: Context, args: dict[str, Any]) -> Any:
        raise ValueError

    async with installed(tmp_path) as (_, site, client):
        name = site.publish(fails)
        ids = [await run(client, name) for _ in range(3)]
        for task_id in ids:
            await settled(client, task_id, "failed")
        answer = await client.post("/api/v1/tasks/retry", json={"filter": {"ids": ids[1]}})
        made = [(await client.get(f"/tasks/{one}")).json() for one in answer.json()["task_ids"]]
        assert [task["retry_of"] for task in made] == [ids[1]]
