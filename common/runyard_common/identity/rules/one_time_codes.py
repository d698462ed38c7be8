"""Codes of a second factor: six digits of an authenticator (TOTP, RFC 6238), and recovery codes. Pure."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

ISSUER: Final = "Runyard"
#: Steps of 30 seconds by which the clock of a phone may be off, to either side (RFC 6238, section 5.2).
_DRIFT: Final = 1
#: Recovery codes made at once.
RECOVERY_CODES: Final = 10
_GROUPS, _GROUP = 4, 4
_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # none that are easily mistaken for another
_DIGITS: Final = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """The secret of an authenticator: 160 random bits, in base32."""
    import pyotp

    return pyotp.random_base32(32)


def uri(secret: str, email: str) -> str:
    """The otpauth address that an authenticator reads, from a link or a QR code."""
    import pyotp

    return pyotp.TOTP(secret, name=email, issuer=ISSUER).provisioning_uri()


def step_of(secret: str, code: str, now: float, after: int) -> int | None:
    """The step of 30 seconds whose code this is; None for a wrong code, and for one not later than step `after`.

    `now` is in epoch seconds. A code that was used is refused by passing its step as `after`.
    """
    import pyotp

    totp = pyotp.TOTP(secret)
    present = int(now // totp.interval)
    given = compact(code)
    if not _DIGITS.fullmatch(given):
        return None
    for step in range(present - _DRIFT, present + _DRIFT + 1):
        if step > after and totp.verify(given, for_time=step * totp.interval):
            return step
    return None


def new_recovery_codes() -> list[str]:
    """Codes that each replace the authenticator once: 79 random bits, so that a plain hash keeps them."""
    return [
        "-".join("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
        for _ in range(RECOVERY_CODES)
    ]


def recovery_hash(user_id: str, code: str) -> str:
    """What is kept of a recovery code, however it is typed: SHA-256, in hex."""
    return hashlib.sha256(f"{user_id}:{compact(code)}".encode("utf-8", "surrogatepass")).hexdigest()


def compact(code: str) -> str:
    """A code without blanks and hyphens, in lower case."""
    return re.sub(r"[\s-]", "", code).lower()
