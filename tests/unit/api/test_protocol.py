"""How often an answer writes to its connection."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from runyard_api.http.protocol import HeadWithBody


class Written:
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def answer(written: Written) -> HeadWithBody:
    return HeadWithBody(cast(asyncio.Transport, written), written.close)


@pytest.mark.anyio
async def test_the_head_goes_out_with_the_body_in_one_write(answer: HeadWithBody, written: Written) -> None:
    answer.write(b"head ")
    assert written.pieces == []
    answer.write(b"body")
    assert written.pieces == [b"head body"]


@pytest.mark.anyio
async def test_what_follows_goes_out_as_it_comes(answer: HeadWithBody, written: Written) -> None:
    for piece in (b"head ", b"one", b"two"):
        answer.write(piece)
    assert written.pieces == [b"head one", b"two"]


@pytest.mark.anyio
async def test_the_head_of_a_stream_does_not_wait_for_its_first_event(
    answer: HeadWithBody, written: Written
) -> None:
    answer.write(b"head ")
    await asyncio.sleep(0)
    assert written.pieces == [b"head "]
    answer.write(b"event")
    assert written.pieces == [b"head ", b"event"]


@pytest.mark.anyio
async def test_a_head_without_a_body_goes_out_before_the_connection_closes(
    answer: HeadWithBody, written: Written
) -> None:
    answer.write(b"head")
    answer.close()
    assert written.pieces == [b"head"]
    assert answer.is_closing()


@pytest.mark.anyio
async def test_the_head_of_a_reader_that_has_gone_is_not_written(
    answer: HeadWithBody, written: Written
) -> None:
    answer.write(b"head")
    written.close()
    await asyncio.sleep(0)
    assert written.pieces == []
