"""Clients of providers' own libraries whose calls are journaled: `Context.client`."""

from __future__ import annotations

import asyncio
import functools
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2

from runyard import extras
from runyard.adapters._transports import BlockingJournaledTransport, JournaledTransport
from runyard.context import BlockingContext, Context
from runyard.errors import AgentError
from runyard.loopback import STRAIGHT

_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 600.0
_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = weakref.WeakKeyDictionary()


def client(ctx: Context | BlockingContext, vendor: str, given: Mapping[str, Any]) -> Any:
    """See `Context.client`."""
    if vendor not in _MAKERS:
        raise ValueError(f"ctx.client: there is no client {vendor!r}; there are {', '.join(_MAKERS)}.")
    if not extras.installed(vendor):
        raise AgentError(extras.advice(f"ctx.client({vendor!r})", vendor), code="missing_extra")
    where = {key: value for key, value in ctx._provider(vendor).items() if value}
    # One try a turn: a failure that passes is tried again by the run, after the wait that the provider asks for.
    options = {"max_retries": 0, **where, **given}
    if isinstance(ctx, Context):
        transport = JournaledTransport(ctx, vendor, shared_connections)
        options["http_client"] = httpx2.AsyncClient(transport=transport, timeout=_timeout())
    else:
        inner = BlockingJournaledTransport(ctx, vendor, _shared_blocking)
        options["http_client"] = httpx2.Client(transport=inner, timeout=_timeout())
    return _MAKERS[vendor](isinstance(ctx, Context), options)


def _openai(is_async: bool, options: dict[str, Any]) -> Any:
    from openai import AsyncOpenAI, OpenAI

    if not (options.get("api_key") or os.environ.get("OPENAI_API_KEY")) and options.get("base_url"):
        options["api_key"] = "none"  # servers of one's own ask for none; the library does
    return (AsyncOpenAI if is_async else OpenAI)(**options)


def _anthropic(is_async: bool, options: dict[str, Any]) -> Any:
    from anthropic import Anthropic, AsyncAnthropic

    return (AsyncAnthropic if is_async else Anthropic)(**options)


_MAKERS: Final[dict[str, Callable[[bool, dict[str, Any]], Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
}


def _timeout() -> httpx2.Timeout:
    return httpx2.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS)


def shared_connections() -> httpx2.AsyncClient:
    """The connections of this event loop: making a client costs 45 ms, most of it for TLS."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops[loop] = httpx2.AsyncClient(timeout=_timeout(), follow_redirects=True, mounts=STRAIGHT)
    return _loops[loop]


async def close_connections() -> None:
    """Close the connections of this event loop, which is about to be closed."""
    shared = _loops.pop(asyncio.get_running_loop(), None)
    if shared is not None:
        await shared.aclose()


@functools.cache
def _shared_blocking() -> httpx2.Client:
    return httpx2.Client(timeout=_timeout(), follow_redirects=True, mounts=STRAIGHT)
