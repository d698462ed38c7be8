"""Conversations of thousands of turns: resumed in time linear in them, with a part of the journal in memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from sqlalchemy import insert

from runyard_common.database.pages import MOST_BYTES
from runyard_common.runs.queries import journal
from runyard_common.runs.rules.journal import JournalEntry, Unread
from runyard_common.runs.service.claims import Claimed
from runyard_common.tables import query as tables
from runyard_workers.agent.loop.transcript import Transcript
from runyard_workers.attempts.attempt import Attempt
from tests.installation import Installation

pytestmark = pytest.mark.anyio

SIZE: Final = 16 * 1024
TURNS: Final = 2_000  # 32 MB of results


def _turn(number: int) -> dict[str, Any]:
    call = {"part_kind": "tool-call", "tool_name": "look", "args": "{}", "tool_call_id": f"c{number}"}
    asked: dict[str, Any] = {"part_kind": "user-prompt", "content": "Begin."}
    if number > 1:
        given = {"part_kind": "tool-return", "tool_name": "look", "tool_call_id": f"c{number - 1}"}
        asked = given | {"content": {"$journal": True}}
    messages = [{"kind": "request", "parts": [asked]}, {"kind": "response", "parts": [call]}]
    return {"agent": "@test/bot", "repairs": 0, "messages": messages}


def _journal(task_id: str, turns: int) -> list[JournalEntry]:
    found = []
    for number in range(1, turns + 1):
        turn = JournalEntry(
            task_id, 1, f"turn#{number}", 2 * number, "model", "m", "idempotent", None, "done", _turn(number)
        )
        result = {"kind": "ok", "content": f"{number}:" + "x" * SIZE}
        call = replace(
            turn, key=f"{turn.key}/c{number}", pos=2 * number + 1, kind="tool", name="look", value=result
        )
        found += [turn, call]
    return found


class Resumed:
    """An attempt at a task that has so many turns behind it, and what it reads of them."""

    def __init__(self, site: Installation, task_id: str, turns: int, patch: pytest.MonkeyPatch) -> None:
        table = tables.JournalEntry.__table__
        with site.store.begin() as tx:
            rows = [journal._row(tx, one) for one in _journal(task_id, turns)]
            for start in range(0, len(rows), 500):
                tx.conn.execute(insert(table), rows[start : start + 500])
        self.read: list[int] = []
        values = journal.values

        def counted(conn: Any, task_id: str, keys: Sequence[str]) -> dict[str, Any]:
            self.read.append(len(keys))
            return values(conn, task_id, keys)

        patch.setattr(journal, "values", counted)
        with site.store.read() as conn:
            entries = journal.outline(conn, task_id)
        nothing = cast(Any, None)
        claimed = Claimed(replace(site.task(task_id), attempt=2), entries)
        self.attempt = Attempt(claimed, {}, site.store, nothing, nothing, {}, nothing)

    async def history(self) -> Transcript:
        transcript = Transcript(self.attempt)
        assert await transcript.restore()
        return transcript


async def test_a_conversation_of_thousands_of_turns_is_restored_piece_by_piece(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Installation(database_url) as site:
        task_id = await site.submit(site.publish(_no_code))
        resumed = Resumed(site, task_id, TURNS, monkeypatch)
        unread = sum(isinstance(one.value, Unread) for one in resumed.attempt.replay.entries)
        tracemalloc.start()
        transcript = await resumed.history()
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert transcript.turn == TURNS
    assert len(transcript.history) == 2 * TURNS - 1
    contents = [part.content for message in transcript.history[2::2] for part in message.parts]  # type: ignore[union-attr]
    assert contents == [f"{number}:" + "x" * SIZE for number in range(1, TURNS)]
    # Each value once, and as many at a time as fit.
    assert unread - 1 <= sum(resumed.read) <= unread
    assert len(resumed.read) <= TURNS * SIZE // MOST_BYTES + 2 * TURNS // 500 + 2
    assert peak - kept <= 3 * MOST_BYTES, (peak, kept)
    assert all(isinstance(one.value, Unread) for one in resumed.attempt.replay.entries[:-1])


async def _no_code(ctx: Any, args: Any) -> None:
    """Never runs."""
