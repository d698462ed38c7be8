"""Caps: how many objects of each kind an organisation may have, so that none fills the installation. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from runyard_common.values.errors import Conflict


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound on one kind of object. `of` is what is counted together: organisation, agent, datastore, …"""

    kind: str
    default: int
    plural: str
    remedy: str
    of: str = "organisation"

    @property
    def setting(self) -> str:
        """The setting's name, without its prefix; the key of an organisation's own bound in its settings."""
        return f"max_{self.kind}"

    @property
    def code(self) -> str:
        """The code of the refusal."""
        return "storage_full" if self.kind == STORAGE else f"too_many_{self.kind}"


STORAGE: Final = "storage_bytes"
_DELETE: Final = "Delete some"
CAPS: Final[Mapping[str, Cap]] = {
    cap.kind: cap
    for cap in (
        Cap("keys", 1_000, "keys that are not revoked", "Revoke some"),
        Cap("members", 1_000, "members", "Remove some"),
        Cap("invitations", 1_000, "open invitations", "Withdraw some"),
        Cap("applications", 100, "applications", _DELETE),
        Cap("end_users", 100_000, "end-users", _DELETE),
        Cap("agents", 1_000, "agents", _DELETE),
        Cap("versions", 1_000, "versions of an agent", "Delete the agent, or publish another", of="agent"),
        Cap("tags", 100, "tags of an agent", _DELETE, of="agent"),
        Cap("sessions", 1_000_000, "sessions", _DELETE),
        Cap("datastores", 100, "datastores", _DELETE),
        Cap("documents", 10_000, "documents of a datastore", "Use another datastore", of="datastore"),
        Cap("limits", 200, "limits", _DELETE),
        Cap("links", 100, "links to a question", "Use one of them, or wait until some expire", of="question"),
        Cap("unread_messages", 100, "messages that a run has not read", "Wait until it reads them", of="task"),
        Cap("idempotent_answers", 100_000, "answers kept for their Idempotency-Key", "Wait: each is kept 24 hours"),
        Cap("sent_events", 100_000, "events kept for runs that wait for them", "Wait: each is kept 24 hours"),
        Cap("secrets", 500, "secrets", _DELETE),
        Cap("stored_files", 1_000_000, "files", "Delete runs that have some, or keep runs for fewer days"),
        Cap(STORAGE, 20 * 2**30, "bytes of files, manifests and kept answers",
            "Delete runs with files or agents, or keep runs for fewer days"),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of an installation; what is not given is as `CAPS` has it."""

    values: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(settings: Any) -> Caps:
        """Those that the settings give."""
        return Caps({kind: getattr(settings, cap.setting) for kind, cap in CAPS.items()})

    def most(self, kind: str, organisation: Mapping[str, Any] | None = None) -> int:
        """How many of a kind an organisation with these settings may have."""
        own = (organisation or {}).get(CAPS[kind].setting)
        if isinstance(own, int) and not isinstance(own, bool) and own >= 0:
            return own
        return self.values.get(kind, CAPS[kind].default)


def refusal(kind: str, most: int) -> Conflict:
    """What an organisation is answered that would have more."""
    cap = CAPS[kind]
    return Conflict(
        f"There are {most:,} {cap.plural} already, the most there may be. {cap.remedy}, or have the bound raised.",
        code=cap.code,
        limit=most,
        setting=cap.setting,
    )
