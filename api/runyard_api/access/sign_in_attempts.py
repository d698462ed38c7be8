"""Attempts to sign in: failures are counted by network, person and device, and followed by growing pauses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from runyard_api.access.failure_counts import FailureCounts, LocalCounts, RedisCounts
from runyard_common.identity.rules import sign_in_pauses
from runyard_common.identity.rules.sign_in_pauses import PauseRule
from runyard_common.values.errors import TooManyRequests
from runyard_common.values.networks import network_of

#: Failures of unknown addresses that one process audits in an hour.
UNKNOWN_NOTED: Final = 100
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt is counted by: subjects with their rules, in the order in which they are asked.

    `person` are those that a success clears.
    """

    subjects: tuple[tuple[str, PauseRule], ...]
    person: tuple[str, ...]

    @property
    def whose(self) -> str:
        """The person, the device or the sign-in that the attempt is for."""
        return self.subjects[-1][0]

    @staticmethod
    def of(email: str, host: str, device: str | None = None) -> Attempt:
        """An attempt for this address of a person, from this address of the network.

        `device` is the id of a browser that the person is known to have signed in with: it is counted by itself,
        so that strangers cannot keep the person out.
        """
        if device is not None:
            subject = f"device:{device}"
            return Attempt(((subject, sign_in_pauses.DEVICE),), (subject,))
        network, address = network_of(host), _digest(email)
        pair = f"pair:{address}:{network}"
        return Attempt(
            (
                (f"network:{network}", sign_in_pauses.NETWORK),
                (pair, sign_in_pauses.EMAIL_AND_NETWORK),
                (f"email:{address}", sign_in_pauses.EMAIL),
            ),
            (pair,),
        )

    @staticmethod
    def by_network(host: str) -> Attempt:
        """An attempt that names no person, such as an unknown invitation."""
        return Attempt(((f"network:{network_of(host)}", sign_in_pauses.NETWORK),), ())

    @staticmethod
    def of_sign_in(token_hash: str) -> Attempt:
        """An attempt of a person who is signed in already: counted for this sign-in alone."""
        subject = f"sign-in:{token_hash}"
        return Attempt(((subject, sign_in_pauses.DEVICE),), (subject,))


def _digest(email: str) -> str:
    """The digest of an address in keys of Redis, which others may read."""
    return hashlib.sha256(email.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class SignInAttempts:
    """Judges attempts. Belongs to one event loop; `redis_url` may be empty."""

    def __init__(self, redis_url: str) -> None:
        self._own = LocalCounts()
        self.counts: list[FailureCounts] = [self._own]
        if redis_url:
            self.counts.append(RedisCounts(redis_url))

    async def check(self, attempt: Attempt) -> None:
        """`TooManyRequests` too_many_sign_ins while a subject of the attempt is paused. Counts nothing."""
        if (pause := await self.pause_s(attempt)) > 0:
            raise TooManyRequests(
                "Too many sign-ins failed: try again after the seconds in Retry-After. A browser that you have signed "
                "in with before does not wait for the failures of others.",
                code="too_many_sign_ins",
                retry_after=pause,
            )

    async def is_paused(self, attempt: Attempt) -> bool:
        """Whether `check` would refuse the attempt."""
        return await self.pause_s(attempt) > 0

    async def pause_s(self, attempt: Attempt) -> float:
        """How long the attempt is refused, in seconds; 0 when it is not."""
        return max([await counts.paused_s(name) for name, _ in attempt.subjects for counts in self.counts])

    async def failed(self, attempt: Attempt) -> None:
        """Count a failure, and begin the pause that it brings."""
        for subject, rule in attempt.subjects:
            for counts in self.counts:
                pause = rule.pause_s(await counts.add(subject, rule.window_s))
                if pause > 0:
                    await counts.pause(subject, pause)

    async def notes_unknown(self) -> bool:
        """Whether one more failure of an unknown address is audited: so many an hour, for any caller can make them."""
        return await self._own.add("unknown", _HOUR) <= UNKNOWN_NOTED

    async def succeeded(self, attempt: Attempt) -> None:
        """Forget the failures of the person from here."""
        for subject in attempt.person:
            for counts in self.counts:
                await counts.clear(subject)

    async def close(self) -> None:
        for counts in self.counts:
            await counts.close()
