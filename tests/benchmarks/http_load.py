"""A light HTTP/1.1 load: keep-alive connections that write one prepared request after another."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit


async def post_many(
    url: str, key: str, body: bytes, count: int, connections: int = 32
) -> tuple[list[bytes], float]:
    """POST the same body `count` times; the answers' bodies and the wall time in seconds. Expects 202."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    left = iter(range(count))
    answers: list[bytes] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in left:
            writer.write(head + body)
            answers.append(await _answer(reader))
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*[connection() for _ in range(min(connections, count))])
    return answers, time.perf_counter() - began


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202"), head
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return await reader.readexactly(length)
