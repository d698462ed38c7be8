"""What one api process takes at once: connections in all, and calls that last and unread answers of one organisation.

Every connection is a file descriptor, and a process has a fixed number of them. Without bounds, idle
connections, or the streams of one key, leave none for other callers. What a caller does not read stays in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from runyard_common.values.errors import TooManyRequests, Unavailable

#: Descriptors that are kept for the database, the broker, files and outbound calls.
RESERVED: Final = 96
_RETRY_S: Final = 5.0
#: Of an answer, so many bytes are handed to the connection at once. Smaller answers do not count as unread.
PIECE: Final = 65_536


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
    def count(self, org_id: str) -> Generator[None]:
        """Count one for as long as the block lasts."""
        self._under_way[org_id] += 1
        try:
            yield
        finally:
            self._under_way[org_id] -= 1
            if not self._under_way[org_id]:
                del self._under_way[org_id]


class UnreadBytes:
    """Bytes of answers that are being sent, by organisation; on the loop's thread."""

    def __init__(self, most: int, most_of_all: int) -> None:
        """`most` bytes of one organisation, `most_of_all` of all together."""
        self.most = most
        self.most_of_all = most_of_all
        self._unread: Counter[str] = Counter()
        self._all = 0

    def of(self, org_id: str) -> int:
        """The bytes held for an organisation."""
        return self._unread[org_id]

    def check(self, org_id: str, size: int = 1) -> None:
        """Whether `size` bytes more may be held; what is alone may have any size.

        Errors: `TooManyRequests` too_many_unread_bytes, `Unavailable` no_room_for_answers.
        """
        if self._unread[org_id] and self._unread[org_id] + size > self.most:
            raise TooManyRequests(
                f"{self._unread[org_id]:,} bytes of the organisation's answers wait to be read at this server, of "
                f"{self.most:,} (RUNYARD_MAX_UNREAD_BYTES); read the answers that are under way, or ask for fewer at "
                "once.",
                code="too_many_unread_bytes",
                retry_after=_RETRY_S,
                limit_bytes=self.most,
            )
        if self._all and self._all + size > self.most_of_all:
            raise Unavailable(
                "This server holds as many unread answers as it may (RUNYARD_MAX_ALL_UNREAD_BYTES); try again "
                "shortly.",
                code="no_room_for_answers",
                retry_after=_RETRY_S,
                limit_bytes=self.most_of_all,
            )

    def fits(self, org_id: str, size: int) -> bool:
        """Whether `check` lets so many bytes more pass."""
        try:
            self.check(org_id, size)
        except (TooManyRequests, Unavailable):
            return False
        return True

    @contextmanager
    def count(self, org_id: str, size: int) -> Generator[None]:
        """Count so many bytes for as long as the block lasts; those of small answers not."""
        if size <= PIECE:
            yield
            return
        self._unread[org_id] += size
        self._all += size
        try:
            yield
        finally:
            self._all -= size
            self._unread[org_id] -= size
            if not self._unread[org_id]:
                del self._unread[org_id]
