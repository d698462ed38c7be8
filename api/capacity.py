"""What one api process takes at once: connections in all, and calls that last for one organisation.

Every connection is a file descriptor, and a process has a fixed number of them. Without bounds, connections that say
nothing, or the streams of one key, leave none for other callers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from common.domain.errors import TooManyRequests

#: Descriptors that are kept for the database, the broker, files and outbound calls.
RESERVED: Final = 96
_RETRY_S: Final = 5.0


def connections(descriptors: int) -> int:
    """How many connections a process with so many descriptors takes."""
    return max(16, descriptors - max(RESERVED, descriptors // 10))


class OpenCalls:
    """Streams and waits under way, by organisation; on the loop's thread."""

    def __init__(self, most: int) -> None:
        """`most` of one organisation."""
        self.most = most
        self._under_way: Counter[str] = Counter()

    def check(self, org_id: str) -> None:
        """Raise `TooManyRequests` too_many_streams where an organisation has as many as it may."""
        if self._under_way[org_id] >= self.most:
            raise TooManyRequests(
                f"The organisation has {self.most} streams and waits open at this server, its bound "
                "(RUNYARD_MAX_STREAMS); close some, or poll without wait.",
                code="too_many_streams",
                retry_after=_RETRY_S,
            )

    @contextmanager
    def hold(self, org_id: str) -> Generator[None]:
        """Count one for as long as the block lasts."""
        self._under_way[org_id] += 1
        try:
            yield
        finally:
            self._under_way[org_id] -= 1
            if not self._under_way[org_id]:
                del self._under_way[org_id]
