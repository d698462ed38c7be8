"""The event streams that callers follow through the api, over a real Valkey."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runyard import Context
from runyard_api import long_poll, sse
from runyard_api.batched_reads import Reader
from runyard_api.http import event_stream
from runyard_common.stream.encoding import ORG, TASK
from tests.api_server import Api, Frames, settled, workers_of
from tests.benchmarks import stream_load
from tests.benchmarks.bench_streams import Publisher
from tests.benchmarks.stream_load import Seen, follow
from tests.integration.test_stream_followers import subscribed
from tests.servers import ValkeyServer
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def chatty(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Emits numbered events with token deltas between them."""
    for number in range(args["events"]):
        await ctx.token(f"t{number} ")
        await ctx.emit("custom", {"n": number})
        await asyncio.sleep(args.get("pause", 0))
    return {"done": True}


async def gated(ctx: Context, args: dict[str, Any]) -> str:
    """Waits for its caller before each part."""
    for number in range(args["parts"]):
        await ctx.ask(f"part {number}?")
        await ctx.emit("part", {"n": number})
    return "all"


async def read_events(
    client: httpx2.AsyncClient, path: str, headers: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Follow a stream to its end."""
    async with client.stream("GET", path, headers=headers or {}) as response:
        assert response.status_code == 200, response.status_code
        return [frame async for frame in Frames(response)]


def numbered(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame["data"] for frame in frames if "event" not in frame]


async def test_a_stream_replays_goes_live_and_ends_with_the_task(tmp_path: Path, valkey_url: str) -> None:
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            go = asyncio.Event()

            async def followed(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
                await go.wait()
                return await chatty(ctx, args)

            task_id = await site.submit(site.publish(followed), {"events": 20})
            following = asyncio.create_task(read_events(client, f"/tasks/{task_id}/events"))
            await subscribed(valkey_url, TASK + task_id)
            go.set()
            frames = await following
            events = numbered(frames)
            assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
            assert [e["type"] for e in events][:2] == ["submit", "claim"]
            assert events[-1]["data"]["status"] == "completed"
            assert [
                e["data"]["data"]["n"] if "data" in e["data"] else e["data"]["n"]
                for e in events
                if e["type"] == "custom"
            ] == list(range(20))
            assert frames[-1]["event"] == "end"
            assert frames[-1]["data"] == {"task_id": task_id, "status": "completed"}
            tokens = [f["data"] for f in frames if f.get("event") == "token"]
            assert tokens
            assert {t["attempt"] for t in tokens} == {1}
            assert "id" not in next(f for f in frames if f.get("event") == "token")
            # a later follower reads the same log, and one that has it all is stopped
            assert numbered(await read_events(client, f"/v1/tasks/{task_id}/events")) == events
            last = {"last-event-id": str(events[-1]["seq"])}
            assert (await client.get(f"/tasks/{task_id}/events", headers=last)).status_code == 204


async def test_reconnecting_readers_see_no_gap_and_no_repeat(tmp_path: Path, valkey_url: str) -> None:
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(chatty), {"events": 120, "pause": 0.005})

            async def reader(patience: int) -> list[int]:
                seen: list[int] = []
                while True:
                    headers = {"last-event-id": str(seen[-1])} if seen else {}
                    async with client.stream("GET", f"/tasks/{task_id}/events", headers=headers) as response:
                        if response.status_code == 204:
                            return seen
                        async for frame in Frames(response):
                            if "event" in frame:
                                continue
                            seen.append(int(frame["id"]))
                            if len(seen) % patience == 0:
                                break  # hang up in the middle

            readers = await asyncio.gather(*(reader(patience) for patience in (3, 7, 11, 1000)))
            last = (await settled(client, task_id))["status"]
            assert last == "completed"
            expected = list(range(1, len(readers[0]) + 1))
            assert all(seen == expected for seen in readers)
            assert len(expected) == 123


@pytest.mark.parametrize("by", ["header", "parameter"])
async def test_no_event_up_to_the_one_that_a_follower_has_is_sent(
    tmp_path: Path, valkey_url: str, by: str
) -> None:
    def behind(number: int) -> tuple[str, dict[str, str]]:
        return (f"?after={number}", {}) if by == "parameter" else ("", {"last-event-id": str(number)})

    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(gated), {"parts": 2})
            await settled(client, task_id, "waiting_for_input")
            path = f"/tasks/{task_id}/events"
            log = (await client.get(path, headers={"accept": "application/json"})).json()["data"]
            ahead = log[-1]["seq"] + 3
            followers = [
                asyncio.create_task(read_events(client, path + query, headers))
                for query, headers in map(behind, (ahead, 1000))
            ]
            await until(lambda: sum(map(len, api.state.follower._tasks.values())) == 2)
            for _ in range(2):
                await settled(client, task_id, "waiting_for_input")
                await client.post(f"/tasks/{task_id}/message", json={"message": "go on"})
            some, none = await asyncio.wait_for(asyncio.gather(*followers), 30)
            whole = numbered(await read_events(client, path))
    assert numbered(some) == [event for event in whole if event["seq"] > ahead] != []
    assert [frame["event"] for frame in none] == ["end"]
    assert some[-1] == none[-1]


async def test_one_read_shows_how_far_a_followed_task_is_and_that_its_caller_counts(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(gated), {"parts": 1})
            await settled(client, task_id, "waiting_for_input")
            path = f"/tasks/{task_id}/events"
            last = len((await client.get(path, headers={"accept": "application/json"})).json()["data"])
            reads: list[object] = []
            read = Reader.call

            async def counted(self: Reader, batch: Any, argument: Any) -> Any:
                reads.append(batch)
                return await read(self, batch, argument)

            monkeypatch.setattr(Reader, "call", counted)
            async with client.stream("GET", path, headers={"last-event-id": str(last)}) as response:
                assert response.status_code == 200
                # Others follow where Redis has just begun to send.
                assert next(read for read in reads if read in (sse._places, sse._after)) is sse._places
                assert reads.count(sse._places) == 1
                await client.post(f"/tasks/{task_id}/message", json={"message": "go on"})
                async with asyncio.timeout(30):
                    first = await anext(aiter(Frames(response)))
            assert first["data"]["seq"] == last + 1


async def test_many_clients_that_keep_reconnecting_see_every_event_once(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()
    monkeypatch.setattr(stream_load, "Seen", lambda: seen)
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        publisher = await asyncio.to_thread(Publisher, api.settings.database, valkey_url, 8)
        port = int(api.url.rpartition(":")[2])
        following = asyncio.create_task(follow("127.0.0.1", port, api.key, publisher.task_ids, 40, 0.5, 60.0))
        await asyncio.to_thread(publisher.publish_for, 2.0, 5.0)
        while seen.reconnects < 10 and not following.done():
            await asyncio.to_thread(publisher.publish_for, 0.2, 5.0)
        last = await asyncio.to_thread(publisher.finish)
        await following
        await asyncio.to_thread(publisher.close)
    assert seen.wrong == []
    assert seen.reconnects >= 10
    assert {task_id: [last[task_id]] * 5 for task_id in publisher.task_ids} == seen.ended
    assert seen.frames == 5 * (publisher.published + 3 * 8), "submit, claim and finish as well"


async def test_a_redis_restart_in_mid_stream_loses_no_event(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        with Api(tmp_path / "home", redis_url=server.url) as api:
            async with workers_of(api, server.url) as site, api.async_client() as client:
                task_id = await site.submit(site.publish(chatty), {"events": 60, "pause": 0.05})
                following = asyncio.create_task(read_events(client, f"/tasks/{task_id}/events"))
                await asyncio.sleep(0.5)
                server.stop()
                await asyncio.sleep(1.0)
                server.start()
                events = numbered(await asyncio.wait_for(following, 30))
                assert [e["seq"] for e in events] == list(range(1, 64))
    finally:
        server.stop()


async def test_streams_and_waiters_work_from_the_database_alone(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api:
        async with workers_of(api) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(chatty), {"events": 5})
            events = numbered(await read_events(client, f"/tasks/{task_id}/events"))
            assert [e["seq"] for e in events] == list(range(1, 9))
            second = await site.submit(site.publish(chatty), {"events": 5, "pause": 0.1})
            task = (await client.get(f"/tasks/{second}?wait=20")).json()
            assert task["status"] == "completed"


async def test_a_json_page_goes_on_where_the_last_ended(tmp_path: Path) -> None:
    with Api(tmp_path / "home") as api:
        async with workers_of(api) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(chatty), {"events": 10})
            await settled(client, task_id)
            accept = {"accept": "application/json"}
            seen: list[int] = []
            after = 0
            while True:
                path = f"/tasks/{task_id}/events?after={after}&limit=4"
                page = (await client.get(path, headers=accept)).json()
                seen += [e["seq"] for e in page["data"]]
                after = page["next_after"]
                if not page["has_more"]:
                    break
            assert seen == list(range(1, 14))
            bad = await client.get(f"/tasks/{task_id}/events", headers={"last-event-id": "seven"})
            assert (bad.status_code, bad.json()["code"]) == (400, "invalid_cursor")


async def test_a_waiter_is_woken_by_the_end_not_by_a_clock(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "LOOK_EVERY", 3600.0)
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(gated), {"parts": 1})
            asked = await settled(client, task_id, "waiting_for_input")
            assert asked["question"]["text"] == "part 0?"
            tag = (await client.get(f"/tasks/{task_id}")).headers["etag"]
            waiting = asyncio.create_task(
                client.get(f"/tasks/{task_id}?wait=55", headers={"if-none-match": tag})
            )
            await until(lambda: len(api.state.follower._tasks) == 1)
            posted = await client.post(f"/tasks/{task_id}/message", json={"message": "go"})
            assert (posted.status_code, posted.json()["answered"]) == (202, True)
            changed = await asyncio.wait_for(waiting, 45)  # its time is not over
            assert changed.status_code == 200
            assert changed.headers["etag"] != tag
            done = await settled(client, task_id)
            assert done["output"] == "all"
            again = await client.post(f"/tasks/{task_id}/message", json={"message": "go"})
            assert again.status_code == 409


async def test_hundreds_of_waiters_cost_no_thread_each(tmp_path: Path, valkey_url: str) -> None:
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            ids = [await site.submit(site.publish(gated), {"parts": 1}) for _ in range(4)]
            for task_id in ids:
                await settled(client, task_id, "waiting_for_input")
            tags = {i: (await client.get(f"/tasks/{i}")).headers["etag"] for i in ids}
            before = threading.active_count()
            waiters = [
                asyncio.create_task(
                    client.get(f"/tasks/{ids[n % 4]}?wait=60", headers={"if-none-match": tags[ids[n % 4]]})
                )
                for n in range(300)
            ]
            await until(lambda: sum(map(len, api.state.follower._tasks.values())) == 300, 50)
            assert threading.active_count() <= before + 10
            for task_id in ids:
                await client.post(f"/tasks/{task_id}/message", json={"message": "go"})
            answers = await asyncio.gather(*waiters)
            assert {a.status_code for a in answers} == {200}


async def test_the_organisation_stream_filters_and_resumes(tmp_path: Path, valkey_url: str) -> None:
    with Api(tmp_path / "home", redis_url=valkey_url) as api:
        async with workers_of(api, valkey_url) as site, api.async_client() as client:
            loud, quiet = site.publish(chatty), site.publish(gated)
            agent_id = (await client.get(f"/api/v1/agents/{loud}")).json()["agent_group_id"]
            path = f"/api/v1/events?types=finish,custom&agent_id={agent_id}"
            async with client.stream("GET", path) as response:
                frames = Frames(response)
                await subscribed(valkey_url, ORG + api.state.org_id)
                await site.submit(quiet, {"parts": 1})
                first = await site.submit(loud, {"events": 3})
                seen = [await anext(frames) for _ in range(4)]
            assert [f["data"]["type"] for f in seen] == ["custom"] * 3 + ["finish"]
            assert {f["data"]["task_id"] for f in seen} == {first}
            second = await site.submit(loud, {"events": 2})
            await settled(client, second)
            async with client.stream("GET", path, headers={"last-event-id": seen[-1]["id"]}) as response:
                frames = Frames(response)
                missed: list[dict[str, Any]] = []
                while len([m for m in missed if m["data"]["task_id"] == second]) < 3:
                    missed.append(await asyncio.wait_for(anext(frames), 50))
            assert [m["data"]["type"] for m in missed if m["data"]["task_id"] == second] == [
                "custom",
                "custom",
                "finish",
            ]
            keys = [(m["data"]["task_id"], m["data"]["seq"]) for m in missed]
            assert len(keys) == len(set(keys))


async def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LOOK_EVERY", 0.2)
    with Api(tmp_path / "home") as api:
        async with workers_of(api) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(gated), {"parts": 1})
            made = (await client.post("/api/v1/keys", json={"name": "short"})).json()
            async with api.async_client(made["key"]) as other:
                following = asyncio.create_task(read_events(other, f"/tasks/{task_id}/events"))
                everything = asyncio.create_task(read_events(other, "/api/v1/events"))
                await until(lambda: len(api.state.follower._tasks) == len(api.state.follower._orgs) == 1)
                assert (await client.delete(f"/api/v1/keys/{made['id']}")).status_code == 204
                frames = await asyncio.wait_for(following, 50)
                await asyncio.wait_for(everything, 50)
            assert all(frame.get("event") != "end" for frame in frames)


async def test_a_reader_that_takes_nothing_is_dropped_and_may_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_LOOK_EVERY", 0.2)

    async def flood(ctx: Context, args: dict[str, Any]) -> str:
        for number in range(400):
            await ctx.emit("custom", {"n": number, "text": "x" * 60_000})
        return "done"

    with Api(tmp_path / "home") as api:
        async with workers_of(api) as site, api.async_client() as client:
            task_id = await site.submit(site.publish(flood))
            await settled(client, task_id, seconds=60)
            await until(lambda: _streams(api) == 0)  # of this process, in which others may have had some
            host, port = api.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(
                f"GET /tasks/{task_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode()
            )
            await until(lambda: _streams(api) == 1)
            with monkeypatch.context() as hurried:
                hurried.setattr(event_stream, "SLOWEST", 0.5)
                await until(lambda: _streams(api) == 0)
            writer.close()
            events = numbered(await read_events(client, f"/tasks/{task_id}/events", {"last-event-id": "400"}))
            assert [e["seq"] for e in events] == [401, 402, 403]


def _streams(api: Api) -> float:
    with api.client("") as client:
        line = next(
            x for x in client.get("/metrics").text.splitlines() if x.startswith("runyard_streams_open ")
        )
    return float(line.split()[1])
