"""The delivery outbox: callbacks promised with the state change they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.domain.lifecycle import Event
from common.store.transaction import Tx

if TYPE_CHECKING:
    from common.store.transitions import Head


def promise(tx: Tx, changes: Sequence[tuple[Head, Event, dict[str, Any]]]) -> None:
    """Write a delivery for every callback and endpoint that wants to hear of these changes."""
