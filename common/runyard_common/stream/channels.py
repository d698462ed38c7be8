"""Names of the live stream's channels."""

from __future__ import annotations

from typing import Any, Final, Protocol

ALL: Final = "runyard:all"
ORG: Final = "runyard:org:"
TASK: Final = "runyard:task:"
WORKER: Final = "runyard:worker:"
#: Nobody subscribes to it: readiness checks publish here.
PROBE: Final = "runyard:probe"

#: A Redis that does not answer for this long is treated as away, in seconds.
TIMEOUT: Final = 2.0


class Published(Protocol):
    """A committed event, as the store's transactions note it."""

    @property
    def org_id(self) -> str:
        """The organisation whose followers hear of it."""

    def to_json(self) -> dict[str, Any]:
        """The event: task_id, seq, type, attempt, data, at."""
