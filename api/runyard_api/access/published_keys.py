"""The keys of a JWKS address (RFC 7517): fetched by one request at a time, kept while the address is away.

A token with an unknown key id delays no other request: the address is read once for all of them, and not again for
some seconds.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx2
import jwt
import orjson
import structlog

from runyard_common.outbound.unpacking import pieces
from runyard_common.values.errors import RunyardError, Unauthorized, Unavailable

log = structlog.get_logger("runyard.jwks")

#: How long keys are taken for current, in seconds, and how long they count where newer ones cannot be had.
FRESH: Final = 300.0
KEPT: Final = 86_400.0
#: The shortest pause between two fetches for keys that are not known, or after one that failed, in seconds.
PAUSE: Final = 10.0
_TIMEOUT: Final = 5.0
_MOST_BYTES: Final = 1_048_576
_ASKED: Final = {"accept": "application/json", "accept-encoding": "identity"}


class PublishedKeys:
    """The signature keys at one address, by their id; on one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = (
            -KEPT
        )  # when the last fetch succeeded, and when the last began, on the monotonic clock
        self._asked = -KEPT
        self._failed = False
        self._tls: ssl.SSLContext | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> jwt.PyJWK:
        """The key of this id. Errors: `Unauthorized` token_invalid; `Unavailable` jwks_unavailable."""
        now = time.monotonic()
        age = now - self._fetched
        known = self._keys.get(key_id) if age < KEPT else None
        if known is not None:
            if age >= FRESH and now - self._asked >= PAUSE:
                self._begin()  # for the next; this one is not kept waiting
            return known
        if self._fetching is not None or now - self._asked >= PAUSE:
            await asyncio.shield(self._begin())
            known = self._keys.get(key_id)
            if known is not None:
                return known
        if self._failed:
            raise Unavailable(
                "The keys that verify tokens cannot be fetched.", code="jwks_unavailable", retry_after=PAUSE
            )
        raise Unauthorized("The token does not count: no published key has its key id.", code="token_invalid")

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._asked = time.monotonic()
            self._fetching = asyncio.create_task(self._fetch(), name="fetch-keys")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                self._keys = _usable(await self._download())
            self._fetched, self._failed = time.monotonic(), False
        except (
            httpx2.HTTPError,
            httpx2.InvalidURL,
            RunyardError,
            OSError,
            ValueError,
            TypeError,
            TimeoutError,
            jwt.PyJWTError,
        ) as error:
            self._failed, self._tls = True, None  # the certificates may have been renewed
            log.warning(
                "The keys that verify tokens cannot be fetched", action="jwks", error=str(error)[:200]
            )
        finally:
            self._fetching = None

    async def _download(self) -> Any:
        if self._tls is None:  # loading the trusted certificates takes the time of many requests
            self._tls = await asyncio.to_thread(httpx2.create_ssl_context)
        async with (
            httpx2.AsyncClient(verify=self._tls, timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", self._url, headers=_ASKED) as answer,
            aclosing(pieces(answer)) as parts,
        ):
            answer.raise_for_status()
            body = bytearray()
            async for piece in parts:
                body += piece
                if len(body) > _MOST_BYTES:
                    raise ValueError(f"the answer has more than {_MOST_BYTES:,} bytes")
        return orjson.loads(body)


def _usable(document: Any) -> dict[str, jwt.PyJWK]:
    """The keys that can verify signatures. One that cannot be read is left out."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("the answer is no set of keys")
    found: dict[str, jwt.PyJWK] = {}
    for entry in document["keys"]:
        if not isinstance(entry, dict) or entry.get("use") not in (None, "sig"):
            continue
        key_id = entry.get("kid")
        if not isinstance(key_id, str) or entry.get("kty") not in ("RSA", "EC"):
            continue
        try:
            found[key_id] = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            log.warning("A published key cannot be read", action="jwks", key_id=key_id[:100])
    return found
