"""Known devices: a browser that a person has signed in with keeps a sealed cookie, which passes their pauses.

Failures of strangers pause a person's sign-ins from elsewhere; a known device is counted by itself (OWASP, "Slow
Down Online Guessing Attacks with Device Cookies"). The cookie proves no identity: a password is asked for as ever.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

from runyard_common.credentials.rules.sealing import SealBroken, Sealer
from runyard_common.identity.queries.members import PersonRow

NAME: Final = "runyard_device"
SECURE_NAME: Final = "__Host-runyard_device"
#: How long a device is known after its last sign-in, in seconds.
LIFETIME: Final = 180 * 86_400
_LONGEST: Final = 1024


def token_of(headers: Headers) -> str | None:
    """The device's token in the request's cookies."""
    given = cookie_parser(headers["cookie"]) if "cookie" in headers else {}
    found = next((given[name] for name in (SECURE_NAME, NAME) if given.get(name)), None)
    return found if found is not None and len(found) <= _LONGEST else None


def known(token: str | None, sealer: Sealer, person: PersonRow | None, now: float) -> str | None:
    """The id of the device, when this person signed in with it.

    A changed password makes every device unknown: who knew the old one may have signed in. `now` is in epoch
    seconds.
    """
    if token is None or person is None or person.password_hash is None:
        return None
    try:
        found = sealer.open(token.encode("utf-8", "surrogatepass"))
    except SealBroken:
        return None
    if found != found | {"person": person.id, "password": _digest(person.password_hash)}:
        return None
    return str(found["device"]) if found["until"] > now else None


def give(
    response: Response, sealer: Sealer, person: PersonRow, device: str | None, now: float, secure: bool
) -> None:
    """Let the browser keep who signed in with it; `device` is its id when it was known before."""
    token = sealer.seal(
        {
            "person": person.id,
            "password": _digest(person.password_hash),
            "device": device or secrets.token_urlsafe(12),
            "until": now + LIFETIME,
        }
    )
    response.set_cookie(
        SECURE_NAME if secure else NAME, token.decode(), max_age=LIFETIME, path="/",
        secure=secure, httponly=True, samesite="strict",
    )  # fmt: skip


def _digest(password_hash: str | None) -> str:
    return hashlib.sha256((password_hash or "").encode()).hexdigest()[:16]
