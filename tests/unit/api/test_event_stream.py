"""The answer that is a stream: what is sent, what keeps it alive, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest
from starlette.types import Message

from runyard_api.http import event_stream
from runyard_api.http.event_stream import EventStream
from runyard_api.sse import packed

pytestmark = pytest.mark.anyio
SCOPE = {"type": "http", "method": "GET", "path": "/"}


class Reader:
    """The other side: what it got, when it leaves, and how many messages it takes."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self.got: list[Message] = []
        self.news = asyncio.Event()
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.got) == self._limit:
            await asyncio.Event().wait()
        self.got.append(message)
        self.news.set()

    @property
    def chunks(self) -> list[bytes]:
        return [message["body"] for message in self.got if message["type"] == "http.response.body"]


class Frames:
    """Frames, and then silence where `last` is not the end; `closed`: no more are wanted."""

    def __init__(self, frames: Sequence[bytes], silent: bool = False) -> None:
        self.closed = False
        self._frames, self._silent = frames, silent

    async def all(self) -> AsyncGenerator[bytes]:
        try:
            for frame in self._frames:
                yield frame
            if self._silent:
                await asyncio.Event().wait()
        finally:
            self.closed = True


async def test_frames_are_sent_whole_and_then_the_end() -> None:
    reader, frames = Reader(), Frames([b"a", b"b"])
    await EventStream(frames.all())(SCOPE, reader.receive, reader.send)
    assert reader.chunks == [b"a", b"b", b""]
    assert [message.get("more_body") for message in reader.got] == [None, True, True, False]
    assert (b"content-type", b"text/event-stream; charset=utf-8") in reader.got[0]["headers"]
    assert frames.closed


async def test_a_reader_that_leaves_closes_the_frames() -> None:
    reader, frames = Reader(), Frames([b"a"], silent=True)
    stream = asyncio.create_task(EventStream(frames.all())(SCOPE, reader.receive, reader.send))
    while not reader.chunks:
        await reader.news.wait()
        reader.news.clear()
    reader.left.set()
    await asyncio.wait_for(stream, 50)
    assert frames.closed


async def test_a_reader_that_takes_nothing_is_dropped_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "SLOWEST", 0.02)
    reader, frames = Reader(limit=2), Frames([b"a", b"b"])
    await asyncio.wait_for(EventStream(frames.all())(SCOPE, reader.receive, reader.send), 5)
    assert reader.chunks == [b"a"]
    assert frames.closed


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE", 0.02)
    monkeypatch.setattr(event_stream, "_LOOK_EVERY", 0.01)
    reader, frames = Reader(), Frames([b"a"], silent=True)
    stream = asyncio.create_task(EventStream(frames.all())(SCOPE, reader.receive, reader.send))
    async with asyncio.timeout(50):
        while len(reader.chunks) < 3:
            await reader.news.wait()
            reader.news.clear()
    reader.left.set()
    await stream
    assert reader.chunks[0] == b"a"
    assert set(reader.chunks[1:]) == {b": keep-alive\n\n"}


async def test_a_failure_of_the_frames_is_not_taken_for_a_reader_that_left() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise TimeoutError("of its own")

    reader = Reader()
    with pytest.raises(TimeoutError, match="of its own"):
        await EventStream(broken())(SCOPE, reader.receive, reader.send)


async def test_head_is_answered_without_a_stream() -> None:
    reader, frames = Reader(), Frames([b"a"])
    await EventStream(frames.all())(SCOPE | {"method": "HEAD"}, reader.receive, reader.send)
    assert reader.chunks == [b""]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_it_was_given_to_close_is_closed_in_the_end(method: str) -> None:
    closed: list[bool] = []
    reader, frames = Reader(), Frames([b"a"])
    stream = EventStream(frames.all(), close=lambda: closed.append(True))
    await stream(SCOPE | {"method": method}, reader.receive, reader.send)
    assert closed == [True]


def test_small_frames_are_packed_and_large_ones_go_alone() -> None:
    small, large = b"x" * 10_000, b"y" * 50_000
    packs = list(packed([small, small, small, small, large, small]))
    assert [len(pack) for pack in packs] == [30_000, 10_000, 50_000, 10_000]
    assert b"".join(packs) == small * 4 + large + small
    assert list(packed([])) == []
