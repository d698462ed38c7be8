"""Sealing: secrets at rest are encrypted with the installation's key (Fernet: AES-128-CBC, HMAC-SHA256)."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import orjson

from runyard_common.values.errors import ConfigurationError, RunyardError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

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
        self._keys = keys

    @cached_property
    def _fernets(self) -> list[Fernet]:
        from cryptography.fernet import Fernet  # takes long to load, and many a process seals nothing

        return [Fernet(_derived(part)) for part in self._keys]

    def seal(self, value: Any) -> bytes:
        """`value`, as JSON, encrypted."""
        return self._fernets[0].encrypt(orjson.dumps(value))

    def open(self, sealed: bytes) -> Any:
        """The value that was sealed; `SealBroken` when this key did not seal it."""
        from cryptography.fernet import InvalidToken, MultiFernet

        try:
            return orjson.loads(MultiFernet(self._fernets).decrypt(bytes(sealed)))
        except InvalidToken:
            raise SealBroken from None

    def renew(self, sealed: bytes) -> bytes | None:
        """The same value sealed with the first key; None when it is already, or is no sealed value.

        `SealBroken` when no key opens it.
        """
        if not sealed.startswith(_VERSION):
            return None
        from cryptography.fernet import InvalidToken, MultiFernet

        try:
            self._fernets[0].decrypt(sealed)
        except InvalidToken:
            pass
        else:
            return None
        try:
            return MultiFernet(self._fernets).rotate(sealed)
        except InvalidToken:
            raise SealBroken from None


def new_key() -> str:
    """A fresh key of 32 random bytes."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def _derived(key: str) -> bytes:
    """A Fernet key as it is; any other secret hashed to one (a random key needs no stretching)."""
    try:
        if len(base64.urlsafe_b64decode(key)) == 32:
            return key.encode()
    except ValueError:
        pass
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())
