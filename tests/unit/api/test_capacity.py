"""What one process holds for callers that do not read: counted, bounded, and given back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from runyard_api import sse
from runyard_api.access.capacity import PIECE, UnreadBytes
from runyard_api.state import State
from runyard_common.database.pages import Page
from runyard_common.values.errors import TooManyRequests, Unavailable
from runyard_common.values.logged_event import LoggedEvent

MIB = 2**20
EVENT: LoggedEvent = {"task_id": "t", "seq": 1, "type": "log", "attempt": 1, "data": {}, "at": 1.0}


def test_each_organisation_has_its_bound_and_all_have_one_together() -> None:
    unread = UnreadBytes(2 * MIB, 3 * MIB)
    with unread.count("a", MIB), unread.count("b", MIB):
        unread.check("a", MIB)
        with pytest.raises(TooManyRequests) as refused:
            unread.check("a", MIB + 1)
        assert (refused.value.code, refused.value.details["limit_bytes"]) == (
            "too_many_unread_bytes",
            2 * MIB,
        )
        with pytest.raises(Unavailable) as full:
            unread.check("c", MIB + 1)
        assert (full.value.code, full.value.details["limit_bytes"]) == ("no_room_for_answers", 3 * MIB)
    unread.check("a", 2 * MIB)


def test_an_answer_that_is_alone_may_be_larger_than_the_bound() -> None:
    UnreadBytes(MIB, MIB).check("a", 5 * MIB)


def test_small_answers_do_not_count() -> None:
    unread = UnreadBytes(MIB, MIB)
    with unread.count("a", PIECE):
        assert unread.of("a") == 0


def test_what_broke_off_is_given_back() -> None:
    unread = UnreadBytes(MIB, MIB)
    with pytest.raises(ConnectionError), unread.count("a", MIB):
        raise ConnectionError
    assert unread.of("a") == 0


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_replay_waits_until_there_is_room_for_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_RETRY_AFTER", 0.01)
    reads: list[int] = []
    again = asyncio.Event()

    async def read() -> Page[LoggedEvent]:
        reads.append(1)
        if len(reads) == 3:
            again.set()
        return Page([EVENT], bytes_=MIB)

    unread = UnreadBytes(MIB, MIB)
    state = cast(State, SimpleNamespace(unread=unread, stopping=asyncio.Event()))
    with unread.count("a", MIB):
        replay = sse.replayed(state, "a", read)
        entering = asyncio.create_task(replay.__aenter__())
        await asyncio.wait_for(again.wait(), 10)
        assert not entering.done()
    assert await entering == [EVENT]
    assert unread.of("a") == MIB
    await replay.__aexit__(None, None, None)
    assert unread.of("a") == 0
