"""What is wrong with a broker or a Redis that cannot be used, by the error its client raised. Pure.

The clients are Celery's, kombu's, redis-py's and py-amqp's: their errors are known here by name and text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Outage(StrEnum):
    """What keeps a server from being used; the words that readiness checks answer with."""

    AWAY = "away"
    FULL = "full"
    READ_ONLY = "read_only"
    LOADING = "loading"
    CREDENTIALS = "credentials_refused"
    CERTIFICATE = "certificate_not_verified"
    BLOCKED = "blocked"
    NO_PRIMARY = "no_primary"


#: What an operator reads of each.
REASONS: Final = {
    Outage.AWAY: "it does not answer",
    Outage.FULL: "it is full: give it more memory, or an eviction policy that frees some",
    Outage.READ_ONLY: "it accepts no writes: it is a replica, or cannot save to its disk",
    Outage.LOADING: "it is loading its data and not ready yet",
    Outage.CREDENTIALS: "it refuses the user or password of its URL",
    Outage.CERTIFICATE: "its TLS certificate cannot be verified; name its authority with ssl_ca_certs in the URL",
    Outage.BLOCKED: "it blocks publishers: a memory or disk alarm is on",
    Outage.NO_PRIMARY: "none of its Sentinels names a primary that works: check their addresses and master_name",
}
_SIGNS: Final[tuple[tuple[Outage, tuple[str, ...]], ...]] = (
    (Outage.CERTIFICATE, ("certificate", "sslcertverification", "hostname mismatch")),
    (Outage.FULL, ("oom command", "outofmemory", "maxmemory")),
    (Outage.READ_ONLY, ("readonly", "read only replica", "misconf", "masterdown", "unblocked", "noreplicas")),
    (Outage.LOADING, ("busyloading", "loading")),
    (Outage.CREDENTIALS, ("authentication", "wrongpass", "noauth", "noperm", "username-password")),
    (Outage.CREDENTIALS, ("access_refused", "accessrefused", "invalid password")),
    (Outage.BLOCKED, ("connection blocked", "connectionblocked")),
    (Outage.NO_PRIMARY, ("masternotfound", "no master found")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, and the sentence for the log."""

    outage: Outage
    reason: str


def diagnose(error: BaseException) -> Diagnosis:
    """The kind of an error of a broker's or Redis' client; `AWAY` when nothing more is known.

    The reason names the remedy, never an address, a user or a password.
    """
    for one in _chain(error):
        text = f"{type(one).__name__} {one}".lower()
        for outage, signs in _SIGNS:
            if any(sign in text for sign in signs):
                return Diagnosis(outage, REASONS[outage])
    return Diagnosis(Outage.AWAY, f"{REASONS[Outage.AWAY]} ({type(error).__name__})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
