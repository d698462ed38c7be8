"""A ten-turn, tool-using run that loses its process before and after every write it makes to its journal.

Each attempt is a worker of its own: it enlists, claims, runs, and dies at the chosen write, after which nothing it
does reaches the database. A rescue hands the run on, and the next worker goes on from the journal.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from common.domain.ids import uuid7
from common.domain.lifecycle import Status
from common.domain.manifests import parse
from common.files import FileStore
from common.services import agents, answers, claims
from common.services.answers import Decision
from common.settings import Settings
from common.store import workers
from common.store.usage import totals
from runyard.tools import tool
from scheduler.duties import Admit, Rescue
from tests.workshop import Workshop
from workers.agent.loop.models import Chosen
from workers.agent.runner import DeclaredRunner
from workers.executor import execute
from workers.preparation import Preparation

pytestmark = pytest.mark.anyio
When = Literal["before", "after"]
TURNS = 10
BOT = "@crash/bot"
#: What the tools did: (tool, what), with the idempotency key each got.
done: list[tuple[str, str]] = []


@tool(name="crash_look", effect="read")
async def look(what: str) -> str:
    """Look something up."""
    done.append(("crash_look", what))
    return f"saw {what}"


@tool(name="crash_note", effect="idempotent")
async def note(what: str, idempotency_key: str) -> str:
    """Write something down."""
    done.append((f"crash_note {idempotency_key}", what))
    return f"noted {what}"


@tool(name="crash_pay", effect="irreversible")
async def pay(what: str) -> str:
    """Pay somebody."""
    done.append(("crash_pay", what))
    return f"paid {what}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Script:
    """A model whose every answer follows from the conversation: turn n calls tools, turn ten sums up."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.model = Chosen(FunctionModel(self._answer), "scripted", tells_end=False)

    def get(self, name: str | None) -> Chosen:
        return self.model

    async def aclose(self) -> None:
        pass

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = 1 + sum(isinstance(m, ModelResponse) for m in messages)
        self.asked[turn] += 1
        usage = RequestUsage(input_tokens=100 * turn, output_tokens=turn)
        if turn == TURNS:
            returned = [str(p.content) for m in messages for p in m.parts if p.part_kind == "tool-return"]
            return ModelResponse(parts=[TextPart("; ".join(returned))], usage=usage)
        names = ("crash_look", "crash_note", "crash_pay") if turn == 4 else (_TOOLS[turn % 3],)
        made = [ToolCallPart(name, {"what": f"{turn}"}, tool_call_id=f"call-{name}") for name in names]
        return ModelResponse(parts=[TextPart(f"turn {turn}"), *made], usage=usage)


_TOOLS = ("crash_look", "crash_note", "crash_pay")


@dataclass
class Mortal:
    """A worker's way to the database, which ends at its `dies_at`-th write of this attempt."""

    inner: Any
    dies_at: int
    when: When
    writes: int = 0
    kinds: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # what never reached the database
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, batch: Any, command: Any) -> Any:
        """One fenced command."""
        self.writes += 1
        self.kinds.append(batch.__name__)
        dies = self.writes == self.dies_at
        if self.dead.is_set() or (dies and self.when == "before"):
            self.lost.append(batch.__name__)
        else:
            answer = await self.inner.call(batch, command)
            if not dies:
                return answer
        self.dead.set()
        return await asyncio.Event().wait()


@dataclass
class Ward:
    """A database and a runner, and the workers that die there."""

    shop: Workshop
    runner: DeclaredRunner
    script: Script
    skipped: int = 0

    async def submit(self) -> str:
        """A run, with everything counted anew."""
        done.clear()
        self.script.asked.clear()
        self.skipped = 0
        return await self.shop.submit(BOT, message="Do ten things.")

    async def attempt(self, dies_at: int = 0, when: When = "before") -> Mortal:
        """One worker's life: it claims the run and ends it, or dies."""
        worker_id = uuid7()
        self.shop.transact(lambda tx: workers.enlist(tx, worker_id, "here", 1, 1, 0.0))
        (claimed,) = self.shop.transact(lambda tx: claims.claim(tx, [claims.Claim(worker_id, 1)]))[0]
        prepare = Preparation(
            self.shop.store,
            self.shop.writer,
            self.shop.ears,
            FileStore.from_url(str(self.shop.files)),
            self.shop.sealer,
            {},
            _in_thread,
            lambda: self.runner,
        )
        attempt, run = await prepare(claimed)
        mortal = Mortal(self.shop.writer, dies_at, when)
        attempt.writer = mortal  # type: ignore[assignment]
        running = asyncio.create_task(execute(attempt, run))
        death = asyncio.create_task(mortal.dead.wait())
        await asyncio.wait({running, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        while not running.done():  # what it does about its end does not reach the database either
            running.cancel()
            await asyncio.wait({running}, timeout=0.01)
        Rescue(self.shop.store).run_once()
        return mortal

    async def finish(self, task_id: str) -> None:
        """Let workers go on until the run has ended; an operator settles what nobody knows."""
        for _ in range(10):
            task = self.shop.task(task_id)
            if task.finished_at is not None:
                return
            if task.status is Status.AWAITING_REVIEW:
                self.settle(task_id)
            Admit(self.shop.store).run_once()
            await self.attempt()
        raise AssertionError(f"not finished: {self.shop.task(task_id).status}")

    def settle(self, task_id: str) -> None:
        """The operator looks at what was paid, and says so."""
        (review,) = self.shop.questions(task_id)
        assert review["payload"]["kind"] == "unknown_outcome"
        what = review["payload"]["arguments"]["what"]
        paid = ("crash_pay", what) in done
        self.skipped += paid
        decision = Decision("skip", result=f"paid {what}") if paid else Decision("redo")
        self.shop.transact(lambda tx: answers.review(tx, self.shop.org, task_id, decision, "operator"))


async def _in_thread(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(fn, *args, **kwargs)


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    async with Workshop(f"sqlite:///{tmp_path / 'runyard.db'}", files=tmp_path / "files") as shop:
        script = Script()
        runner = DeclaredRunner(Settings(home=tmp_path), shop.store, shop.writer, script)
        policy = {"infrastructure": {"budget": 9, "base_s": 0, "cap_s": 0}}
        manifest = parse({"name": BOT, "tools": list(_TOOLS), "retries": policy})
        shop.transact(lambda tx: agents.publish(tx, shop.org, manifest))
        yield Ward(shop, runner, script)
        await runner.aclose()


EXPECTED = Counter(
    [(_TOOLS[turn % 3], str(turn)) for turn in range(1, TURNS) if turn != 4]
    + [(name, "4") for name in _TOOLS]
)


def _check(ward: Ward, task_id: str, kills: list[Mortal]) -> None:
    """The run completed with everything done once, told once and counted once."""
    task = ward.shop.task(task_id)
    assert task.status is Status.COMPLETED, task.error
    assert task.output == "; ".join(
        text
        for turn in range(1, TURNS)
        for text in ([f"saw {turn}", f"noted {turn}", f"paid {turn}"] if turn == 4 else [_said(turn)])
    )
    assert task.usage is not None
    assert (task.usage["turns"], task.usage["input_tokens"], task.usage["output_tokens"]) == (10, 5500, 55)
    with ward.shop.store.read() as conn:
        booked = {row["group"]: row for row in totals(conn, ward.shop.org, "task_id")}
    assert (booked[task_id]["turns"], booked[task_id]["input_tokens"]) == (10, 5500)
    logged = Counter(ward.shop.events(task_id))
    assert (logged["model_turn"], logged["tool_call"], logged["message"]) == (10, 11, 10)
    assert logged["tool_result"] + ward.skipped == 11  # an operator's word stands for a result
    # A call whose result never reached the journal is made again with its old key, unless it is irreversible.
    unrecorded = sum(mortal.lost.count("end") for mortal in kills)
    effects = Counter((name.split()[0], what) for name, what in dict.fromkeys(done))
    assert effects == EXPECTED
    assert sum(Counter(done).values()) <= sum(EXPECTED.values()) + unrecorded
    assert all(Counter(done)["crash_pay", str(turn)] <= 1 for turn in range(1, TURNS))
    # A turn whose answer never reached the journal is asked again; no other is.
    lost = sum(mortal.lost.count("end_turn") for mortal in kills)
    assert sum(ward.script.asked.values()) == TURNS + lost


def _said(turn: int) -> str:
    return f"{('saw', 'noted', 'paid')[turn % 3]} {turn}"


async def _killed_at(ward: Ward, dies_at: int, when: When) -> Mortal:
    task_id = await ward.submit()
    mortal = await ward.attempt(dies_at, when)
    await ward.finish(task_id)
    _check(ward, task_id, [mortal] if mortal.dead.is_set() else [])
    return mortal


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_run_killed_at_any_write_completes_with_everything_done_once(ward: Ward, when: When) -> None:
    whole = await _killed_at(ward, 0, when)
    assert whole.kinds.count("end_turn") == TURNS
    assert whole.kinds.count("begin") == 4  # one for each irreversible call
    for dies_at in range(1, whole.writes + 1):
        mortal = await _killed_at(ward, dies_at, when)
        assert mortal.dead.is_set()


@pytest.mark.timeout(300)
async def test_a_run_killed_again_and_again_still_does_everything_once(ward: Ward) -> None:
    task_id = await ward.submit()
    kills = []
    for dies_at in (3, 4, 5, 4, 3):
        kills.append(await ward.attempt(dies_at, "after"))
        if ward.shop.task(task_id).status is Status.AWAITING_REVIEW:
            ward.settle(task_id)
        Admit(ward.shop.store).run_once()
    await ward.finish(task_id)
    _check(ward, task_id, kills)
