"""The further fields of a request for a run, by name, for type checkers: the server judges them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Objects = Sequence[Mapping[str, Any]]


class _Options(TypedDict, total=False):
    """What every run takes. `priority`: lower runs first. `ttl` is in seconds, `budget` in USD."""

    version: str | None
    priority: int
    ttl: float | None
    metadata: Mapping[str, Any] | None
    system: str | None
    mode: Literal["flash", "fast", "base", "max"] | None
    model: str | None
    tools: Sequence[str] | None
    budget: float | None
    rules: Sequence[str] | None
    agents: Objects | None
    workflows: Objects | None
    mcp_servers: Objects | None
    datastores: Objects | None
    queries: Objects | None
    final_output: Mapping[str, Any] | None


class ChildOptions(_Options, total=False):
    """Options of `Context.run`. `deadline` is in seconds from now."""

    deadline: float | None


class RunOptions(_Options, total=False):
    """Options of `Client.run`. `deadline` is an RFC 3339 date-time, or seconds from now."""

    deadline: str | float | None
    query: str | None
    session_id: str | None
    session_strategy: Literal["enqueue", "reject", "interrupt"] | None
    end_user_id: str | None
    output_config: Mapping[str, Any] | None
    callback: Mapping[str, Any] | None
    background: bool | None
    schedules: Objects | None
    streaming_tokens: bool | None
