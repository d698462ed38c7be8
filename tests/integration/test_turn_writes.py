"""What a model turn writes: how many commits it takes, what is in each, and the statements it costs."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from runyard.tools import tool
from runyard_common.database.transaction import Tx
from runyard_common.runs.queries import journal, tasks
from tests.declared import Declared, declared_agents
from tests.fakes.model_server import calls, reply
from tests.waiting import until

pytestmark = pytest.mark.anyio
_CLOCK = ("clock_timestamp",)
_EXISTS = re.compile(r"EXISTS \(SELECT \*\s+FROM endpoints.*?\)", re.DOTALL)
#: An insert under the condition that it inserts something.
_IS_NEW = re.compile(r"^WITH made AS\s*\((INSERT .*?)\bRETURNING\b.*", re.DOTALL)
_STATEMENT = re.compile(r"(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s+(?:.*?\bFROM\s+)?(\w+)", re.DOTALL)


@tool(name="writes_look", effect="read")
async def look(n: int) -> str:
    """Look."""
    return f"seen {n}"


#: The result of another call is on record.
_other = asyncio.Event()


@tool(name="writes_wait", effect="read")
async def wait_for_the_other() -> str:
    """Wait."""
    await _other.wait()
    return "waited"


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction that wrote events of the run."""

    events: list[str]
    statements: list[str]
    turns_on_record: int
    turns_counted: int
    lines: list[str]


@pytest.fixture
async def declared(database_url: str, tmp_path: Path) -> AsyncIterator[Declared]:
    async with declared_agents(database_url, tmp_path / "home") as d:
        d.publish(tools=["writes_look", "writes_wait"])
        yield d


@contextmanager
def commits(declared: Declared) -> Iterator[list[Commit]]:
    """The commits that write events of runs, each with what the database has right after it."""
    store, found = declared.site.store, list[Commit]()
    statements: dict[int, list[str]] = defaultdict(list)
    inner = store.after_commit

    def note_statement(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        match = _STATEMENT.search(_EXISTS.sub("", _IS_NEW.sub(r"\1", statement)))
        if match and match[2] not in _CLOCK:
            statements[threading.get_ident()].append(f"{match[1].split()[0]} {match[2]}")

    def note_begin(_conn: Any) -> None:
        statements[threading.get_ident()].clear()

    def note_commit(tx: Tx) -> None:
        mine = list(statements[threading.get_ident()])
        statements[threading.get_ident()].clear()
        if tx.events:
            found.append(_commit(declared, tx, mine))
            statements[threading.get_ident()].clear()
        if inner is not None:
            inner(tx)

    event.listen(Engine, "begin", note_begin)
    event.listen(Engine, "before_cursor_execute", note_statement)
    store.after_commit = note_commit
    yield found
    store.after_commit = inner
    event.remove(Engine, "before_cursor_execute", note_statement)
    event.remove(Engine, "begin", note_begin)


def _commit(declared: Declared, tx: Tx, statements: list[str]) -> Commit:
    (task_id,) = {one.task_id for one in tx.events}
    with declared.site.store.read() as conn:
        task = tasks.load(conn, [task_id])[task_id]
        entries = journal.load(conn, [task_id]).get(task_id, [])
    return Commit(
        [one.type for one in tx.events],
        statements,
        sum(entry.kind == "model" for entry in entries),
        (task.usage or {}).get("turns", 0),
        [type_ for type_, _ in declared.lines(task)],
    )


async def test_a_turn_is_one_commit_and_the_results_of_its_calls_another(declared: Declared) -> None:
    turns = 4
    declared.server.answer(
        *(calls(text="Hm.", writes_look={"n": n}) for n in range(1, turns)), reply("Done.")
    )
    with commits(declared) as found:
        await declared.completed("Go.")
    during = [one for one in found if one.events[0] in ("message", "tool_call", "tool_result", "model_turn")]
    turn, results = ["message", "tool_call", "model_turn"], ["tool_result"]
    assert [one.events for one in during] == [*[turn, results] * (turns - 1), ["message", "model_turn"]]


async def test_the_commit_of_a_turn_has_its_entry_its_usage_and_its_lines(declared: Declared) -> None:
    declared.server.answer(calls(text="Hm.", writes_look={"n": 1}), reply("Done."))
    with commits(declared) as found:
        await declared.completed("Go.")
    first, second = (one for one in found if "model_turn" in one.events)
    assert (first.turns_on_record, first.turns_counted) == (1, 1)
    assert first.lines == ["user_message", "agent_response", "agent_tool_use"]
    assert (second.turns_on_record, second.turns_counted) == (2, 2)
    assert second.lines == [*first.lines, "agent_tool_response", "agent_response"]


async def test_a_turn_takes_eleven_statements(declared: Declared) -> None:
    declared.server.answer(calls(text="Hm.", writes_look={"n": 1}), reply("Done."))
    with commits(declared) as found:
        await declared.completed("Go.")
    turn = next(one for one in found if "model_turn" in one.events)
    results = next(one for one in found if "tool_result" in one.events)
    assert turn.statements == [
        "SELECT tasks",
        "INSERT journal",
        "INSERT turns",
        "UPDATE tasks",
        "INSERT events",
        "INSERT messages",
    ]
    assert results.statements == [
        "SELECT tasks",
        "INSERT journal",
        "UPDATE tasks",
        "INSERT events",
        "SELECT messages",  # what decides on the next turn: messages, money, the claim
    ]


async def test_a_call_that_others_outlast_is_on_record_before_they_end(declared: Declared) -> None:
    declared.server.answer(calls(writes_look={"n": 1}, writes_wait={}), reply("Done."))
    _other.clear()
    with commits(declared) as found:
        running = asyncio.create_task(declared.completed("Go."))
        await until(lambda: any("tool_result" in one.events for one in found))
        _other.set()
        await running
    assert [one.events for one in found if "tool_result" in one.events] == [["tool_result"], ["tool_result"]]
