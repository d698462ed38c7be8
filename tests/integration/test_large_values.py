"""Values of megabytes: the event loop of the api makes and reads no large JSON, on no surface."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
import pytest

from runyard import Context
from runyard_common.values.json_text import LARGE
from tests.api_server import Api, settled, workers_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SIZE: Final = 4 * 2**20
EVENTS: Final = 20
#: A frame of a stream is one event, which may have 256 KiB.
FRAME: Final = 300 * 2**10


async def large(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Gives back what it was given, and reports as much."""
    for number in range(EVENTS):
        await ctx.emit("custom", {"number": number, "text": "y" * (SIZE // EVENTS)})
    if args.get("ask"):
        await ctx.ask("Go on?")
    return {"text": "x" * SIZE}


class Loop:
    """The largest JSON text that the api's event loop has made or read itself, in bytes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.largest = 0
        for name in ("dumps", "loads"):
            patch.setattr(orjson, name, self._watched(getattr(orjson, name)))

    def _watched(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(value: Any, *args: Any, **kwargs: Any) -> Any:
            found = work(value, *args, **kwargs)
            if threading.current_thread().name == "api":
                text = found if isinstance(found, bytes) else value
                self.largest = max(self.largest, len(text))
            return found

        return watched


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    with Api(tmp_path / "home") as running:
        yield running


async def _agent(api: Api, site: Any) -> str:
    return str(site.publish(large, name="@test/large"))


async def _native(client: httpx2.AsyncClient, run: dict[str, Any]) -> None:
    for path in ("", "/result", "/summary", "/messages", "/events?limit=1000"):
        answer = await client.get(f"/tasks/{run['task_id']}{path}", headers={"accept": "application/json"})
        assert answer.status_code == 200, answer.text[:200]
    assert len((await client.get(f"/tasks/{run['task_id']}")).content) > 2 * SIZE


async def _agentbase(client: httpx2.AsyncClient, run: dict[str, Any]) -> None:
    answer = await client.get(f"/agentbase/tasks/{run['task_id']}/result")
    assert len(answer.content) > SIZE


async def _appstrate(client: httpx2.AsyncClient, run: dict[str, Any]) -> None:
    for path in (f"/api/runs/{run['task_id']}", f"/api/runs/{run['task_id']}/logs", "/api/runs"):
        answer = await client.get(path)
        assert len(answer.content) > SIZE, (path, answer.text[:200])


READS: Final = {"native": _native, "agentbase": _agentbase, "appstrate": _appstrate}


async def test_large_values_are_awaited_beside_the_loop(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async with workers_of(api) as site, api.async_client() as client:
        await _agent(api, site)
        loop = Loop(monkeypatch)
        asked = {"agentName": "large", "args": {"text": "x" * SIZE}}
        nara = await client.post("/api/agent/run", json=asked)
        assert nara.status_code == 200, nara.text[:300]
        assert len(nara.content) > 3 * SIZE
        nugen = await client.post("/api/v3/agents/run-agents/large/run", json={"message": "x" * SIZE})
        assert nugen.status_code == 200, nugen.text[:300]
        assert len(nugen.content) > SIZE
        stream = await client.post("/agentbase/run-agent?agent=large", json={"message": "x" * SIZE})
        assert "agent_response" in stream.text
    assert loop.largest <= FRAME


async def test_a_run_with_large_values_is_followed_beside_the_loop(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers_of(api) as site, api.async_client() as client:
        name = await _agent(api, site)
        answer = await client.post(f"/api/v1/agents/{name}/run", json={"args": {"ask": True}})
        id_ = answer.json()["task_id"]
        await settled(client, id_, "waiting_for_input")
        loop = Loop(monkeypatch)
        async with client.stream("GET", f"/api/realtime/runs/{id_}?verbose=true") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "event: ping"
            (await client.post(f"/tasks/{id_}/message", json={"message": "yes"})).raise_for_status()
            async for line in lines:
                if "run_completed" in line:
                    break
        await client.get(f"/tasks/{id_}/events", headers={"accept": "text/event-stream"})
    assert loop.largest <= FRAME


async def test_large_values_are_read_beside_the_loop_on_every_surface(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers_of(api) as site, api.async_client() as client:
        name = await _agent(api, site)
        answer = await client.post(f"/api/v1/agents/{name}/run", json={"args": {"text": "x" * SIZE}})
        run = await settled(client, answer.json()["task_id"])
        assert run["status"] == "completed", run["error"]
        found = {}
        for surface, read in READS.items():
            loop = Loop(monkeypatch)
            await read(client, run)
            found[surface] = loop.largest
            monkeypatch.undo()
    assert all(size <= LARGE for size in found.values()), found
