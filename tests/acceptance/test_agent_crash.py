"""A ten-turn, tool-using run whose worker process dies before and after every write it makes to its journal.

Each life is a process of its own that claims the run, goes on from the journal, and ends by `os._exit` at the next
point where none has died before. Its lease runs out, a rescue hands the run on. It ends when no point is left.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runyard_common.agents.rules.manifests import parse
from runyard_common.agents.service import agents
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.human_tasks.service.answers import Decision
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.usage.queries import Span, sums
from runyard_launch.supervisor import process
from runyard_scheduler.duties import Admit, Rescue
from tests.acceptance.crashing_worker import TOOLS, TURNS, called
from tests.installation import Installation

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]
BOT = "@crash/bot"
ROOT = Path(__file__).parents[2]
#: Far more lives than there are points to die at.
MOST_LIVES = 200


@dataclass
class Ward:
    """A database, and the workers that die on it."""

    site: Installation
    folder: Path
    workers: subprocess.Popen[bytes]
    died: list[list[str]] = field(default_factory=list)

    def life(self) -> list[str] | None:
        """One worker's life: where it died, or None if it ended the run."""
        assert self.workers.stdin is not None
        assert self.workers.stdout is not None
        self.workers.stdin.write(json.dumps(self.died).encode() + b"\n")
        self.workers.stdin.flush()
        point: Any = json.loads(self.workers.stdout.readline())
        assert point != "nothing", (self.folder / "workers.log").read_text()[-3000:]
        return list(point) if point is not None else None

    def go(self, task_id: str) -> None:
        """Lives one after the other, until the run has ended."""
        for _ in range(MOST_LIVES):
            Rescue(self.site.store).run_once()
            task = self.site.task(task_id)
            if task.finished_at is not None:
                return
            if task.status is Status.AWAITING_REVIEW:
                self.settle(task_id)
            Admit(self.site.store).run_once()
            if self.site.task(task_id).status is Status.PENDING and (point := self.life()) is not None:
                self.died.append(point)
        raise AssertionError(f"not finished: {self.site.task(task_id)}")

    def settle(self, task_id: str) -> None:
        """The operator looks whether it was paid, and decides."""
        (review,) = self.site.questions(task_id)
        assert review.payload["kind"] == "unknown_outcome"
        what = review.payload["arguments"]["what"]
        paid = ["crash_pay", what, ""] in self.left("done")
        decision = Decision("skip", result=f"paid {what}") if paid else Decision("redo")
        self.site.transact(lambda tx: answers.review(tx, self.site.org, task_id, decision, "operator"))

    def left(self, name: str) -> list[list[Any]]:
        """What the lives noted."""
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def deaths(self, write: str, when: str) -> list[str]:
        """The keys of this kind of write at which a life ended."""
        return [key for name, key, at in self.died if (name, at) == (write, when)]


@pytest.fixture
async def ward(tmp_path: Path) -> AsyncIterator[Ward]:
    url = f"sqlite:///{tmp_path / 'runyard.db'}"
    async with Installation(url, files=tmp_path / "files") as site:
        policy = {"infrastructure": {"budget": MOST_LIVES, "base_s": 0, "cap_s": 0}}
        manifest = parse({"name": BOT, "tools": list(TOOLS), "retries": policy})
        site.transact(lambda tx: agents.publish(tx, site.org, manifest, shared=True))
        with _workers(url, tmp_path) as workers:
            yield Ward(site, tmp_path, workers)


@contextmanager
def _workers(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process whose forks are the workers."""
    command = [sys.executable, "-m", "tests.acceptance.crashing_worker", url, str(folder)]
    pipe = subprocess.PIPE
    with (
        (folder / "workers.log").open("wb") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, cwd=ROOT) as workers,
    ):
        yield workers
        assert workers.stdin is not None
        workers.stdin.close()
        process.end(workers, grace=10)


EXPECTED = Counter((name, str(turn)) for turn in range(1, TURNS) for name in called(turn))
_RESULTS = {"crash_look": "saw", "crash_note": "noted", "crash_pay": "paid"}


async def test_a_run_that_dies_at_every_write_completes_with_everything_done_once(ward: Ward) -> None:
    task_id = await ward.site.submit(BOT, message="Do ten things.")
    ward.go(task_id)
    _died_everywhere(ward)
    _logged_and_counted_once(ward, task_id)
    _done_once(ward)


def _died_everywhere(ward: Ward) -> None:
    """Before and after each turn, each call's begin and end, and the run's own end."""
    turns = {f"turn#{n}" for n in range(1, TURNS + 1)}
    ends = {f"turn#{turn}/call-{name}" for name, turn in EXPECTED}
    pays = {key for key in ends if key.endswith("crash_pay")}
    for when in ("before", "after"):
        assert set(ward.deaths("start_turn", when)) == turns | {
            "turn#11"
        }  # the look for mail after the answer
        assert set(ward.deaths("end_turn", when)) == turns
        assert len(ward.deaths("finish", when)) == 1
    assert set(ward.deaths("begin", "before")) == pays
    # What was paid is on record by itself, as is what a call gives that others of its turn outlast. The other results
    # go on record with the start of the next turn.
    parallel = {key for key in ends if key.startswith("turn#4/")}
    assert pays <= set(ward.deaths("end", "before")) <= pays | parallel
    # Parallel calls may be committed together, and only one of them sees the process off.
    assert pays - parallel <= set(ward.deaths("begin", "after"))
    # What was paid for and not recorded is settled by the operator, whose word is no write of a worker.
    assert set(ward.deaths("end", "after")) <= parallel - pays


def _logged_and_counted_once(ward: Ward, task_id: str) -> None:
    task = ward.site.task(task_id)
    assert task.status is Status.COMPLETED, task.error
    assert task.output == "; ".join(
        f"{_RESULTS[name]} {turn}" for turn in range(1, TURNS) for name in called(turn)
    )
    assert task.usage is not None
    assert (task.usage["turns"], task.usage["input_tokens"], task.usage["output_tokens"]) == (10, 5500, 55)
    with ward.site.store.read() as conn:
        booked = {
            row.id: row for row in sums(OrgScope(conn, ward.site.org), Span(0.0, float("inf")), "task", 1000)
        }
    assert (booked[task_id].turns, booked[task_id].input_tokens) == (10, 5500)
    logged = Counter(ward.site.events(task_id))
    assert (logged["model_turn"], logged["tool_call"], logged["message"]) == (10, 11, 10)
    assert logged["tool_result"] == 11  # of a call that an operator settled too


def _done_once(ward: Ward) -> None:
    done = [(name, what, key) for name, what, key in ward.left("done")]
    assert Counter((name, what) for name, what, _ in set(done)) == EXPECTED  # a repeated call has its old key
    # A call is made again only if its process died before its result was on record: at a write of its own, at one of a
    # sibling's beginning or result, or at the start of the next turn.
    at = [("end", "before"), ("begin", "before"), ("begin", "after")]
    keys = [key for write, when in at for key in ward.deaths(write, when)]
    lost = Counter(key.partition("/")[0].removeprefix("turn#") for key in keys)
    starts = (int(key.removeprefix("turn#")) for key in ward.deaths("start_turn", "before"))
    lost.update(str(turn - 1) for turn in starts)
    for (name, what), times in Counter((name, what) for name, what, _ in done).items():
        assert times <= 1 + lost[what], (name, what)
    assert all(times == 1 for call, times in Counter(done).items() if call[0] == "crash_pay")
    # A turn is asked again only if its process died before the answer was on record.
    asked = Counter(turn for (turn,) in ward.left("asked"))
    assert asked == dict.fromkeys(range(1, TURNS + 1), 2)
