"""What a model endpoint lists, read within bounds: an address may answer without an end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import httpx2

from runyard.loopback import STRAIGHT

_MOST_BYTES: Final = 4 * 2**20
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Listed:
    """The answer of an endpoint."""

    status: int
    body: bytes


def ask(base_url: str, key: str) -> Listed:
    """GET /models of an OpenAI-compatible endpoint. Raises httpx2's errors, also for what is too long or too slow."""
    headers = {"accept-encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    ends = time.monotonic() + _SECONDS
    with (
        httpx2.Client(headers=headers, timeout=_SECONDS, mounts=STRAIGHT) as http,
        http.stream("GET", f"{base_url.rstrip('/')}/models") as answer,
    ):
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > _MOST_BYTES or time.monotonic() > ends:
                raise httpx2.ReadTimeout(
                    "The list of models is too long, or comes too slowly.", request=answer.request
                )
    return Listed(answer.status_code, bytes(body))
