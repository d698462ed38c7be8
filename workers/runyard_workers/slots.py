"""How many runs a worker process holds at once."""

from __future__ import annotations

from collections.abc import Callable


class Slots:
    """Places for `limit` runs. Change it on the loop's thread only; any thread may read it.

    What `on_free` was given is called, on the loop, whenever all were in use and one is free again.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a worker needs at least one slot, not {limit}")
        self.limit = limit
        self.in_use = 0
        self.paused = False  # an operator drains the worker: none is free
        self._on_free: list[Callable[[], object]] = []

    def on_free(self, call: Callable[[], object]) -> None:
        """Call this, too, when a slot is free again."""
        self._on_free.append(call)

    @property
    def free(self) -> int:
        """Slots that a run may have now."""
        return 0 if self.paused else max(0, self.limit - self.in_use)

    def occupy(self, count: int = 1) -> None:
        """Hold `count` more slots, beyond the limit if need be, until they are released."""
        self.in_use += count

    def release(self, count: int = 1) -> None:
        """Give `count` slots back."""
        if count > self.in_use:
            raise ValueError(f"{count} slots released, {self.in_use} held")
        was_full = not self.free
        self.in_use -= count
        self._look(was_full)

    def pause(self, paused: bool) -> None:
        """Give no slot to a run, or give them again."""
        was_full = not self.free
        self.paused = paused
        self._look(was_full)

    def _look(self, was_full: bool) -> None:
        if was_full and self.free:
            for call in self._on_free:
                call()
