"""Every byte from outside is counted: MCP servers, model providers and databases that send without end."""

from __future__ import annotations

import asyncio
import gzip
import resource
import sqlite3
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from runyard_api.access.published_keys import PublishedKeys
from runyard_common.outbound import GuardedClient, OutboundError, OutboundPolicy
from runyard_common.values.errors import Unavailable
from runyard_launch.supervisor import models
from runyard_workers.agent.sql import Caps, QueryFailed, sqlite
from runyard_workers.agent.wire import providers
from runyard_workers.agent.wire.mcp import McpRules, McpTransport
from runyard_workers.agent.wire.providers import ProviderRules
from runyard_workers.agent.wire.transport import CheckedClient, Whole
from tests.declared import Declared, declared_agents
from tests.fakes import floods
from tests.fakes.floods import BUFFERS, Flood, endless
from tests.fakes.model_server import reply
from tests.querying import ask

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

BOUND = 2**20
SPARE = 16 * 2**20  # what may be held beside the bound, in bytes
OPEN = OutboundPolicy(allow_private=True)
JSON = "Content-Type: application/json"
EVENTS = "Content-Type: text/event-stream"


def packed(size: int) -> Callable[[], Iterator[bytes]]:
    """So many spaces, packed to a thousandth."""
    engine = zlib.compressobj(wbits=31)
    whole = b"".join([engine.compress(b" " * 65_536) for _ in range(size // 65_536)] + [engine.flush()])
    return lambda: iter([whole])


def twice_packed() -> Iterator[bytes]:
    """Zeros without end, as members one after the other."""
    member = gzip.compress(bytes(2**20))
    yield from [member] * 64


def pings() -> Iterator[bytes]:
    """Lines without data, which are no event."""
    yield from [b":\n" * 32_768] * 1024


def nested() -> Iterator[bytes]:
    """Few bytes, and millions of values."""
    yield b'{"choices": [' + b"[]," * 300_000 + b"[]]}"


FLOODS = {
    "JSON without end": (JSON, endless),
    "JSON of a declared length": (f"{JSON}\r\nContent-Length: {floods.MOST}", endless),
    "JSON that is packed": (f"{JSON}\r\nContent-Encoding: gzip", packed(64 * 2**20)),
    "JSON that is packed in members": (f"{JSON}\r\nContent-Encoding: gzip", twice_packed),
    "a page without end": ("Content-Type: text/html", endless),
    "an event without end": (EVENTS, endless),
    "events that are packed": (f"{EVENTS}\r\nContent-Encoding: gzip", packed(64 * 2**20)),
    "pings without end": (EVENTS, pings),
    "an encoding that was not asked for": (f"{JSON}\r\nContent-Encoding: br", endless),
}  # fmt: skip


@pytest.fixture
def memory() -> Iterator[Callable[[], int]]:
    """The most that Python held since the test began, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


async def drained(client: httpx2.AsyncClient, port: int) -> httpx2.Response | None:
    """The answer, read as a library does; None if it was refused."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "stream": True}
    try:
        async with client.stream("POST", f"http://127.0.0.1:{port}/chat/completions", json=body) as answer:
            await answer.aread()
            return answer
    except httpx2.TransportError:
        return None


@pytest.mark.parametrize("kind", FLOODS)
async def test_an_mcp_server_is_read_up_to_the_bound(kind: str, memory: Callable[[], int]) -> None:
    with Flood(floods.http(*FLOODS[kind])) as server:
        async with GuardedClient(OPEN, max_answer_bytes=BOUND) as guard:
            rules = McpRules()
            async with guard.http_client(wrap=lambda inner: McpTransport(inner, rules, BOUND)) as client:
                assert await drained(client, server.port) is None
        assert memory() < SPARE
    assert server.sent < BUFFERS


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_model_provider_is_read_up_to_the_bound(kind: str, memory: Callable[[], int]) -> None:
    with Flood(floods.http(*FLOODS[kind])) as server:
        async with CheckedClient(ProviderRules(), BOUND, trust_env=False) as client:
            answer = await drained(client, server.port)
        assert answer is None or answer.status_code == 502
        assert memory() < SPARE
    assert server.sent < BUFFERS


@pytest.mark.parametrize("head", [JSON, EVENTS])
async def test_few_bytes_of_very_many_values_are_refused(head: str, memory: Callable[[], int]) -> None:
    def body() -> Iterator[bytes]:
        text = b"".join(nested())
        yield text if head == JSON else b"data: " + text + b"\n\n"

    with Flood(floods.http(head, body)) as server:
        async with CheckedClient(ProviderRules(), trust_env=False) as client:
            answer = await drained(client, server.port)
    assert answer is None or answer.status_code == 502
    assert memory() < SPARE


async def test_a_packed_answer_within_the_bound_is_read() -> None:
    with Flood(
        floods.http(f"{JSON}\r\nContent-Encoding: gzip", lambda: iter([gzip.compress(b"[1]")]))
    ) as server:
        async with GuardedClient(OPEN) as guard, guard.http_client() as client:
            answer = await client.get(f"http://127.0.0.1:{server.port}/")
    assert answer.json() == [1]
    assert "content-encoding" not in answer.headers


async def test_an_answer_that_trickles_is_over_in_time() -> None:
    def trickle() -> Iterator[bytes]:
        import time

        for _ in range(100):
            yield b" "
            time.sleep(0.05)

    with Flood(floods.http(JSON, trickle)) as server:
        async with GuardedClient(OPEN) as guard, guard.http_client(seconds=0.5) as client:
            with pytest.raises(OutboundError, match=r"longer than 0\.5 s"):
                await client.get(f"http://127.0.0.1:{server.port}/")


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with declared_agents(
        url, tmp_path / "home", allow_private_urls=True, max_answer_bytes=BOUND
    ) as declared:
        declared.publish()
        yield declared


async def test_a_run_goes_on_without_an_mcp_server_that_floods_it(declared: Declared) -> None:
    declared.server.answer(reply("Done."))
    with Flood(floods.http(JSON, endless)) as server:
        given = {"serverName": "flood", "serverUrl": f"http://127.0.0.1:{server.port}/mcp"}
        task = await declared.completed("Go.", mcp_servers=[given])
    (event,) = declared.events(task, "mcp_server")
    assert event["code"] == "response_too_large"
    assert server.sent < BUFFERS


# -- databases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
def test_a_database_whose_row_never_ends_is_cut_off(scheme: str) -> None:
    with Flood(getattr(floods, scheme.removesuffix("ql") if scheme == "postgresql" else scheme)) as server:
        url = f"{scheme}://u:p@127.0.0.1:{server.port}/db"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(QueryFailed, match=f"sent more than {BOUND} bytes"):
            ask(url, "select 1", caps=Caps(bytes=BOUND))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert server.sent < BUFFERS
    assert grown < SPARE // 1024  # ru_maxrss counts kilobytes


def test_columns_without_end_are_cut_off_before_they_are_objects(memory: Callable[[], int]) -> None:
    with Flood(floods.many_columns) as server, pytest.raises(QueryFailed, match="packets for one query"):
        ask(f"mysql://u:p@127.0.0.1:{server.port}/db", "select 1")
    assert memory() < 4 * SPARE


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
def test_a_database_that_sends_nothing_is_over_in_time(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from runyard_workers.agent.sql import relay

    monkeypatch.setattr(relay, "GRACE_SECONDS", 0.5)
    with Flood(floods.silent) as server, pytest.raises(QueryFailed, match="could not be reached"):
        ask(f"{scheme}://u:p@127.0.0.1:{server.port}/db", "select 1", caps=Caps(seconds=0.5))


NONSENSE = (b"", b"\0\0\0\0", b"\xff" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\0\0\0\x0a8.0\0")


@pytest.mark.parametrize("greeting", NONSENSE)
@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
def test_a_server_that_is_no_database_fails_the_query(scheme: str, greeting: bytes) -> None:
    with Flood(lambda _: iter([greeting])) as server, pytest.raises(QueryFailed):
        ask(f"{scheme}://u:p@127.0.0.1:{server.port}/db", "select 1", caps=Caps(seconds=1))


@pytest.mark.parametrize("kind", ["mariadb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_value_longer_than_the_bound_fails_and_a_shorter_one_is_cut(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    with pytest.raises(QueryFailed, match="select fewer rows, or shorter values"):
        ask(url, "select repeat('x', 4000000)", caps=Caps(bytes=BOUND))
    ((cell,),) = ask(url, "select repeat('x', 800000)", caps=Caps(bytes=BOUND)).rows
    assert cell == "x" * Caps().cell + "…"


@pytest.mark.postgres
def test_rows_beyond_the_caps_are_not_fetched(postgres_url: str) -> None:
    rows = ask(
        postgres_url, "select repeat('x', 3000) from generate_series(1, 100000)", caps=Caps(bytes=BOUND)
    )
    assert (len(rows.rows), rows.truncated) == (20, True)


@pytest.mark.parametrize(
    "sql",
    [
        "select zeroblob(900000000)",
        "select hex(zeroblob(400000000))",
        "select " + ", ".join(["zeroblob(900000)"] * 200),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n limit 9000) "
            "select group_concat(hex(randomblob(500))) from n"
        ),
    ],
)
def test_sqlite_computes_within_the_memory_of_a_child(
    sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MEMORY_BYTES", 96 * 2**20)
    sqlite3.connect(tmp_path / "shop.db").close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(QueryFailed, match=r"memory|too big"):
        ask("sqlite:///shop.db", sql, folder=tmp_path, caps=Caps(bytes=BOUND, seconds=50))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < SPARE // 1024


def test_a_query_of_sqlite_is_ended_at_any_point(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "shop.db").close()
    slow = "select length(replace(hex(zeroblob(400000)), '0', hex(zeroblob(2)))), sum(i) from "
    endless_rows = "(with recursive n(i) as (select 1 union all select i + 1 from n) select i from n)"
    with pytest.raises(QueryFailed, match=r"longer than 0\.5 s"):
        ask("sqlite:///shop.db", slow + endless_rows, folder=tmp_path, caps=Caps(seconds=0.5))


def test_a_damaged_file_fails_the_query(tmp_path: Path) -> None:
    (tmp_path / "shop.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
    with pytest.raises(QueryFailed):
        ask("sqlite:///shop.db", "select * from sqlite_master", folder=tmp_path)


# --- who else reads what others send


class Noting(ProviderRules):
    """Notes on which thread answers are judged."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def whole(self, request: httpx2.Request, answer: Whole) -> Whole:
        self.threads.append(threading.current_thread().name)
        return super().whole(request, answer)


@pytest.mark.parametrize(("size", "thread"), [(100, "MainThread"), (2**20, "answers")])
async def test_long_answers_are_judged_beside_the_event_loop(size: int, thread: str) -> None:
    text = b'{"choices": [{"message": {"content": "' + b"x" * size + b'"}}]}'
    headers = {"content-type": "application/json"}
    server = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(text))
    )
    rules = Noting()
    async with CheckedClient(rules, 4 * 2**20, transport=server) as client:
        answer = await client.post("http://model.example/chat/completions", json={})
    assert answer.status_code == 200
    assert [name.startswith(thread) for name in rules.threads] == [True], rules.threads


@pytest.mark.parametrize("head", [JSON, EVENTS])
async def test_a_model_may_not_send_more_values_than_the_libraries_read_quickly(head: str) -> None:
    def body() -> Iterator[bytes]:
        text = b'{"choices": [' + b"{}," * providers.MOST_VALUES + b"{}]}"
        yield text if head == JSON else b"data: " + text + b"\n\n"

    with Flood(floods.http(head, body)) as server:
        async with CheckedClient(ProviderRules(), providers.MOST_BYTES, trust_env=False) as client:
            answer = await drained(client, server.port)
    assert answer is None or answer.status_code == 502


@pytest.mark.parametrize(
    "kind",
    ["JSON without end", "JSON that is packed", "JSON that is packed in members", "a page without end"],
)
async def test_published_keys_are_read_up_to_the_bound(kind: str, memory: Callable[[], int]) -> None:
    with Flood(floods.http(*FLOODS[kind])) as server:
        keys = PublishedKeys(f"http://127.0.0.1:{server.port}/jwks")
        with pytest.raises(Unavailable):
            await keys.get("one")
        assert memory() < SPARE
    assert server.sent < BUFFERS


async def test_a_list_of_models_is_read_up_to_the_bound(memory: Callable[[], int]) -> None:
    with Flood(floods.http(JSON, endless)) as server:
        with pytest.raises(httpx2.HTTPError):
            await asyncio.to_thread(models.list_models, f"http://127.0.0.1:{server.port}", "")
        assert memory() < SPARE
    assert server.sent < 2 * BUFFERS
