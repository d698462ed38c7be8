"""The live stream, as an attempt uses it."""

from __future__ import annotations

from typing import Any, Protocol


class Tokens(Protocol):
    """Where live token deltas go."""

    def token(self, task_id: str, attempt: int, data: dict[str, Any]) -> None:
        """Send a delta to those who follow this task now."""
