"""Signing webhooks by the Standard Webhooks specification, with its own library.

A secret is ``whsec_`` and standard base64 of the HMAC key's bytes: the published verifiers decode that
alphabet and no other. Headers: ``webhook-id`` (the event's id, the same on every attempt),
``webhook-timestamp`` (seconds, fresh on every attempt), ``webhook-signature`` (``v1,`` and base64, several
separated by a space while a secret is being replaced), and ``webhook-attempt`` (from 1).
"""

from __future__ import annotations

import base64
import binascii
import secrets as randomness
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from runyard_common.values.errors import InvalidRequest

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 32
#: The specification's bounds for a key, in bytes.
SHORTEST_KEY, LONGEST_KEY = 24, 64
#: How long a replaced secret goes on signing, in seconds.
ROTATION_OVERLAP: Final = 24 * 3600.0


class SecretInvalid(InvalidRequest):
    """A signing secret is whsec_ followed by standard base64 of 24 to 64 bytes."""

    code = "secret_invalid"


class SignatureInvalid(InvalidRequest):
    """No signature of the webhook fits its body, id and time, or the time is more than five minutes away."""

    code = "signature_invalid"


def new_secret() -> str:
    """A fresh secret of 32 random bytes."""
    return PREFIX + base64.b64encode(randomness.token_bytes(KEY_BYTES)).decode()


def check_secret(secret: str) -> None:
    """Refuse a secret that a common verifier would read differently; `SecretInvalid`, never quoting it."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretInvalid(field="secret") from None
    if not (secret.startswith(PREFIX) and SHORTEST_KEY <= len(key) <= LONGEST_KEY):
        raise SecretInvalid(field="secret")


def sign(secrets: Sequence[str], message_id: str, body: bytes, *, now: float, attempt: int) -> dict[str, str]:
    """The headers of one attempt to deliver `body` (UTF-8), signed with each of `secrets`.

    `now` is in epoch seconds, `attempt` counts from 1; `SecretInvalid` for a malformed secret.
    """
    from standardwebhooks import Webhook

    if not secrets:
        raise SecretInvalid("A webhook is signed with at least one secret.")
    for secret in secrets:
        check_secret(secret)
    at = datetime.fromtimestamp(int(now), UTC)  # the library takes any other zone's clock reading for UTC
    text = body.decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, at, text) for secret in secrets),
        "webhook-attempt": str(attempt),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Check a received webhook against the clock and `secret`; `SignatureInvalid` when it does not hold."""
    from standardwebhooks import Webhook, WebhookVerificationError

    check_secret(secret)
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # the library lets malformed base64 through as ValueError
        raise SignatureInvalid from None
