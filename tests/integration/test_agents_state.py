"""Values that the runs of a session share, and the key of a running step."""

from __future__ import annotations

import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from runyard import AgentError, BlockingContext, Context, agent, current_step
from runyard.errors import ProviderError
from runyard.testing import run
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import prune, workers
from runyard_common.runs.rules.journal import Step
from runyard_common.runs.rules.tasks import Fence
from runyard_common.runs.service import claims, retries
from runyard_common.sessions.queries import state
from runyard_common.sessions.service import state as service
from runyard_common.sessions.service.state import Op
from tests.api_server import Api, settled, workers_of
from tests.installation import Installation

#: A run is made for each of its journal writes.
pytestmark = pytest.mark.timeout(180)


@agent("@state/counts")
async def counts(ctx: Context, args: dict[str, Any]) -> list[Any]:
    seen = [await ctx.state.get("n"), await ctx.state.get("n", 0)]
    for _ in range(2):
        await ctx.state.set("n", (await ctx.state.get("n", 0)) + 1)
    await ctx.state.set("kept", seen)
    return [*seen, await ctx.state.get("n"), await ctx.state.delete("n"), await ctx.state.delete("n")]


@agent("@state/counts_in_a_thread")
def counts_in_a_thread(ctx: BlockingContext, args: dict[str, Any]) -> list[Any]:
    seen = [ctx.state.get("n"), ctx.state.get("n", 0)]
    for _ in range(2):
        ctx.state.set("n", ctx.state.get("n", 0) + 1)
    ctx.state.set("kept", seen)
    return [*seen, ctx.state.get("n"), ctx.state.delete("n"), ctx.state.delete("n")]


@pytest.mark.parametrize("fn", [counts, counts_in_a_thread])
def test_state_is_what_it_was_whichever_write_the_process_is_lost_after(fn: Any) -> None:
    for writes in range(12):
        result = run(fn, crash_after=[writes] if writes else [])
        assert result.output == [None, 0, 2, True, False], writes
        assert result.state == {"kept": [None, 0]}


def test_a_test_gives_the_state_of_a_session_and_sees_what_is_left() -> None:
    result = run(counts, state={"n": 40, "other": "x"})
    assert result.output == [40, 40, 42, True, False]
    assert result.state == {"kept": [40, 40], "other": "x"}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("n", object(), "value_not_json"),
        ("n", "x" * 300_000, "state_full"),
        ("", 1, "invalid_call"),
        ("n" * 201, 1, "invalid_call"),
    ],
)
def test_what_cannot_be_kept_is_refused(name: str, value: Any, code: str) -> None:
    @agent("@state/odd")
    async def odd(ctx: Context, args: Any) -> None:
        await ctx.state.set(name, value)

    error = run(odd).error
    assert error is not None
    assert error["code"] == code


def test_a_full_state_is_refused_and_may_be_caught() -> None:
    @agent("@state/full")
    async def full(ctx: Context, args: dict[str, Any]) -> list[Any]:
        for n in range(1_000):
            try:
                await ctx.state.set(str(n), "x" * args["size"])
            except AgentError as refusal:
                await ctx.state.set("0", "less")  # what is there may be replaced by less
                return [n, refusal.code]
        return []

    assert run(full, {"size": 200_000}).output == [5, "state_full"]
    assert run(full, {"size": 1}, state={f"s{n}": n for n in range(995)}).output == [5, "state_full"]


@pytest.mark.anyio
async def test_runs_of_a_session_share_their_values_and_others_do_not(
    tmp_path: Path, database_url: str
) -> None:
    async def visit(ctx: Context, args: dict[str, Any]) -> int:
        visits = int(await ctx.state.get("visits", 0)) + 1
        await ctx.state.set("visits", visits)
        return visits

    with Api(tmp_path / "home", database_url) as api:
        async with workers_of(api) as site, api.async_client() as client:
            name = site.publish(visit)
            outputs, task_ids = [], []
            for session in ("a", "a", "b", None, None):
                body: dict[str, Any] = {"args": {}, "session_id": session}
                made = await client.post(f"/api/v1/agents/{name}/run", json=body)
                task_ids.append(made.json()["task_id"])
                outputs.append((await settled(client, task_ids[-1]))["output"])
            assert outputs == [1, 2, 1, 1, 1]
            session = (await client.get("/api/v1/sessions/a")).json()
            assert session["state"] == {"visits": 2}
            fork = (await client.post("/api/v1/sessions/a/fork", json={"key": "c"})).json()
            assert (await client.get("/api/v1/sessions/c")).json()["state"] == {"visits": 2}
            assert (await client.delete("/api/v1/sessions/a")).status_code == 204
            with site.store.begin() as tx:
                assert state.values(tx.conn, f"session:{session['id']}") == {}
                assert state.values(tx.conn, f"session:{fork['id']}") == {"visits": 2}
                assert state.values(tx.conn, f"task:{task_ids[-1]}") == {"visits": 1}
                prune.remove_tasks(tx, task_ids)
                prune.remove_sessions(tx, [fork["id"]], tx.now + 1)
                assert state.values(tx.conn, f"task:{task_ids[-1]}") == {}
                assert state.values(tx.conn, f"session:{fork['id']}") == {}


@pytest.mark.anyio
async def test_a_change_whose_answer_was_lost_is_made_once(database_url: str) -> None:
    async def never(ctx: Context, args: dict[str, Any]) -> None: ...

    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(never))

        def claim(tx: Tx) -> Fence:
            workers.enlist(tx, "w", "here", 1, 1, 60.0)
            return claims.claim(tx, [claims.Claim("w", 1)])[0].claimed[0].task.fence  # type: ignore[union-attr]

        fence = site.transact(claim)

        def access(op: Op, pos: int) -> Any:
            step = Step(f"state.{op}:n#{pos}", "state", "n", "idempotent", pos=pos)
            command = service.Access(task_id, None, fence, step, op, "n", pos)
            return site.transact(lambda tx: service.change(tx, [command]))[0]

        assert access(Op.SET, 1) == {"there": True}
        assert [access(Op.DELETE, 2) for _ in range(2)] == [{"there": True}, {"there": True}]
        assert access(Op.SET, 1) == {"there": True}
        assert access(Op.GET, 3) == {"there": False}, "the first change was not made again"


def test_each_step_has_a_key_of_its_own() -> None:
    keys: list[tuple[str, str]] = []

    def note() -> None:
        keys.append((current_step().name, current_step().idempotency_key))

    def in_a_thread() -> None:
        thread = threading.Thread(target=copy_context().run, args=(note,))
        thread.start()
        thread.join()

    @agent("@state/keys")
    async def has_keys(ctx: Context, args: Any) -> None:
        async def asynchronous() -> None:
            keys.append(("async", ctx.idempotency_key))

        await ctx.step("pay", note)
        await ctx.step("pay", note)
        await ctx.step("thread", in_a_thread)
        await ctx.step("async", asynchronous)
        await ctx.gather(ctx.step("both", note), ctx.step("both", note))
        try:
            ctx.idempotency_key  # noqa: B018
        except LookupError:
            keys.append(("none", ""))

    assert run(has_keys).error is None
    assert [name for name, _ in keys] == ["pay", "pay", "thread", "async", "both", "both", "none"]
    assert len({key for _, key in keys}) == 7
    assert all(len(key) == 69 and key.isascii() for _, key in keys[:-1])
    with pytest.raises(LookupError, match="No step is running"):
        current_step()


@pytest.mark.parametrize("crash", [0, 1, 2, 3])
def test_a_step_that_is_done_again_has_the_same_key(crash: int) -> None:
    keys: dict[str, list[str]] = {"read": [], "pay": []}

    @agent("@state/again", retries=1)
    async def again(ctx: Context, args: Any) -> None:
        def pay(name: str) -> None:
            keys[name].append(current_step().idempotency_key)
            if name == "pay" and len(keys[name]) == 1:
                raise ProviderError("once")

        await ctx.step("read", pay, "read")
        await ctx.step("pay", pay, "pay")

    assert run(again, crash_after=[crash] if crash else []).status == "completed"
    assert [len(set(found)) for found in keys.values()] == [1, 1]
    assert len(keys["pay"]) >= 2
    assert keys["pay"][0] != keys["read"][0]


@pytest.mark.anyio
async def test_a_retry_of_a_run_without_a_session_goes_on_with_its_state(database_url: str) -> None:
    fails = threading.Event()
    fails.set()

    async def keeps(ctx: Context, args: dict[str, Any]) -> Any:
        await ctx.state.set("n", 1)
        if fails.is_set():
            raise AgentError("No.", code="refused")
        return await ctx.state.get("n")

    async with Installation(database_url) as site:
        await site.engine()
        task_id = await site.submit(site.publish(keeps))
        assert (await site.ended(task_id)).error is not None
        fails.clear()
        repeated = site.transact(lambda tx: retries.retry(tx, site.org, task_id, "test")).task_id
        assert (await site.ended(repeated)).output == 1
