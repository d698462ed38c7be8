"""Sealing: secrets at rest are encrypted with the installation's key (Fernet: AES-128-CBC, HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from runyard_common.values.errors import ConfigurationError, RunyardError

#: How every Fernet token begins: version 128, and a time whose first bytes are 0.
_VERSION: Final = b"gAAAAA"


class SealBroken(RunyardError):
    """A stored secret cannot be opened: it was sealed with another RUNYARD_SECRET_KEY, or was damaged."""

    code = "seal_broken"


class Sealer:
    """Seals and opens JSON values. Safe to share between threads."""

    def __init__(self, key: str) -> None:
        """`key` is any secret of 16 characters or more; several, comma-separated, when it is being replaced:
        the first seals, all open.

        Raises `ConfigurationError` for one that is too short.
        """
        keys = [part.strip() for part in key.split(",") if part.strip()]
        if not keys or any(len(part) < 16 for part in keys):
            raise ConfigurationError(
                "RUNYARD_SECRET_KEY needs 16 characters or more in each of its keys; leave it empty to have one made "
                "in the home.",
                field="RUNYARD_SECRET_KEY",
            )
        self._first = Fernet(_derived(keys[0]))
        self._fernet = MultiFernet([Fernet(_derived(part)) for part in keys])

    def seal(self, value: Any) -> bytes:
        """`value`, as JSON, encrypted."""
        return self._fernet.encrypt(orjson.dumps(value))

    def open(self, sealed: bytes) -> Any:
        """The value that was sealed; `SealBroken` when this key did not seal it."""
        try:
            return orjson.loads(self._fernet.decrypt(bytes(sealed)))
        except InvalidToken:
            raise SealBroken from None

    def renew(self, sealed: bytes) -> bytes | None:
        """The same value sealed with the first key; None when it is already, or is no sealed value.

        `SealBroken` when no key opens it.
        """
        if not sealed.startswith(_VERSION):
            return None
        try:
            self._first.decrypt(sealed)
        except InvalidToken:
            pass
        else:
            return None
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise SealBroken from None


def new_key() -> str:
    """A fresh key of 32 random bytes."""
    return Fernet.generate_key().decode()


def _derived(key: str) -> bytes:
    """A Fernet key as it is; any other secret hashed to one (a random key needs no stretching)."""
    try:
        if len(base64.urlsafe_b64decode(key)) == 32:
            return key.encode()
    except ValueError:
        pass
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
