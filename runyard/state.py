"""`ctx.state`: small values that the runs of a session share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class State:
    """That of an ``async def`` agent. At most 1,000 values, 1 MiB of JSON together; a name has at most 200 characters.

    Each call is journaled: a replay returns what the run got, and a crash neither loses a change nor makes it twice. Of
    two runs that change a value the later write counts.
    """

    def __init__(self, access: Callable[[str, str, Any], Awaitable[Any]]) -> None:
        self._access = access

    async def get(self, name: str, default: Any = None) -> Any:
        """The value of this name, in its JSON form; `default` where there is none."""
        found = await self._access("get", name, None)
        return found["value"] if found["there"] else default

    async def set(self, name: str, value: Any) -> None:
        """Keep a value, in its JSON form, for the rest of the run and the session's next ones.

        Raises `AgentError` state_full (256 KiB a value, 1,000 values, 1 MiB together), value_not_json or
        session_not_found.
        """
        await self._access("set", name, value)

    async def delete(self, name: str) -> bool:
        """Delete a value; whether it was there."""
        return bool((await self._access("delete", name, None))["there"])


class BlockingState:
    """The same of a plain ``def`` agent."""

    def __init__(self, access: Callable[[str, str, Any], Any]) -> None:
        self._access = access

    def get(self, name: str, default: Any = None) -> Any:
        """See `State.get`."""
        found = self._access("get", name, None)
        return found["value"] if found["there"] else default

    def set(self, name: str, value: Any) -> None:
        """See `State.set`."""
        self._access("set", name, value)

    def delete(self, name: str) -> bool:
        """See `State.delete`."""
        return bool(self._access("delete", name, None)["there"])
