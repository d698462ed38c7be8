"""`ctx.shield`: a block of an agent's code that is not interrupted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class Shield:
    """``async with ctx.shield():`` of an ``async def`` agent."""

    def __init__(self, switch: Callable[[bool, float], Awaitable[None]], seconds: float) -> None:
        self._switch = switch
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await self._switch(True, self._seconds)

    async def __aexit__(self, *_: object) -> None:
        await self._switch(False, self._seconds)


class BlockingShield:
    """``with ctx.shield():`` of a plain ``def`` agent."""

    def __init__(self, switch: Callable[[bool, float], None], seconds: float) -> None:
        self._switch = switch
        self._seconds = seconds

    def __enter__(self) -> None:
        self._switch(True, self._seconds)

    def __exit__(self, *_: object) -> None:
        self._switch(False, self._seconds)
