"""What the test kit has beside single runs: every crash, time that passes, and fixtures for pytest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runyard import BlockingContext, Context, agent, authoring
from runyard.testing import Outcome, approve, crashes, expire, occurrences, pass_time, run
from runyard_common import runtime
from runyard_common.database.transaction import Tx


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authoring, "_registry", {})


def test_a_run_is_made_for_each_of_its_writes_also_behind_a_question() -> None:
    done: list[str] = []

    def do(what: str) -> int:
        done.append(what)
        return len(what)

    @agent("order")
    async def order(ctx: Context, args: Any) -> list[int]:
        first = await ctx.step("one", do, "one")
        await ctx.ask("Go on?")
        return [first, await ctx.step("three", do, "three")]

    writes = run(order, answers=["yes"]).writes
    assert writes == (2, 2)  # the step, the question; the step, the end
    done.clear()
    outcomes = list(crashes(order, answers=["yes"]))
    assert [one.output for one in outcomes] == [[3, 5]] * sum(writes)
    # Behind a step another attempt goes on; the question and the end had been written, and cost none.
    assert [one.attempts for one in outcomes] == [3, 2, 3, 2]
    assert done.count("one") == done.count("three") == len(outcomes) + 1  # the first run counts the writes
    with pytest.raises(AssertionError, match="more than 2"):
        next(crashes(order, most=2, answers=["yes"]))


def test_a_question_expires_without_a_wait() -> None:
    @agent("asks")
    async def asks(ctx: Context, args: Any) -> Any:
        return [
            await ctx.ask("Which?", timeout=86_400, default="none"),
            await ctx.review("pay", {"n": 1}),
        ]

    outcome = run(asks, answers=[expire(), approve()])
    assert (outcome.output, outcome.asked) == (["none", {"n": 1}], ("Which?", "Approve: pay"))
    assert run(asks, answers={"Which?": "this", "Approve: pay": approve()}).output == ["this", {"n": 1}]
    with pytest.raises(AssertionError, match="'Approve: pay' never expires"):
        run(asks, answers=[expire(), expire()])


def test_time_that_passes_in_a_step_ends_a_run_with_a_timeout() -> None:
    @agent("slow", timeout=3600)
    async def slow(ctx: Context, args: float) -> str:
        async def work() -> None:
            pass_time(args)
            await asyncio.sleep(0)

        await ctx.step("work", work)
        await ctx.step("more", lambda: None)
        return "done"

    @agent("plain", timeout=3600)
    def plain(ctx: BlockingContext, args: float) -> str:
        ctx.step("work", lambda: pass_time(args))
        ctx.step("more", lambda: None)
        return "done"

    for one in (slow, plain):
        assert run(one, 60).output == "done"
        late = run(one, 7200)
        assert (late.error or {}).get("code") == "timeout"
    with pytest.raises(AssertionError, match="in the code of an agent"):
        pass_time(1)


def test_time_that_passes_in_a_shield_ends_the_run_behind_it() -> None:
    done: list[str] = []

    @agent("careful", timeout=3600)
    async def careful(ctx: Context, args: float) -> None:
        async with ctx.shield():
            pass_time(args)
            await asyncio.sleep(0.01)
            done.append("both writes")
        await asyncio.sleep(0)
        done.append("more")

    assert (run(careful, 7200).error or {}).get("code") == "timeout"
    assert done == ["both writes"]


def test_a_time_limit_around_a_wait_is_not_over_while_the_run_waits() -> None:
    @agent("hurried")
    async def hurried(ctx: Context, args: Any) -> Any:
        async with asyncio.timeout(3600):
            answer = await ctx.ask("Which?", timeout=7200, default=None, schema=int)
            await ctx.sleep(7200)
            return answer

    assert run(hurried, answers=[expire()]).output is None
    assert run(hurried, answers=[7]).output == 7


def test_a_parent_goes_on_before_what_follows_the_commit_of_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @agent("@kit/child")
    async def child(ctx: Context, args: int) -> int:
        return 2 * args

    @agent("@kit/parent")
    async def parent(ctx: Context, args: Any) -> list[Any]:
        return [await ctx.map(child, [1, 2, 3]), *await ctx.gather(ctx.run(child, 4), ctx.run(child, 5))]

    def late(tx: Tx, commands: Sequence[Any]) -> list[int]:
        return [0] * len(commands)  # so late that it never comes

    monkeypatch.setattr(runtime, "admit_freed", late)
    assert run(parent, agents=[child]).output == [[2, 4, 6], 8, 10]


def test_a_default_of_none_is_the_answer_of_any_type() -> None:
    @agent("loop")
    async def on_loop(ctx: Context, args: Any) -> list[Any]:
        several = await ctx.ask([{"key": "n", "text": "How many?", "schema": int}], timeout=5, default=None)
        return [await ctx.ask("?", schema=int, timeout=5, default=None), several]

    @agent("thread", isolation="thread")
    async def in_thread(ctx: Context, args: Any) -> list[Any]:
        several = await ctx.ask([{"key": "n", "text": "How many?", "schema": int}], timeout=5, default=None)
        return [await ctx.ask("?", returns=int, timeout=5, default=None), several]

    @agent("plain")
    def plain(ctx: BlockingContext, args: Any) -> list[Any]:
        several = ctx.ask([{"key": "n", "text": "How many?", "schema": int}], timeout=5, default=None)
        return [ctx.ask("?", schema=int, timeout=5, default=None), several]

    for one in (on_loop, in_thread, plain):
        assert run(one, answers=[expire(), expire()]).output == [None, {"n": None}]
        assert run(one, answers=[8, 7]).output == [7, {"n": 8}]


def test_occurrences_are_those_of_the_scheduler() -> None:
    before = datetime(2026, 3, 27, 12, tzinfo=UTC)
    found = occurrences("30 8 * * 1-5", timezone="Europe/Berlin", after=before, count=2)
    assert [one.isoformat() for one in found] == ["2026-03-30T08:30:00+02:00", "2026-03-31T08:30:00+02:00"]
    assert occurrences("2030-01-31T09:00", after=before) == [datetime(2030, 1, 31, 9, tzinfo=UTC)]


PROJECT = {
    "my_agent.py": """
from runyard import agent

@agent("greet")
async def greet(ctx, args):
    return await ctx.step("hello", lambda: "hello")
""",
    "test_my_agent.py": """
import json
from pathlib import Path
from my_agent import greet

def test_it(runyard_run, runyard_crashes, runyard_replay):
    outcome = runyard_run(greet)
    assert [one.output for one in runyard_crashes(greet)] == ["hello"] * sum(outcome.writes)
    (Path(__file__).parent / "journal.json").write_text(json.dumps(outcome.journal))
    assert runyard_replay(greet, "journal.json").check().output == "hello"
""",
    "conftest.py": """
import sys
sys.path.insert(0, ".")

def pytest_configure():
    import sys
    assert "runyard.testing" not in sys.modules
""",
}


@pytest.mark.processes
@pytest.mark.timeout(150)
def test_a_project_uses_the_fixtures(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)
    # By its module: an installation in this environment may be older than the entry point.
    plugin = ["-p", "no:runyard", "-p", "runyard_pytest"]
    words = [sys.executable, "-m", "pytest", "-q", *plugin, "--rootdir", str(tmp_path)]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, "1 passed" in ran.stdout) == (0, True), ran.stdout + ran.stderr


def test_the_plugin_imports_nothing_of_runyard() -> None:
    code = (
        "import sys, runyard_pytest\n"
        "print(sorted(name for name in sys.modules if name.startswith('runyard')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['runyard_pytest']"


def test_pytest_finds_the_fixtures_by_an_entry_point() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"runyard": "runyard_pytest"}


def test_outcomes_compare_without_their_journals() -> None:
    @agent("same")
    async def same(ctx: Context, args: Any) -> int:
        return 1

    found: Outcome = run(same)
    assert found.journal["task"]["agent"] == "@default/same"
