"""A worker that lives for one attempt and dies in the middle of it by `os._exit`, so that nothing of it runs any more.

python -m tests.acceptance.crashing_worker DATABASE_URL FOLDER

Each line of input is a JSON list of the points [write, key, when] at which earlier ones died; each line of output is
the point at which this one died, or null. The imports are made once: every life is a fork.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio._backends._asyncio  # noqa: F401 - imported before the forks, not in each
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from runyard.tools import tool
from runyard_common.credentials.rules.sealing import Sealer, new_key
from runyard_common.database.engine import Database
from runyard_common.database.group_commit import GroupCommit
from runyard_common.files import open_files
from runyard_common.runs.queries import workers
from runyard_common.runs.service import claims
from runyard_common.runtime import Runtime
from runyard_common.settings import Settings
from runyard_common.values.errors import RunyardError
from runyard_common.values.ids import uuid7
from runyard_workers.agent.loop.models import Chosen
from runyard_workers.agent.loop.runner import DeclaredRunner
from runyard_workers.attempts.executor import execute
from runyard_workers.attempts.preparation import Preparation
from runyard_workers.isolation.run_threads import RunThreads
from tests.installation import Recorder

TURNS = 10
TOOLS = ("crash_look", "crash_note", "crash_pay")
folder = Path()  # where a life leaves what it did: `done` and `asked`, a JSON line each


def leave(name: str, *what: Any) -> None:
    """Note something where it outlives this process."""
    with (folder / name).open("a") as file:
        file.write(json.dumps(what) + "\n")


@tool(name="crash_look", effect="read")
async def look(what: str) -> str:
    """Look something up."""
    leave("done", "crash_look", what, "")
    return f"saw {what}"


@tool(name="crash_note", effect="idempotent")
async def note(what: str, idempotency_key: str) -> str:
    """Write something down."""
    leave("done", "crash_note", what, idempotency_key)
    return f"noted {what}"


@tool(name="crash_pay", effect="irreversible")
async def pay(what: str) -> str:
    """Pay a bill."""
    leave("done", "crash_pay", what, "")
    return f"paid {what}"


class Script:
    """A model whose every answer follows from the conversation: turn n calls tools, turn ten sums up."""

    def __init__(self) -> None:
        self.model = Chosen(FunctionModel(self._answer), "scripted", reports_end=False)

    def get(self, name: str | None) -> Chosen:
        """The script, for every name."""
        return self.model

    def loaded(self, name: str | None) -> bool:
        """It is given at once."""
        return True

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = 1 + sum(isinstance(message, ModelResponse) for message in messages)
        leave("asked", turn)
        usage = RequestUsage(input_tokens=100 * turn, output_tokens=turn)
        if turn == TURNS:
            returned = [str(p.content) for m in messages for p in m.parts if p.part_kind == "tool-return"]
            return ModelResponse(parts=[TextPart("; ".join(returned))], usage=usage)
        made = [ToolCallPart(name, {"what": str(turn)}, tool_call_id=f"call-{name}") for name in called(turn)]
        return ModelResponse(parts=[TextPart(f"turn {turn}"), *made], usage=usage)


def called(turn: int) -> tuple[str, ...]:
    """The tools that a turn calls: one of the three, in turn four all at once."""
    return TOOLS if turn == 4 else (TOOLS[turn % 3],)


class CrashingWriter:
    """A worker's way to the database, which ends its process at the first write where none has died yet."""

    def __init__(self, inner: GroupCommit, died: list[list[str]], report: Callable[[Any], None]) -> None:
        self._inner = inner
        self._died = died
        self._report = report

    async def call(self, batch: Any, command: Any) -> Any:
        """One fenced command; the process may end before or after it is committed."""
        point = [batch.__name__, _key(command)]
        self._maybe_die([*point, "before"])
        answer = await self._inner.call(batch, command)
        self._maybe_die([*point, "after"])
        return answer

    def _maybe_die(self, point: list[str]) -> None:
        if point not in self._died:
            self._report(point)
            os._exit(137)


def _key(command: Any) -> str:
    """The name of a write, the same in every attempt."""
    step = getattr(
        getattr(command, "entry", command), "step", None
    )  # of a model turn, or of the command itself
    key = getattr(command, "key", None) or getattr(step, "key", "")
    return str(key).partition(":mail#")[0]


async def live(url: str, died: list[list[str]], report: Callable[[Any], None]) -> None:
    """Enlist, claim the run that waits, and carry it out until it ends, or this process does."""
    recorder = Recorder()
    runtime = Runtime(Database(url), recorder, recorder)
    store, writer = runtime.store, runtime.writer
    runner = DeclaredRunner(Settings(home=folder), store, writer, Script())
    worker_id = uuid7()
    with store.begin() as tx:
        workers.enlist(tx, worker_id, "here", os.getpid(), 1, 0.0)
    with store.begin() as tx:
        answer = claims.claim(tx, [claims.Claim(worker_id, 1)])[0]
    if isinstance(answer, RunyardError):
        raise answer
    (claimed,) = answer.claimed
    files = open_files(str(folder / "files"))

    async def declared() -> DeclaredRunner:
        return runner

    prepare = Preparation(store, writer, recorder, files, Sealer(new_key()), {}, RunThreads(4), declared)
    attempt, run = await prepare(claimed)
    attempt.writer = CrashingWriter(writer, died, report)  # type: ignore[assignment]
    await execute(attempt, run)
    report(None)
    os._exit(0)


def _report(pipe: int, point: Any) -> None:
    os.write(pipe, json.dumps(point).encode())


def _life(url: str, died: list[list[str]]) -> str:
    """Fork; the last line of the child before it ended."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        try:
            asyncio.run(live(url, died, partial(_report, writable)))
        finally:
            os._exit(1)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        report = pipe.read()
    os.waitpid(child, 0)
    return report or '"nothing"'


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    Counter(iter(range(0)))  # the first look goes through every Mapping there is
    Counter(number for number in range(0))
    gc.freeze()  # or each life would copy what it looks at
    for line in sys.stdin:
        print(_life(sys.argv[1], json.loads(line)), flush=True)
