"""A real api server on a real database, with workers of the same process when a test asks for some."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
from sqlalchemy import text

from runyard import Client
from runyard_api.__main__ import Server, server_of
from runyard_api.state import State
from runyard_common.settings import Settings
from runyard_common.stream import Live
from tests import databases, documented
from tests.installation import Installation, Recorder
from tests.waiting import wait_until


class Api:
    """One api server on a thread of its own, on a free port of loopback."""

    def __init__(self, home: Path, database_url: str = "", **settings: Any) -> None:
        given: dict[str, Any] = {"allow_private_urls": True, "log_level": "error"} | settings
        self.settings = Settings(home=home, port=0, database_url=database_url, **given)
        home.mkdir(parents=True, exist_ok=True)
        databases.opened(self.settings.database).close()
        self.server: Server = server_of(self.settings)
        self._thread = threading.Thread(target=self.server.run, name="api", daemon=True)

    def __enter__(self) -> Api:
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive(), seconds=60)
        assert self.server.started, "the api did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.state.stop_waiting_threadsafe()
        self.server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    @property
    def state(self) -> State:
        """The server's state: for what a test looks at, not for what it does."""
        assert self.server.state is not None
        return self.server.state

    @property
    def url(self) -> str:
        """Where it listens."""
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def key(self) -> str:
        """The admin key of the first start."""
        return (self.settings.home / "admin.key").read_text().strip()

    def client(self, key: str | None = None) -> httpx2.Client:
        """A client with this key; the admin's by default, none for an empty text. Undocumented answers fail."""
        headers = _bearer(self.key if key is None else key)
        hooks = {"response": [documented.hook]}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30, event_hooks=hooks)

    def async_client(self, key: str | None = None) -> httpx2.AsyncClient:
        """The same for coroutines."""
        headers = _bearer(self.key if key is None else key)
        hooks = {"response": [documented.async_hook]}
        limits = httpx2.Limits(max_connections=2000, max_keepalive_connections=100)
        return httpx2.AsyncClient(
            base_url=self.url, headers=headers, timeout=60, limits=limits, event_hooks=hooks
        )

    def count_tasks(self) -> int:
        """How many tasks are stored."""
        with self.state.store.read() as conn:
            return int(conn.execute(text("SELECT count(*) FROM tasks")).scalar_one())


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


class StreamRecorder(Recorder):
    """Publishes to the live stream too, as a worker process does."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live = live

    def publish(self, events: Any, /) -> None:
        super().publish(events)
        self.live.publish(events)

    def cancel(self, worker_id: str, task_id: str) -> None:
        super().cancel(worker_id, task_id)
        self.live.cancel(worker_id, task_id)

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        super().token(task_id, attempt, data)
        self.live.token(task_id, attempt, data)


@asynccontextmanager
async def workers_of(api: Api, redis_url: str = "", engines: int = 1) -> AsyncIterator[Installation]:
    """Workers on the api's database; they look for work every 20 ms instead of being notified."""
    live = Live(redis_url)
    site = Installation(api.settings.database, recorder=StreamRecorder(live), org=api.state.org_id)
    async with site:
        site.sealer = api.state.sealer
        for _ in range(engines):
            await site.engine()
        looking = asyncio.create_task(_look(site))
        try:
            yield site
        finally:
            looking.cancel()
    await asyncio.to_thread(live.close)


class Floor:
    """A server, and a worker on a loop of its own; `publish` makes its agents before it works."""

    def __init__(self, home: Path, publish: Callable[[Installation], None] = lambda site: None) -> None:
        self.api = Api(home)
        self.site: Installation
        self._publish = publish
        self._ready = threading.Event()
        self._over: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), name="workers")

    async def _work(self) -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._over = lambda: loop.call_soon_threadsafe(over.set)
        async with workers_of(self.api) as self.site:
            self._publish(self.site)
            self._ready.set()
            await over.wait()

    def __enter__(self) -> Floor:
        self.api.__enter__()
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._over()
        self._thread.join(60)
        self.api.__exit__()

    def client(self, transport: httpx2.BaseTransport | None = None, patience: float = 10.0) -> Client:
        return Client(self.api.url, self.api.key, transport=transport, patience=patience)


async def _look(site: Installation) -> None:
    while True:
        await asyncio.sleep(0.02)
        site._wake()


async def settled(
    client: httpx2.AsyncClient, task_id: str, *statuses: str, seconds: float = 40
) -> dict[str, Any]:
    """The task once it has one of these statuses (by default: has ended)."""
    wanted = statuses or ("completed", "failed", "stopped")
    end = time.monotonic() + seconds
    while True:
        task: dict[str, Any] = (await client.get(f"/tasks/{task_id}", params={"wait": 2})).json()
        if task["status"] in wanted:
            return task
        assert time.monotonic() < end, task
        if task["status"] in ("waiting_for_input", "awaiting_review"):
            await asyncio.sleep(0.05)


class Frames:
    """Reads an event stream frame by frame."""

    def __init__(self, response: httpx2.Response) -> None:
        self._chunks = response.aiter_text()
        self._rest = ""

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next frame that is no comment: {id, event, data}."""
        while True:
            head, found, rest = self._rest.partition("\n\n")
            if not found:
                self._rest += await anext(self._chunks)
                continue
            self._rest = rest
            frame = _frame(head)
            if frame:
                return frame


def _frame(text: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in text.split("\n") if line and not line.startswith(":"))
    if "data" in fields:
        fields["data"] = orjson.loads(fields["data"])
    return fields
