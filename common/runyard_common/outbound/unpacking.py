"""What comes over the wire, unpacked in small pieces: a small packed answer may hold gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import httpx2

from runyard_common.outbound.errors import ProtocolBroken

_GZIP_OR_ZLIB: Final = 47  # zlib's window bits for "either header"
#: The most that is unpacked at a time, in bytes.
PIECE: Final = 65_536
#: What may be asked for: encodings that are unpacked within bounds.
ENCODINGS: Final = "gzip, deflate"


async def pieces(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The body as it was before it was packed. Raises `ProtocolBroken` for one that cannot be unpacked here."""
    unpack = _unpacker(response.headers.get("content-encoding", ""))
    async for part in response.aiter_raw():
        for piece in unpack.feed(part):
            yield piece
    unpack.end()


class _Plain:
    """A body that is not packed."""

    def feed(self, part: bytes) -> Iterator[bytes]:
        """The part as it is."""
        yield part

    def end(self) -> None:
        """Nothing is missing."""


class _Packed(_Plain):
    """A body of one or several packed streams, one after the other."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """What can be unpacked after this part, at most `PIECE` bytes at a time."""
        try:
            while part:
                self._begun = True
                if piece := self._engine.decompress(part, PIECE):
                    yield piece
                part = self._engine.unconsumed_tail
                if self._engine.eof:
                    part = self._engine.unused_data
                    self._engine = zlib.decompressobj(_GZIP_OR_ZLIB)
                    self._begun = False
        except zlib.error:
            raise ProtocolBroken("The packed answer cannot be unpacked.") from None

    def end(self) -> None:
        """The body has ended; it must be whole."""
        if self._begun:
            raise ProtocolBroken("The packed answer is cut off.")


def _unpacker(encoding: str) -> _Plain:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return _Plain()
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ProtocolBroken("The answer came in an encoding that was not asked for.", encoding=encoding[:40])
    return _Packed()
