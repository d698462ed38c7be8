"""The clients against a real server with workers in it, and behind a line that drops, lies and refuses."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel

from runyard import (
    AsyncClient,
    Client,
    Context,
    Event,
    NotFinished,
    Refused,
    Run,
    RunFailed,
    Unreachable,
)
from runyard.json_types import DoesNotFit
from runyard_workers.agent_code.catalogue import load
from tests.api_server import Floor
from tests.installation import Installation
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)
DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
EXAMPLES = Path(__file__).parents[2] / "examples"


async def echo(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Returns what it is given."""
    files = {file.name: file.size for file in ctx.files}
    return {"args": args, "message": ctx.task.message, "files": files}


async def talker(ctx: Context, args: dict[str, Any]) -> str:
    """Logs lines until it has logged enough; separators of lines and records are part of the lines."""
    for number in range(args["lines"]):
        await ctx.log(f"line\u2028{number}\x85")
        await asyncio.sleep(args.get("pause", 0.0))
    return "logged"


async def clerk(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    """Asks, has its question's answer approved, and fails where its arguments ask for it."""
    city = await ctx.ask("Where to?", schema={"type": "string"})
    return {"sent": await ctx.review("send", {"city": city})}


async def failer(ctx: Context, args: dict[str, Any]) -> None:
    """Fails behind a step."""
    await ctx.step("prepare", prepare)
    raise ValueError("as asked")


async def prepare() -> None:
    PREPARED.append(True)


async def patient(ctx: Context, args: dict[str, Any]) -> None:
    """Works until it is stopped."""
    await asyncio.sleep(600)


class Parcel(BaseModel):
    weight: Decimal
    labels: set[str] = set()


@dataclass
class Sent:
    parcels: list[Parcel]
    at: dt.datetime


async def sender(ctx: Context, args: list[Parcel]) -> Sent:
    """Sends parcels."""
    return Sent(args, AT)


PREPARED: list[bool] = []  # of each time
AT = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)


def publish(site: Installation) -> None:
    for definition in load([str(EXAMPLES)])[0].values():
        site.publish_definition(definition, site.org)
    for fn in (echo, talker, clerk, failer, patient, sender):
        site.publish(fn, f"@client/{fn.__name__}", org=site.org)


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    with Floor(tmp_path_factory.mktemp("client") / "home", publish) as floor:
        yield floor


@pytest.fixture
def client(floor: Floor) -> Iterator[Client]:
    with floor.client() as client:
        yield client


class BadLine(httpx2.BaseTransport):
    """A line to the real server that fails by `plan`, which has, request by request, what goes wrong.

    unsent: no connection; lost: carried out, the answer is lost; a number: the server is busy; ok.
    """

    def __init__(self, *plan: str | int) -> None:
        self._plan = itertools.chain(plan, itertools.repeat("ok"))
        self._real = httpx2.HTTPTransport()
        self.sent: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        fate = next(self._plan)
        if fate == "unsent":
            raise httpx2.ConnectError("no connection", request=request)
        if isinstance(fate, int):
            return httpx2.Response(
                fate, headers={"retry-after": "0"}, json={"code": "busy", "detail": "Busy."}
            )
        answer = self._real.handle_request(request)
        if fate == "lost":
            answer.read()
            raise httpx2.ReadError("the line dropped", request=request)
        if fate == "cut":
            assert isinstance(answer.stream, httpx2.SyncByteStream)
            return httpx2.Response(answer.status_code, headers=answer.headers, stream=_Cut(answer.stream))
        return answer

    def close(self) -> None:
        self._real.close()


class _Cut(httpx2.SyncByteStream):
    """Breaks in the middle of the second event, however the answer is cut into pieces."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        read = b""
        for piece in self._stream:
            read += piece
            first, _, rest = read.partition(b"\n\n")
            second, end, _ = rest.partition(b"\n\n")
            if end:
                yield first + b"\n\n" + second[: len(second) // 2]
                break
        raise httpx2.ReadError("cut")

    def close(self) -> None:
        self._stream.close()


def test_a_run_is_waited_for_and_its_output_typed(client: Client) -> None:
    run = client.run("@client/echo", {"n": 1}, message="Count", metadata={"mine": 1})
    assert (run.status, run.agent, run.title, run.ended) == ("completed", "@client/echo", "Count", True)
    assert run.result() == {"args": {"n": 1}, "message": "Count", "files": {}}
    assert run.raw["metadata"] == {"mine": 1}
    assert client.get(run.id) == run


def test_arguments_and_results_are_values_of_types(client: Client) -> None:
    parcels = [Parcel(weight=Decimal("1.50"), labels={"a"})]
    run = client.run("@client/sender", parcels)
    assert run.output == {"parcels": [{"weight": "1.50", "labels": ["a"]}], "at": AT.isoformat()}
    assert run.result(returns=Sent) == Sent(parcels, AT)
    with pytest.raises(ValueError, match=r"\$\.weight: Field required") as misfit:
        run.result(returns=Parcel)
    assert isinstance(misfit.value, DoesNotFit)
    with pytest.raises(ValueError, match=r"\$\.args\.when\[1\]: object has no JSON form"):
        client.run("@client/echo", {"when": [AT, object()]})
    assert client.run("@client/echo", {"when": AT, "path": Path("a")}).result()["args"] == {
        "when": AT.isoformat(),
        "path": "a",
    }


@pytest.mark.parametrize(
    ("agent", "args", "field"),
    [
        ("@client/echo", [1], "args"),
        ("@client/echo", "text", "args"),
        ("@client/sender", {"weight": 1}, "args"),
        ("@client/sender", [{"weight": 1}, {"labels": []}], "args[1].weight"),
    ],
)
def test_arguments_of_another_type_are_refused_at_submit(
    client: Client, agent: str, args: Any, field: str
) -> None:
    with pytest.raises(Refused) as refused:
        client.run(agent, args, wait=False)
    assert (refused.value.code, refused.value.field) == ("invalid_input", field)


def test_an_ended_run_is_run_again_as_a_new_one(client: Client) -> None:
    PREPARED.clear()
    failed = client.run("@client/failer", {})
    again = client.retry(failed.id)
    assert again.raw["retry_of"] == failed.id
    assert (client.wait(again.id).error is not None, len(PREPARED)) == (True, 1)
    client.wait(client.retry(failed.id, from_step="prepare#1").id)
    client.wait(client.retry(failed.id, fresh=True).id)
    assert len(PREPARED) == 3


def test_files_go_with_a_run(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a path")
    run = client.run(
        "@client/echo", {"n": [1]}, files={"files": tmp_path / "a.txt", "file": ("b.txt", b"bytes")}
    )
    assert run.result()["files"] == {"a.txt": 11, "b.txt": 5}
    assert run.result()["args"] == {"n": [1]}


@pytest.mark.parametrize(
    "plan", [("unsent", "unsent"), ("lost", "lost"), (429, 503, 502), ("lost", 504, "unsent")]
)
def test_on_any_broken_line_a_submission_makes_one_run(floor: Floor, plan: tuple[str | int, ...]) -> None:
    line = BadLine(*plan)
    before = floor.api.count_tasks()
    with floor.client(line) as client:
        run = client.run("@client/echo", {"n": 1}, wait=False)
    assert floor.api.count_tasks() == before + 1
    assert len(line.sent) == len(plan) + 1
    assert len({request.headers["idempotency-key"] for request in line.sent}) == 1
    with floor.client() as client:
        assert client.wait(run.id).status == "completed"


def test_the_same_key_is_the_same_run(client: Client) -> None:
    runs = [client.run("@client/echo", {"n": 1}, idempotency_key="order-17", wait=False).id for _ in range(2)]
    assert runs[0] == runs[1]


def test_patience_ends_with_the_reason(floor: Floor) -> None:
    with (
        floor.client(BadLine(*["unsent"] * 100), patience=0.5) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.run("@client/echo", {})
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    with floor.client(BadLine(*[503] * 1000), patience=0.2) as client, pytest.raises(Refused) as refused:
        client.run("@client/echo", {})
    assert (refused.value.status, refused.value.code) == (503, "busy")


def test_an_answer_is_repeated_only_when_the_server_cannot_have_taken_it(floor: Floor) -> None:
    with floor.client() as client:
        run = client.run("@client/clerk", {})
    with floor.client(BadLine("lost")) as client, pytest.raises(Unreachable):
        client.answer(run.id, "Gent")
    with floor.client() as client:
        asked = client.wait(run.id)
        assert asked.questions[0].kind == "review"
    with floor.client(BadLine("unsent", 503)) as client:
        client.review(run.id, "edit", arguments={"city": "Brugge"})
        assert client.wait(run.id).result() == {"sent": {"city": "Brugge"}}


def test_people_are_asked_and_the_second_answer_is_refused_by_code(client: Client) -> None:
    run = client.run("@client/clerk", {})
    assert (run.status, run.waits_for_people, run.questions[0].text) == (
        "waiting_for_input",
        True,
        "Where to?",
    )
    with pytest.raises(NotFinished):
        run.result()
    assert run.questions[0].id in {question.id for question in client.inbox()}
    client.answer(run.id, "Gent", run.questions[0].id)
    with pytest.raises(Refused) as refused:
        client.answer(run.id, "Luik", run.questions[0].id)
    assert refused.value.status == 409
    assert refused.value.code == "already_answered"
    client.wait(run.id)
    client.review(run.id, "reject", reason="too far")
    with pytest.raises(RunFailed, match="too far") as failed:
        client.wait(run.id).result()
    assert failed.value.code == "rejected"


def test_waiting_through_people_ends_with_the_run(floor: Floor, client: Client) -> None:
    run = client.run("@client/clerk", {})
    ended: list[Run] = []

    def wait() -> None:
        with floor.client() as other:
            ended.append(other.wait(run.id, through_people=True))

    waiter = threading.Thread(target=wait)
    waiter.start()
    client.answer(run.id, "Gent")
    client.wait(run.id)
    client.review(run.id, "approve")
    waiter.join(50)
    assert ended[0].result() == {"sent": {"city": "Gent"}}


def test_what_is_refused_names_its_code_and_field(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.run("@client/echo", {}, prioritty=1)  # type: ignore[call-arg]
    assert (refused.value.status, refused.value.code, refused.value.field) == (
        400,
        "unknown_field",
        "prioritty",
    )
    assert refused.value.request_id
    with pytest.raises(Refused) as refused:
        client.get("01890000-0000-7000-8000-000000000000")
    assert (refused.value.status, refused.value.code) == (404, "task_not_found")
    with pytest.raises(RunFailed, match="as asked") as failed:
        client.run("@client/failer", {}).result()
    assert failed.value.cause == "agent"


def test_a_wait_that_runs_out_leaves_the_run_which_is_then_cancelled(client: Client) -> None:
    with pytest.raises(NotFinished) as late:
        client.run("@client/patient", {}, timeout=0.3)
    assert late.value.run.status in ("pending", "running")
    assert client.cancel(late.value.run.id, "enough").status == "stopped"
    assert client.cancel(late.value.run.id).status == "stopped"
    with pytest.raises(RunFailed):
        client.get(late.value.run.id).result()


def test_events_come_once_and_in_order_over_a_line_that_drops(floor: Floor) -> None:
    line = BadLine("unsent", "cut", "cut", 503, "cut")
    with floor.client() as client:
        run = client.run("@client/talker", {"lines": 12, "pause": 0.05}, wait=False)
    with floor.client(line) as client:
        events = list(client.events(run.id))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert (events[0].type, events[-1].type) == ("submit", "finish")
        assert [e.data["message"] for e in events if e.type == "log"] == [
            f"line\u2028{n}\x85" for n in range(12)
        ]
        assert len(line.sent) >= 6
        assert list(client.events(run.id, after=events[-1].seq)) == []
        assert list(client.events(run.id, after=events[-3].seq)) == events[-2:]
        with pytest.raises(Refused):
            next(client.events("01890000-0000-7000-8000-000000000000"))


def test_lists_are_read_page_by_page(client: Client) -> None:
    made = {client.run("@client/echo", {"n": n}, message=f"Heron {n}", wait=False).id for n in range(5)}
    assert {run.id for run in client.list(q="heron", limit=2)} == made
    wait_until(lambda: {run.id for run in client.list(q="heron", status="completed")} == made)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_coroutines_have_the_same_client(floor: Floor, anyio_backend: str) -> None:
    async with AsyncClient(floor.api.url, floor.api.key) as client:
        runs = await asyncio.gather(*(client.run("@client/echo", {"n": n}) for n in range(5)))
        assert [run.result()["args"]["n"] for run in runs] == list(range(5))
        asked = await client.run("@client/clerk", {})
        assert asked.questions[0] in await client.inbox()
        await client.answer(asked.id, "Gent")
        await client.wait(asked.id)
        await client.review(asked.id, "approve")
        events: list[Event] = [event async for event in client.events(asked.id)]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert (await client.get(asked.id)).result() == {"sent": {"city": "Gent"}}
        assert asked.id in [run.id async for run in client.list(status="completed", limit=3)]
        stopped = await client.run("@client/patient", {}, wait=False)
        assert (await client.cancel(stopped.id)).ended
        with pytest.raises(Refused):
            await client.get("nothing")


def test_a_key_is_read_from_its_file_and_asked_for_when_missing(floor: Floor) -> None:
    with Client(floor.api.url, api_key_file=floor.api.settings.home / "admin.key") as client:
        assert client.run("@client/echo", {}).ended
    with pytest.raises(ValueError, match="api_key_file"):
        Client(floor.api.url)


def test_importing_runyard_brings_no_http_library() -> None:
    code = "import sys, runyard; assert 'httpx2' not in sys.modules; runyard.Client; assert 'httpx2' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_document_shows_works(
    floor: Floor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".runyard").mkdir()
    (tmp_path / ".runyard" / "admin.key").write_text(floor.api.key)
    monkeypatch.chdir(tmp_path)
    blocks = DOCUMENT.read_text().split("```python\n")[1:]
    known: dict[str, Any] = {"client": floor.client()}
    with known["client"]:
        for block in blocks:
            code = block.partition("\n```")[0].replace("http://127.0.0.1:8000", floor.api.url)
            own = known if "with Client" not in code else {}  # which closes a client of its own
            exec(compile(code, str(DOCUMENT), "exec", dont_inherit=True), own)
    known["client"].close()  # the page makes one of its own, which a later test would find unclosed
    printed = capsys.readouterr().out
    assert "completed {'message': None, 'args': {'n': 1}}" in printed
    assert "booked 12.50 on CC-4200" in printed
    assert "finish" in printed
