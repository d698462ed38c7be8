"""Agents in processes of their own: every call of the context, what a process inherits, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard import agent
from runyard.authoring import registered
from runyard.testing import Outcome, approve, edit, event, run
from runyard_common.database.rows import OrgScope
from runyard_common.human_tasks.service import answers
from runyard_common.runs.queries import events
from runyard_common.runs.rules.lifecycle import Status
from runyard_common.values.ids import uuid7
from runyard_workers.processes.pool import Owner, ProcessPool
from tests import process_agents, waiting_process_agents
from tests.installation import Installation
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture
def site_url(tmp_path: Path) -> str:
    """Which database it is makes no difference here."""
    return f"sqlite:///{tmp_path / 'runyard.db'}"


def _made(agent: str, processes: bool) -> Outcome:
    return run(
        agent,
        {"n": 4, "tester": os.getpid()},
        message="go",
        answers={"Which colour?": "red", "Which size?": 7, "Approve: pay": approve()},
        history=[{"role": "user", "type": "user_message", "content": "before"}],
        files={"a.txt": b"content"},
        processes=processes,
    )


def _reported(outcome: Outcome) -> list[tuple[str, Any]]:
    names = ("name", "data", "message", "fraction", "key")
    return [
        (event.type, {name: event.data[name] for name in names if name in event.data})
        for event in outcome.events
    ]


def test_an_iterator_without_a_next_is_the_same_failure_in_a_process_as_in_a_thread() -> None:
    for processes in (False, True):
        error = run("@process/finds_nothing", processes=processes).error
        assert error is not None
        assert error["message"] == "StopIteration: next() found nothing, and had no default"


@pytest.mark.parametrize("isolation", ["loop", "thread", "process"])
def test_a_name_that_no_context_has_is_refused_where_it_is_used(isolation: str) -> None:
    """Without an `await`, too: nothing is called that might be waited for."""
    error = run(f"@process/misspelt_in_{isolation}", processes=True).error
    assert error is not None
    assert error["message"] == (
        "AttributeError: 'Context' object has no attribute 'setp'. Did you mean: 'step'?"
    )
    assert "ctx.setp(" in error["details"]["traceback"]


@pytest.mark.parametrize("name", ["calls", "blocking_calls"])
@pytest.mark.timeout(180)
def test_every_call_of_the_context_does_in_a_process_what_it_does_elsewhere(name: str) -> None:
    in_process = _made(f"@process/{name}", processes=True)
    elsewhere = [_made(f"@process/{name}", processes=False)]  # in a thread
    if name == "calls":
        elsewhere.append(_made("@process/calls_on_loop", processes=False))
    assert (in_process.status, in_process.error) == ("completed", None)
    assert in_process.output.pop("in") == "a process"
    assert in_process.output["doubled"] == 8
    assert in_process.output["caught"] == ["refused with 7", 7]
    for outcome in elsewhere:
        assert outcome.output.pop("in") == "the test's process"
        assert outcome.output | {"task": None} == in_process.output | {"task": None}
        assert _reported(outcome) == _reported(in_process)
        assert (outcome.asked, outcome.attempts) == (in_process.asked, in_process.attempts)
        assert outcome.tokens == in_process.tokens


@pytest.mark.parametrize("name", ["waits", "waits_on_loop"])
def test_an_agent_waits_in_a_process_as_it_does_elsewhere(name: str) -> None:
    outcome = run(f"@process/{name}", events=[event("paid", 5, key="k")], processes=True)
    failure = "invalid literal for int() with base 10: 'x'"
    assert (outcome.status, outcome.error) == ("completed", None)
    assert outcome.output == [[10, "1"], [20, "2"], "1", failure, [0, 10, 20], 5]
    assert outcome.attempts == 5, "what is gathered is waited for together"


def test_a_plain_agent_waits_in_a_process_too() -> None:
    outcome = run(waiting_process_agents.blocking_waits, events=[event("paid", 5, key="k")], processes=True)
    assert (outcome.status, outcome.output) == ("completed", [10, "1", [0, 10, 20], 5])


def test_turns_and_tool_calls_of_an_agents_own_loop_do_the_same_in_a_process() -> None:
    answers = {"Approve the call of look.": edit({"at": "that"}), "Look at that?": "sure", "Done?": "yes"}
    in_process, on_loop = (
        run(f"@process/{name}", {}, answers=answers, processes=True) for name in ("turns", "turns_on_loop")
    )
    assert in_process.error is None
    assert in_process.output == [{"calls": 1}, [4, "sure"], "yes"]
    assert in_process.output == on_loop.output
    assert _reported(in_process) == _reported(on_loop)
    assert (in_process.asked, in_process.usage) == (on_loop.asked, on_loop.usage)


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("an object", "value_not_json", "at $.lines[0]: object has no JSON form"),
        ("a coroutine", "invalid_call", "not the coroutine that calling it returned"),
        ("a result", "result_not_json", "lock has no JSON form"),
        ("too large", "value_too_large", "Keep large data in a file"),
        ("an exit", "agent_error", "SystemExit: the code ended its process (exit code 2) (in step 'x')"),
        ("no such call", "agent_error", "AttributeError"),
    ],
)
def test_what_makes_no_sense_is_refused_as_it_is_elsewhere(how: str, code: str, text: str) -> None:
    outcome = run(process_agents.odd, {"how": how})  # in a thread: the messages are the same
    assert outcome.error is not None
    assert (outcome.status, outcome.error["code"]) == ("failed", code)
    assert text in outcome.error["message"]


async def _published(site: Installation, *names: str) -> None:
    for name in names:
        site.publish_definition(registered()[f"@process/{name}"])


async def test_a_process_has_its_authors_environment_and_nothing_of_the_workers(
    site_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNYARD_SECRET_KEY", "secret")
    monkeypatch.setenv("OF_THE_AUTHOR", "kept")
    async with Installation(site_url) as site:
        await _published(site, "looks")
        await site.engine()
        task = await site.ended(await site.submit("@process/looks"))
    assert task.error is None
    assert task.output == {
        "settings": [],
        "kept": "kept",
        "sockets": 1,
        "descriptors": 5,  # standard ones, the socket to its worker, the file for the stack of a crash
        "leader": True,
        "main_thread": True,
        "start_method": None,
        "parent_process": True,
        "policy": "asyncio.unix_events",
        "terminates": True,
        "interrupts": True,
    }


async def test_a_process_is_used_again_by_its_agent_and_organisation_if_nothing_is_left_in_it(
    site_url: str,
) -> None:
    async with Installation(site_url) as site:
        await _published(site, "leaves", "asks")
        await site.engine()

        async def pid(args: dict[str, Any] | None = None, **options: Any) -> int:
            task_id = await site.submit("@process/leaves", args or {}, **options)
            task = await site.ended(task_id)
            assert task.status is Status.COMPLETED, task.error
            await until(lambda: len(site.processes) == site.processes.idle)
            return int(task.output)

        first = await pid()
        assert await pid() == first
        assert await pid(org_id=uuid7()) != first
        for what in ("a thread", "a task", "a child", "a variable"):
            used = await pid()
            assert await pid({"what": what}) == used
            assert await pid() != used, what
        used = await pid()
        failed = await site.ended(await site.submit("@process/leaves", {"what": "a failure"}))
        assert failed.status is Status.FAILED
        assert await pid() != used
        # One that was suspended has left its code in order.
        asking = await site.submit("@process/asks")
        await site.until(asking, Status.WAITING_FOR_INPUT)
        await until(lambda: len(site.processes) == site.processes.idle)
        (question,) = site.questions(asking)
        site.transact(lambda tx: answers.post_message(tx, site.org, asking, "yes", "test", question.id))
        before, after = (await site.ended(asking)).output
        assert before == after


def test_a_crash_is_the_agents_failure_under_its_own_retry_budget() -> None:
    once = run(process_agents.crashes, {}, processes=True)
    assert (once.status, once.output, once.attempts) == ("completed", 2, 2)
    always = run(process_agents.crashes, {"always": True}, processes=True)
    assert always.error is not None
    assert (always.attempts, always.error["code"], always.error["cause"]) == (2, "process_crashed", "agent")
    assert always.error["details"]["exit_code"] == 3
    spoilt = run(process_agents.crashes, {"garbage": True}, processes=True)
    assert spoilt.error is not None
    assert (spoilt.error["code"], spoilt.error["cause"]) == ("process_crashed", "agent")
    assert "it sent its worker what is no message" in spoilt.error["message"]


async def test_a_process_may_order_itself_to_leave_but_not_its_worker(site_url: str) -> None:
    async with Installation(site_url) as site:
        await _published(site, "signals")
        await site.engine()
        for to, number, code in (
            ("its worker", signal.SIGTERM, "worker_signalled"),
            ("its worker", signal.SIGKILL, "worker_signalled"),
            ("its worker", signal.SIGSTOP, "worker_signalled"),
            ("its worker", signal.SIGSEGV, "worker_signalled"),
            ("its worker's group", None, "worker_signalled"),
            ("itself", None, "process_crashed"),
        ):
            task = await site.ended(await site.submit("@process/signals", {"to": to, "number": number}))
            assert task.error is not None
            assert (task.error["code"], task.error["cause"]) == (code, "agent")


@pytest.mark.parametrize("why", ["lost", "cancel", "drain", "timeout"])
async def test_a_process_in_an_endless_loop_ends_with_its_attempt(site_url: str, why: str) -> None:
    async with Installation(site_url) as site:
        await _published(site, "spins")
        engine = await site.engine()
        task_id = await site.submit("@process/spins")
        await until(lambda: "progress" in site.events(task_id))
        (process,) = site.processes._all
        life = engine._runs.get(task_id)
        assert life is not None
        life.leave(why)
        await until(lambda: process.death is not None)
        assert process.death is not None
        assert process.death.status == -signal.SIGKILL
        await until(
            lambda: engine._runs.get(task_id) is not life
        )  # one that is handed back may run again here
        assert site.processes.idle == 0


async def test_a_shielded_block_in_a_process_sees_that_it_has_to_leave(site_url: str, tmp_path: Path) -> None:
    file = tmp_path / "done"
    async with Installation(site_url) as site:
        await _published(site, "shields")
        engine = await site.engine()
        task_id = await site.submit("@process/shields", {"file": str(file)})
        await until(lambda: "progress" in site.events(task_id))
        life = engine._runs.get(task_id)
        assert life is not None
        life.leave("cancel")
        await until(lambda: engine.running == 0)
        assert file.read_text() == "block\n"


def test_calls_gathered_in_a_process_ask_together() -> None:
    outcome = run("@process/gathers", {}, answers={"A?": 1, "B?": 2}, processes=True)
    assert outcome.error is None
    assert outcome.output == [1, 2, 4]
    assert (outcome.asked, outcome.attempts) == (("A?", "B?"), 2)


async def test_what_a_process_prints_and_logs_reaches_its_run(site_url: str) -> None:
    async with Installation(site_url) as site:
        await _published(site, "prints")
        await site.engine()
        task_id = await site.submit("@process/prints")
        assert (await site.ended(task_id)).error is None
        with site.store.read() as conn:
            logged = events.after(OrgScope(conn, site.org), task_id, 0, 1000)
        lines = [event["data"] for event in logged if event["type"] == "log"]
    assert sorted((line["source"], line["message"]) for line in lines) == [
        ("logging", "logged"),
        ("stdout", "from a thread"),
        ("stdout", "printed"),
        ("stdout", "without an end"),
    ]


async def test_idle_processes_are_bounded_and_end_after_a_while() -> None:
    pool = ProcessPool(most_idle=1, idle_seconds=0.2)
    definition = registered()["@process/child"]
    owners = [Owner(uuid7(), definition.name) for _ in range(2)]
    started = await asyncio.gather(*(pool.acquire(owner, definition) for owner in owners))
    assert len(pool) == 2
    for process, owner in zip(started, owners, strict=True):
        pool._keep(process, owner)
    assert pool.idle == 1
    await until(lambda: len(pool) == 0)
    assert [process.death.status for process in started if process.death] == [0, 0], "in order"
    await pool.close()


async def test_a_process_ends_with_its_worker() -> None:
    """The worker's end of the socket is closed by its death; real workers: tests/acceptance/test_isolation.py."""
    pool = ProcessPool()
    definition = registered()["@process/child"]
    process = await pool.acquire(Owner(uuid7(), definition.name), definition)
    assert process._transport is not None
    process._transport.abort()
    await until(lambda: process.death is not None)
    assert process.death is not None
    assert process.death.status == -signal.SIGKILL
    await pool.close()


def test_an_agent_that_no_module_declares_fails_with_what_to_do() -> None:
    code = "@agent('@process/nowhere', isolation='process')\nasync def nowhere(ctx, args): ..."
    module: dict[str, Any] = {"agent": agent, "__name__": "nowhere"}
    exec(code, module)
    outcome = run(module["nowhere"], processes=True)
    assert outcome.error is not None
    assert outcome.error["code"] == "agent_not_loadable"
    assert "Declare it at the top of a module." in outcome.error["message"]
    assert run(module["nowhere"]).status == "completed", "in a thread it need not be imported"


def test_a_compensation_that_ends_its_process_is_given_up_and_the_others_run() -> None:
    outcome = run(process_agents.dies_undone, processes=True)
    assert outcome.error is not None
    assert "cause" in outcome.error["message"]
    ended = outcome.of_type("compensated")
    assert [(one["name"], one["outcome"]) for one in ended] == [
        ("b", "done"),
        ("dies", "failed"),
        ("a", "done"),
    ]
    assert (ended[1]["error"]["code"], ended[1]["error"]["cause"]) == ("process_crashed", "agent")


def test_a_program_that_runs_its_agent_at_its_top_level_does_so_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import pathlib, sys\n"
        "from runyard import agent\n"
        "from runyard.testing import run\n"
        "@agent('doubles', isolation='process')\n"
        "def doubles(ctx, args: int) -> int:\n"
        "    return args * 2\n"
        "begun = pathlib.Path(__file__).with_name('begun')\n"
        "with begun.open('a') as file:\n"
        "    file.write('x')\n"
        "if begun.stat().st_size > 3:\n"
        "    sys.exit('again and again')\n"
        "print(run(doubles, 21, processes=True).output)\n"
    )
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "42\n", ended.stderr
    assert (
        tmp_path / "begun"
    ).read_text() == "xx"  # by the program, and where the agent's process imports it
