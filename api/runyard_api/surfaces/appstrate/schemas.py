"""Shapes of answers, for documents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from runyard_common.values.models import Model


class Open(Model):
    """A shape that may grow fields."""

    model_config = ConfigDict(extra="allow")


class Run(Open):
    """A run (section 9)."""

    id: str
    packageId: str  # noqa: N815
    status: Literal["pending", "running", "success", "failed", "timeout", "cancelled"]
    input: Any
    result: dict[str, Any] | None
    error: str | None
    startedAt: str  # noqa: N815
    completedAt: str | None  # noqa: N815
    duration: int | None


class RunPage(Open):
    """Some runs, newest first, and how many there are."""

    runs: list[Run]
    total: int = Field(description="Counted up to 100,000.")
    totalIsExact: Literal[False] | None = Field(  # noqa: N815
        None, description="false where there are as many as are counted, or more; else left out."
    )


class Done(Open):
    """Done."""

    ok: Literal[True]


class DeletedRuns(Open):
    """How many were deleted."""

    deleted: int


class RunLog(Open):
    """An entry of a run's log."""

    id: int
    runId: str  # noqa: N815
    orgId: str  # noqa: N815
    type: str
    level: Literal["debug", "info", "warn", "error"]
    event: str
    message: str | None
    data: Any
    createdAt: str  # noqa: N815


class ListOf(Open):
    """A list; `data` is what it holds."""

    object: Literal["list"]
